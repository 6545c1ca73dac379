// A test bench for the machine: virtual time, a seeded random source, and what came out by type.

import { Machine, type MachineOptions } from '../src/machine.js'
import type { Action, Input } from '../src/machine-io.js'

/** mulberry32: numbers in [0, 1), the same for the same seed. */
export function seeded(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

export const WELCOME = {
  type: 'welcome',
  protocol: 1,
  connection: 'c1',
  node: 'n1',
  user: null,
  session: null,
  expires_in_ms: 3_600_000,
  heartbeat: { ping_ms: 25_000, app_ping_ms: 60_000, dead_ms: 62_500 },
  limits: { message_bytes: 65_536, subscriptions: 128, in_flight: 32 },
  reconnect: { window_ms: 8_000, base_ms: 1_000, cap_ms: 60_000 },
}

type Of<Type extends Action['type']> = Extract<Action, { type: Type }>

export class Bench {
  now = 1_000_000
  readonly machine: Machine
  /** Everything that came out since it was last taken. */
  #out: Action[] = []
  #ref = 0

  constructor(options: Partial<MachineOptions> = {}) {
    this.machine = new Machine({ authenticates: false, queue: 256, random: seeded(1), ...options })
  }

  put(input: Input): this {
    this.machine.handle(this.now, input)
    this.#out.push(...this.machine.actions.splice(0))
    return this
  }

  /** Lets virtual time pass, with a tick at each moment that the machine asked for. */
  pass(ms: number): this {
    const end = this.now + ms
    for (let turns = 0; this.machine.deadline() <= end; turns++) {
      if (turns > 10_000) throw new Error('the machine asks for ticks without end')
      this.now = Math.max(this.now, this.machine.deadline())
      this.put({ type: 'tick' })
    }
    this.now = end
    return this
  }

  /** Lets time pass up to the next moment that the machine waits for: while it waits, that is the next try. */
  nextTry(): this {
    return this.pass(this.machine.deadline() - this.now)
  }

  /** Takes out the actions of one type. */
  take<Type extends Action['type']>(type: Type): Of<Type>[] {
    const taken = this.#out.filter((action): action is Of<Type> => action.type === type)
    this.#out = this.#out.filter((action) => action.type !== type)
    return taken
  }

  /** Frames sent, as objects. */
  sent(attempt?: number): Record<string, unknown>[] {
    const sends = this.take('send').filter((send) => attempt === undefined || send.attempt === attempt)
    return sends.map(({ text }) => JSON.parse(text) as Record<string, unknown>)
  }

  frame(attempt: number, ...frames: object[]): this {
    for (const frame of frames) this.put({ type: 'received', attempt, text: JSON.stringify(frame) })
    return this
  }

  /** Opens and welcomes the newest try. Its attempt number. */
  connect(welcome: object = WELCOME): number {
    const attempt = this.take('open').at(-1)!.attempt
    this.put({ type: 'opened', attempt }).frame(attempt, welcome)
    return attempt
  }

  /** A bench that is ready, on attempt 1. */
  static ready(options: Partial<MachineOptions> = {}, welcome: object = WELCOME): Bench {
    const bench = new Bench(options).put({ type: 'resume' })
    bench.connect(welcome)
    return bench
  }

  subscribe(kind: 'event' | 'log' | 'state', channel: string, since?: object | 'earliest'): number {
    const ref = ++this.#ref
    this.put({ type: 'subscribe', ref, channel, kind, ...(since !== undefined && { since: since as never }) })
    return ref
  }

  publish(channel: string, data: unknown, timeoutMs = 30_000): number {
    const ref = ++this.#ref
    this.put({ type: 'command', ref, command: { type: 'publish', channel, data }, timeoutMs })
    return ref
  }

  request(method: string, timeoutMs = 30_000): number {
    const ref = ++this.#ref
    this.put({ type: 'command', ref, command: { type: 'request', method, data: null }, timeoutMs })
    return ref
  }

  /** Channel events of one kind, as they were told. */
  told(type: string): any[] {
    return this.take('channel').filter(({ told }) => told[0] === type).map(({ told }) => told[1] as any)
  }

  statuses(): string[] {
    return this.take('status').map(({ change }) => change.status)
  }
}
