// The connection as a state machine: no socket, no timer, no clock, no random source of its own. Time comes in as `now`,
// inputs go in by `handle`, and what is to be done comes out as `actions`.

import { DEFAULT_RECONNECT, retryDelayMs } from './backoff.js'
import { closeClass, closeName, saidByServer } from './codes.js'
import { decode, FrameError } from './decode.js'
import { TidegateError } from './errors.js'
import { livenessDeadline, newLink, STEP_MS, type Link } from './link.js'
import type { Action, Credential, Input, Status, StatusChange } from './machine-io.js'
import { Outgoing } from './outgoing.js'
import type { ErrorFrame, GoingAwayFrame, Position, ServerFrame, Welcome } from './protocol.js'
import { Subscriptions } from './subscriptions.js'

/** A connection that lasted this long was good: the next loss starts from the first delay again. */
const STABLE_MS = 10_000

/** Closes in a row that ask for a new credential, before it is given up. */
const CREDENTIAL_TRIES = 3

export interface MachineOptions {
  /** Whether `authenticate` actions are answered; without, every connection is anonymous. */
  readonly authenticates: boolean
  /** Most publishes and requests that wait at once. */
  readonly queue: number
  /** Numbers in [0, 1). */
  readonly random: () => number
}

/** Until a `welcome` says otherwise: the server's own defaults. */
const DEFAULTS: Pick<Welcome, 'heartbeat' | 'limits' | 'reconnect'> = {
  heartbeat: { dead_ms: 62_500 },
  limits: { message_bytes: 65_536, subscriptions: 128, in_flight: 32 },
  reconnect: DEFAULT_RECONNECT,
}

export class Machine {
  /** What is to be done, oldest first. The driver takes from the front. */
  readonly actions: Action[] = []
  #now = 0
  #mode: 'on' | 'suspended' | 'stopped' = 'suspended'
  #attempt = 0
  #lastId = 0
  /** Tries since a connection was last stable. */
  #tries = 0
  #credentialTries = 0
  /** The newest welcomed link, the one on its way, and the one that is being left. */
  #primary: Link | null = null
  #candidate: Link | null = null
  #leaving: Link | null = null
  /** When the next try is due. */
  #openAt = Infinity
  /** Set by `going_away`, until the next welcome. */
  #move: { readonly handover: string | null; tried: boolean } | null = null
  /** Why the last connection ended, for the status and for the credential's source. */
  #loss: { code?: number; reason?: string } = {}
  /** Whether the network, not the server, is to blame: then its return is a reason to try at once. */
  #wakeable = true
  #told: StatusChange = { status: 'suspended' }
  #agreed = DEFAULTS
  /** Nothing is sent before this moment: the server asked to slow down. One command at a time while `#careful`. */
  #holdUntil = 0
  #careful = false
  #dirty = false
  readonly #outgoing: Outgoing
  readonly #subscriptions: Subscriptions

  constructor(private readonly options: MachineOptions) {
    const emit = (action: Action): void => void this.actions.push(action)
    this.#outgoing = new Outgoing(options.queue, emit, options.random)
    this.#subscriptions = new Subscriptions(emit)
  }

