// Commands that wait for their reply: kept across connections, repeated where that is safe, bounded in number and time.

import { TidegateError } from './errors.js'
import type { Action, Command } from './machine-io.js'
import { messageId } from './message-id.js'
import type { ReplyFrame } from './protocol.js'

interface Pending {
  readonly id: number
  readonly ref: number
  readonly command: Command
  readonly text: string
  readonly deadline: number
  readonly startedAt: number
  /** The attempt it was sent on, 0 if it is still to be sent. */
  sentOn: number
  /** The refusal that it is being repeated after. */
  refusal?: TidegateError
}

export class Outgoing {
  readonly #pending = new Map<number, Pending>()
  #deadline = Infinity

  constructor(
    /** Most commands that wait at once; more are refused, because an application that is offline must not grow without end. */
    readonly capacity: number,
    private readonly emit: (action: Action) => void,
    private readonly random: () => number,
  ) {}

  get deadline(): number {
    return this.#deadline
  }

  /** Takes a command in, or refuses it at once. */
  add(now: number, id: number, ref: number, command: Command, timeoutMs: number, messageBytes: number): void {
    const frame =
      command.type === 'publish' ? { ...command, message_id: command.message_id ?? messageId(now, this.random) } : command
    const text = JSON.stringify(frame.type === 'ping' ? { type: 'ping', n: id } : { ...frame, id })
    const pending: Pending = { id, ref, command: frame, text, deadline: now + timeoutMs, startedAt: now, sentOn: 0 }
    if (this.#pending.size >= this.capacity) return this.#fail(pending, 'queue_full')
    if (new TextEncoder().encode(text).length > messageBytes) return this.#fail(pending, 'too_large', `over ${messageBytes} bytes`)
    this.#pending.set(id, pending)
    this.#deadline = Math.min(this.#deadline, pending.deadline)
  }

  /** How many sent on this attempt wait for their reply. Pings cost nothing there. */
  inFlight(attempt: number): number {
    let count = 0
    for (const { sentOn, command } of this.#pending.values()) if (sentOn === attempt && command.type !== 'ping') count++
    return count
  }

  /** Sends what is to be sent, oldest first, while there is room. True if nothing is left. */
  flush(attempt: number, room: number): boolean {
    for (const pending of this.#pending.values()) {
      if (pending.sentOn) continue
      if (pending.command.type !== 'ping' && room-- <= 0) return false
      pending.sentOn = attempt
      this.emit({ type: 'send', attempt, text: pending.text })
    }
    return true
  }

  /**
   * A reply to a command. Milliseconds to hold everything back if the server asks to slow down, else 0. A refusal that names
   * a time is repeated until the command's own timeout: a publish always (its id makes that safe), a request only where the
   * server has not begun it.
   */
  reply(now: number, frame: ReplyFrame): number {
    const pending = this.#pending.get(frame.id as number)
    if (!pending) return 0
    if (frame.type !== 'error') {
      const result =
        frame.type === 'published'
          ? { epoch: frame.epoch ?? null, offset: frame.offset ?? null, duplicate: frame.duplicate }
          : frame.type === 'response' ? frame.data : now - pending.startedAt
      this.#settle(pending, { result })
      return 0
    }
    const retry = frame.retry_after_ms ?? null
    const error = new TidegateError(frame.code, frame.message, retry, idOf(pending))
    const repeatable = pending.command.type === 'publish' || frame.code === 'rate_limited'
    if (retry === null || !repeatable || now + retry >= pending.deadline) {
      this.#settle(pending, { error })
      return 0
    }
    pending.sentOn = 0
    pending.refusal = error
    return Math.max(1, retry)
  }

  /** The attempt is over: publishes are to be sent again, the rest can't be known to have happened or not. */
  lost(attempt: number): void {
    for (const pending of [...this.#pending.values()]) {
      if (pending.sentOn !== attempt) continue
      if (pending.command.type === 'publish') pending.sentOn = 0
      else this.#fail(pending, 'connection_lost')
    }
  }

  /** Fails what is out of time. */
  expire(now: number): void {
    if (now < this.#deadline) return
    this.#deadline = Infinity
    for (const pending of [...this.#pending.values()]) {
      if (now < pending.deadline) this.#deadline = Math.min(this.#deadline, pending.deadline)
      else if (pending.refusal) this.#settle(pending, { error: pending.refusal })
      else this.#fail(pending, 'timeout')
    }
  }

  /** Fails everything. */
  stop(reason: string): void {
    for (const pending of [...this.#pending.values()]) this.#fail(pending, 'stopped', reason)
  }

  #fail(pending: Pending, code: string, message?: string): void {
    this.#settle(pending, { error: new TidegateError(code, message, null, idOf(pending)) })
  }

  #settle(pending: Pending, outcome: { result: unknown } | { error: TidegateError }): void {
    this.#pending.delete(pending.id)
    this.emit({ type: 'settle', ref: pending.ref, ...outcome })
  }
}

function idOf({ command }: Pending): string | undefined {
  return command.type === 'publish' ? command.message_id : undefined
}
