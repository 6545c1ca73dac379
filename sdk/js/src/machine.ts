// The connection as a state machine: no socket, no timer, no clock, no random source of its own. Time comes in as `now`,
// inputs go in by `handle`, and what is to be done comes out as `actions`.

import { decode, FrameError } from './decode.js'
import { TidegateError } from './errors.js'
import type { Link } from './link.js'
import { Links } from './links.js'
import type { Action, Input, Status, StatusChange } from './machine-io.js'
import { Outgoing } from './outgoing.js'
import type { ErrorFrame, Position, ServerFrame } from './protocol.js'
import { Subscriptions } from './subscriptions.js'

export interface MachineOptions {
  /** Whether `authenticate` actions are answered; without, every connection is anonymous. */
  readonly authenticates: boolean
  /** Most publishes and requests that wait at once. */
  readonly queue: number
  /** Numbers in [0, 1). */
  readonly random: () => number
}

export class Machine {
  /** What is to be done, oldest first. The driver takes from the front. */
  readonly actions: Action[] = []
  readonly #links: Links
  readonly #outgoing: Outgoing
  readonly #subscriptions: Subscriptions
  #lastId = 0
  #told: StatusChange = { status: 'suspended' }
  /** Nothing is sent before this moment: the server asked to slow down. One command at a time while `#careful`. */
  #holdUntil = 0
  #careful = false
  /** Whether something may have to be sent. */
  #dirty = false