  get status(): Status {
    if (this.#mode !== 'on') return this.#mode
    if (this.#primary) return this.#move || this.#leaving ? 'moving' : 'ready'
    if (!this.#candidate) return 'waiting'
    return this.#candidate.phase === 'opened' ? 'authenticating' : 'connecting'
  }

  cursor(channel: string): Position | null {
    return this.#subscriptions.cursor(channel)
  }

  /** When `tick` is wanted next; Infinity if never. */
  deadline(): number {
    if (this.#mode === 'stopped') return Infinity
    const { dead_ms } = this.#agreed.heartbeat
    return Math.min(
      this.#openAt,
      this.#outgoing.deadline,
      this.#holdUntil > this.#now ? this.#holdUntil : Infinity,
      this.#primary ? this.#subscriptions.deadline(this.#now) : Infinity,
      ...this.#links().map((link) => livenessDeadline(link, dead_ms)),
    )
  }

  handle(now: number, input: Input): void {
    this.#now = now
    if (this.#mode !== 'stopped' || input.type === 'command' || input.type === 'subscribe') this.#input(input)
    if (this.#mode === 'stopped') this.#endAll()
    this.#flush()
    this.#tellStatus()
  }

  #input(input: Input): void {
    switch (input.type) {
      case 'resume':
        if (this.#mode === 'on') return
        this.#mode = 'on'
        return this.#connect()
      case 'suspend':
        this.#closeAll('suspended')
        this.#mode = 'suspended'
        return
      case 'stop':
        return this.#stop(1000, 'closed')
      case 'wake':
        return this.#wake()
      case 'tick':
        return this.#tick()
      case 'subscribe':
        this.#dirty = true
        return this.#subscriptions.add(input.ref, input.channel, input.kind, input.since)
      case 'unsubscribe':
        this.#subscriptions.remove(input.channel)
        return this.#links().forEach((link) => this.#unserve(link, input.channel))
      case 'command': {
        this.#dirty = true
        const { message_bytes } = this.#agreed.limits
        return this.#outgoing.add(this.#now, this.#nextId(), input.ref, input.command, input.timeoutMs, message_bytes)
      }
      default: {
        const link = this.#links().find(({ attempt }) => attempt === input.attempt)
        if (!link) return
        if (input.type === 'credential') this.#credential(link, input.credential)
        else if (input.type === 'no-credential') this.#noCredential(link, input.reason, input.retryMs)
        else if (input.type === 'opened') this.#opened(link)
        else if (input.type === 'received') this.#received(link, input.text)
        else this.#lost(link, input.code, input.reason)
      }
    }
  }

  // Getting connected.

  #connect(): void {
    this.#openAt = Infinity
    if (this.#move) this.#move.tried = true
    const link = newLink(++this.#attempt, this.#now)
    this.#candidate = link
    if (!this.options.authenticates) return this.#credential(link, null)
    const known = closeClass(this.#loss.code ?? 0) === 're-authenticate' && closeName(this.#loss.reason ?? '')
    const reason = known || (this.#attempt === 1 ? 'connect' : 'reconnect')
    this.actions.push({ type: 'authenticate', attempt: link.attempt, tries: this.#tries + 1, reason })
  }

  #credential(link: Link, credential: Credential | null): void {
    if (link.phase === 'ready') {
      if (credential) this.#send(link, { type: 'auth', id: this.#nextId(), ...credential })
      return
    }
    if (link.phase !== 'credential') return
    link.credential = credential
    link.phase = 'opening'
    link.deadline = this.#now + STEP_MS
    const query: Record<string, string> = {}
    if (credential && 'ticket' in credential) query['ticket'] = credential.ticket
    if (this.#primary && this.#move?.handover) query['handover'] = this.#move.handover
    this.actions.push({ type: 'open', attempt: link.attempt, query })
  }

  /** The credential's source failed. For a link that is ready the server will ask again, or close with 42xx. */
  #noCredential(link: Link, reason: string, retryMs?: number): void {
    if (link.phase === 'ready') return
    this.#lost(link, 1006, retryMs === undefined ? reason : `${reason};retry_ms=${Math.round(retryMs)}`)
  }

  #opened(link: Link): void {
    if (link.phase === 'opening') link.phase = 'opened'
  }

  #welcome(link: Link, welcome: Welcome): void {
    this.#agreed = welcome
    this.actions.push({ type: 'welcome', welcome })
    if (link.phase === 'ready') return
    link.phase = 'ready'
    link.readyAt = this.#now
    this.#candidate = null
    if (this.#leaving) this.#close(this.#leaving, 'moved')
    this.#leaving = this.#primary
    this.#primary = link
    this.#wakeable = true
    this.#move = null
    this.#loss = {}
    this.#openAt = Infinity
    this.#dirty = true
  }

  // Losing it.

  #lost(link: Link, code: number, reason: string): void {
    this.#outgoing.lost(link.attempt)
    this.#dirty = true
    if (link === this.#leaving) return this.#left()
    const welcomed = link === this.#primary
    if (welcomed) {
      if (this.#now - link.readyAt >= STABLE_MS) this.#tries = this.#credentialTries = 0
      this.#primary = null
      if (this.#leaving) this.#close(this.#leaving, 'moved')
      this.#subscriptions.lost()
    } else this.#candidate = null
    this.#loss = { code, reason }
    const action = closeClass(code)
    if (action === 'stop' || action === 'done') return this.#stop(code, reason)
    if (action === 're-authenticate' && ++this.#credentialTries > CREDENTIAL_TRIES) return this.#stop(code, reason)
    if (action === 'start-afresh') this.#subscriptions.dropCursors()
    this.#wakeable &&= !saidByServer(code)
    this.#schedule({ code, reason, welcomed })
  }

  /** Plans the next try, unless one is on its way or `going_away` has named its time. */
  #schedule(loss: { code: number; reason: string; welcomed: boolean }): void {
    if (this.#candidate || (this.#move && !this.#move.tried)) return
    this.#openAt = this.#now + retryDelayMs(loss, this.#tries++, this.#agreed.reconnect, this.options.random)
  }

  #wake(): void {
    if (this.#mode !== 'on') return
    if (this.#primary) return this.#probe(this.#primary)
    if (!this.#candidate && this.#wakeable) this.#openAt = this.#now
    this.#tick()
  }

  #stop(code: number, reason: string): void {
    this.#closeAll('closed')
    this.#mode = 'stopped'
    this.#loss = { code, reason }
  }

  /** Fails and ends everything, also what comes too late. */
  #endAll(): void {
    const { code, reason } = this.#loss
    const error = new TidegateError('stopped', `${code} ${reason}`)
    this.#outgoing.stop(error.message)
    this.#subscriptions.stop(code === 1000 ? undefined : error)
  }

  #closeAll(reason: string): void {
    for (const link of this.#links()) this.#close(link, reason)
    this.#openAt = Infinity
    this.#move = null
    this.#loss = {}
  }

  /** Gives a link up. Nothing that its socket says afterwards is heard. */
  #close(link: Link, reason: string, code = 1000): void {
    this.actions.push({ type: 'close', attempt: link.attempt, code, reason })
    this.#outgoing.lost(link.attempt)
    if (link === this.#primary) this.#subscriptions.lost()
    if (link === this.#primary) this.#primary = null
    else if (link === this.#candidate) this.#candidate = null
    else this.#left()
  }

  #left(): void {
    this.#leaving = null
    this.#subscriptions.forgetIds()
  }

  // Time.

  #tick(): void {
    const now = this.#now
    this.#outgoing.expire(now)
    this.#dirty = true
    if (now >= this.#openAt) this.#connect()
    for (const link of this.#links()) {
      if (now < livenessDeadline(link, this.#agreed.heartbeat.dead_ms)) continue
      if (link.phase === 'ready' && link.probedAt === null) this.#probe(link)
      else this.#silent(link)
    }
  }

  /** Asks for a sign of life. A late timer (a page that slept) must not kill a link whose messages are still to be read. */
  #probe(link: Link): void {
    if (link.probedAt !== null) return
    link.probedAt = this.#now
    this.#send(link, { type: 'ping' })
  }

  #silent(link: Link): void {
    this.actions.push({ type: 'close', attempt: link.attempt, code: 4104, reason: 'heartbeat_timeout' })
    this.#lost(link, 1006, link.phase === 'ready' ? 'heartbeat_timeout' : `no answer while ${link.phase}`)
  }

  // What the server says.

  #received(link: Link, text: string): void {
    link.heardAt = this.#now
    link.probedAt = null
    let frames: ServerFrame[]
    try {
      frames = decode(text)
    } catch (error) {
      if (!(error instanceof FrameError)) throw error
      this.actions.push({ type: 'close', attempt: link.attempt, code: 4400, reason: 'bad_frame' })
      return this.#lost(link, 1006, `bad frame from the server: ${error.message}`)
    }
    for (const frame of frames) if (this.#links().includes(link)) this.#frame(link, frame)
  }

  #frame(link: Link, frame: ServerFrame): void {
    switch (frame.type) {
      case 'challenge':
        if (link.credential && 'token' in link.credential) return this.#send(link, { type: 'auth', id: this.#nextId(), ...link.credential })
        return this.#stop(4401, 'the server wants a token, and there is none')
      case 'welcome':
        return this.#welcome(link, frame)
      case 'ping':
        return this.#send(link, { type: 'pong', n: frame.n })
      case 'pong':
        return void this.#outgoing.reply(this.#now, { type: 'ok', id: Number(frame.n) })
      case 'reauth':
        if (!this.options.authenticates) return
        return void this.actions.push({ type: 'authenticate', attempt: link.attempt, tries: 1, reason: frame.reason })
      case 'going_away':
        return this.#goingAway(link, frame)
      case 'ok':
      case 'published':
      case 'response':
      case 'error':
        this.#dirty = true
        if (frame.type === 'error' && this.#refusedSubscription(link, frame)) return
        return this.#slowDown(this.#outgoing.reply(this.#now, frame))
      default:
        this.#subscriptions.receive(this.#now, link, this.#primary, frame)
        if (frame.type !== 'message') this.#dirty = true
        if (!this.#subscriptions.has(frame.channel)) this.#unserve(link, frame.channel)
    }
  }

  #refusedSubscription(link: Link, frame: ErrorFrame): boolean {
    for (const [channel, served] of link.served) {
      if (served.id !== frame.id) continue
      link.served.delete(channel)
      const retry = frame.retry_after_ms ?? null
      this.#subscriptions.refused(this.#now, channel, new TidegateError(frame.code, frame.message, retry))
      if (frame.code === 'rate_limited' && retry) this.#slowDown(retry)
      return true
    }
    return false
  }

  #slowDown(holdMs: number): void {
    if (!holdMs) return
    this.#careful = true
    this.#holdUntil = Math.max(this.#holdUntil, this.#now + holdMs)
  }

  #goingAway(link: Link, frame: GoingAwayFrame): void {
    if (link !== this.#primary || this.#move) return
    this.#move = { handover: frame.handover ?? null, tried: false }
    this.#openAt = this.#now + frame.reconnect_after_ms
    if (frame.reconnect_after_ms === 0) this.#connect()
  }

  // What we say.

  #flush(): void {
    if (!this.#dirty) return
    this.#dirty = false
    const link = this.#primary
    if (!link || this.#now < this.#holdUntil) return
    const window = this.#careful ? 1 : this.#agreed.limits.in_flight
    const room = (): number => window - this.#outgoing.inFlight(link.attempt) - asked(link)
    const subscribed = this.#subscriptions.flush(this.#now, link, room(), () => this.#nextId())
    const sent = this.#outgoing.flush(link.attempt, room())
    if (subscribed && sent && room() === window) this.#careful = false
    this.#leave(link)
  }

  /** Closes the old link once the new one has everything, and the old one owes no reply. */
  #leave(primary: Link): void {
    const old = this.#leaving
    if (old && this.#subscriptions.settledOn(primary) && this.#outgoing.inFlight(old.attempt) === 0) this.#close(old, 'moved')
  }

  #unserve(link: Link, channel: string): void {
    if (link.served.delete(channel)) this.#send(link, { type: 'unsubscribe', id: this.#nextId(), channel })
  }

  #send(link: Link, frame: object): void {
    this.actions.push({ type: 'send', attempt: link.attempt, text: JSON.stringify(frame) })
  }

  #tellStatus(): void {
    const status = this.status
    const change: StatusChange = {
      status,
      ...this.#loss,
      retryMs: status === 'waiting' ? Math.round(this.#openAt - this.#now) : undefined,
    }
    if (status === this.#told.status && (status !== 'waiting' || change.code === this.#told.code)) return
    this.#told = change
    this.actions.push({ type: 'status', change })
  }

  #nextId(): number {
    return ++this.#lastId
  }

  #links(): Link[] {
    return [this.#primary, this.#candidate, this.#leaving].filter((link) => link !== null)
  }
}

/** Subscribes that wait for their reply. */
function asked(link: Link): number {
  let count = 0
  for (const { state } of link.served.values()) if (state === 'asked') count++
  return count
}