  constructor({ authenticates, queue, random }: MachineOptions) {
    const emit = (action: Action): void => void this.actions.push(action)
    this.#outgoing = new Outgoing(queue, emit, random)
    this.#subscriptions = new Subscriptions(emit)
    this.#links = new Links(authenticates, random, {
      emit,
      send: (link, frame) => this.#send(link, frame),
      nextId: () => this.#nextId(),
      gone: (link, primary) => this.#gone(link, primary),
      dropCursors: () => this.#subscriptions.dropCursors(),
    })
  }

  get status(): Status {
    return this.#links.status
  }

  cursor(channel: string): Position | null {
    return this.#subscriptions.cursor(channel)
  }

  /** When `tick` is wanted next; Infinity if never. */
  deadline(): number {
    const { now, primary, deadline } = this.#links
    if (this.status === 'stopped') return Infinity
    const held = this.#holdUntil > now ? this.#holdUntil : Infinity
    return Math.min(deadline, this.#outgoing.deadline, held, primary ? this.#subscriptions.deadline(now) : Infinity)
  }

  handle(now: number, input: Input): void {
    this.#links.now = now
    if (this.status !== 'stopped' || input.type === 'command' || input.type === 'subscribe') this.#input(now, input)
    if (this.status === 'stopped') this.#endAll()
    this.#flush(now)
    this.#tellStatus()
  }

  #input(now: number, input: Input): void {
    const links = this.#links
    switch (input.type) {
      case 'resume':
        return links.resume()
      case 'suspend':
        return links.suspend()
      case 'stop':
        return links.stop(1000, 'closed')
      case 'wake':
        return links.wake()
      case 'tick':
        this.#dirty = true
        this.#outgoing.expire(now)
        return links.tick()
      case 'subscribe':
        this.#dirty = true
        return this.#subscriptions.add(input.ref, input.channel, input.kind, input.since)
      case 'unsubscribe':
        this.#subscriptions.remove(input.channel)
        return links.all().forEach((link) => this.#unserve(link, input.channel))
      case 'command':
        this.#dirty = true
        return this.#outgoing.add(now, this.#nextId(), input.ref, input.command, input.timeoutMs, links.agreed.limits.message_bytes)
    }
    const link = links.all().find(({ attempt }) => attempt === input.attempt)
    if (!link) return
    if (input.type === 'credential') links.credential(link, input.credential)
    else if (input.type === 'no-credential') links.noCredential(link, input.reason, input.retryMs)
    else if (input.type === 'opened') links.opened(link)
    else if (input.type === 'received') this.#received(now, link, input.text)
    else links.lost(link, input.code, input.reason)
  }

  // What the server says.

  #received(now: number, link: Link, text: string): void {
    link.heardAt = now
    link.probedAt = null
    let frames: ServerFrame[]
    try {
      frames = decode(text)
    } catch (error) {
      if (!(error instanceof FrameError)) throw error
      return this.#links.fail(link, `bad frame from the server: ${error.message}`, 4400, 'bad_frame')
    }
    for (const frame of frames) if (this.#links.all().includes(link)) this.#frame(now, link, frame)
  }

  #frame(now: number, link: Link, frame: ServerFrame): void {
    const links = this.#links
    switch (frame.type) {
      case 'challenge':
        if (link.credential && 'token' in link.credential) return this.#send(link, { type: 'auth', id: this.#nextId(), ...link.credential })
        return links.stop(4401, 'the server wants a token, and there is none')
      case 'welcome':
        this.#dirty = true
        return links.welcomed(link, frame)
      case 'ping':
        return this.#send(link, { type: 'pong', n: frame.n })
      case 'pong':
        return void this.#outgoing.reply(now, { type: 'ok', id: Number(frame.n) })
      case 'reauth':
        return links.reauthenticate(link, frame.reason)
      case 'going_away':
        return links.goingAway(link, frame)
      case 'ok':
      case 'published':
      case 'response':
      case 'error':
        this.#dirty = true
        if (frame.type === 'error' && this.#refusedSubscription(now, link, frame)) return
        return this.#slowDown(now, this.#outgoing.reply(now, frame))
      default:
        this.#subscriptions.receive(now, link, links.primary, frame)
        if (frame.type !== 'message') this.#dirty = true
        if (!this.#subscriptions.has(frame.channel)) this.#unserve(link, frame.channel)
    }
  }

  #refusedSubscription(now: number, link: Link, frame: ErrorFrame): boolean {
    for (const [channel, served] of link.served) {
      if (served.id !== frame.id) continue
      link.served.delete(channel)
      const retry = frame.retry_after_ms ?? null
      this.#subscriptions.refused(now, channel, new TidegateError(frame.code, frame.message, retry))
      if (frame.code === 'rate_limited') this.#slowDown(now, retry)
      return true
    }
    return false
  }

  #slowDown(now: number, holdMs: number | null): void {
    if (!holdMs) return
    this.#careful = true
    this.#holdUntil = Math.max(this.#holdUntil, now + holdMs)
  }

  /** What a lost link owed: publishes are to be sent again, subscriptions resumed. */
  #gone(link: Link, primary: boolean): void {
    this.#dirty = true
    this.#outgoing.lost(link.attempt)
    if (primary) this.#subscriptions.lost()
    this.#subscriptions.forgetIds()
  }

  // What we say.

  #flush(now: number): void {
    const link = this.#links.primary
    if (!this.#dirty || !link || now < this.#holdUntil) return
    this.#dirty = false
    const window = this.#careful ? 1 : Math.max(1, this.#links.agreed.limits.in_flight)
    const room = (): number => window - this.#outgoing.inFlight(link.attempt) - asked(link)
    const subscribed = this.#subscriptions.flush(now, link, room(), () => this.#nextId())
    const sent = this.#outgoing.flush(link.attempt, room())
    if (subscribed && sent && room() === window) this.#careful = false
    this.#leave(link)
  }

  /** Closes the old link once the new one has everything, and the old one owes no reply. */
  #leave(primary: Link): void {
    const old = this.#links.leaving
    if (old && this.#subscriptions.settledOn(primary) && this.#outgoing.inFlight(old.attempt) === 0) this.#links.close(old, 'moved')
  }

  #unserve(link: Link, channel: string): void {
    if (link.served.delete(channel)) this.#send(link, { type: 'unsubscribe', id: this.#nextId(), channel })
  }

  #send(link: Link, frame: object): void {
    this.actions.push({ type: 'send', attempt: link.attempt, text: JSON.stringify(frame) })
  }

  #nextId(): number {
    return ++this.#lastId
  }

  /** Fails and ends everything, also what comes too late. */
  #endAll(): void {
    const { code, reason } = this.#links.change
    const error = new TidegateError('stopped', `${code} ${reason}`)
    this.#outgoing.stop(error.message)
    this.#subscriptions.stop(code === 1000 ? undefined : error)
  }

  #tellStatus(): void {
    const { change } = this.#links
    if (change.status === this.#told.status && (change.status !== 'waiting' || change.code === this.#told.code)) return
    this.#told = change
    this.actions.push({ type: 'status', change })
  }
}

/** Subscribes that wait for their reply. */
function asked(link: Link): number {
  let count = 0
  for (const { state } of link.served.values()) if (state === 'asked') count++
  return count
}
