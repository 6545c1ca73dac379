// Which connection there is, which one is on its way, which one is being left, and when the next try is due.

import { DEFAULT_RECONNECT, retryDelayMs } from './backoff.js'
import { closeClass, closeName, saidByServer } from './codes.js'
import { livenessDeadline, newLink, STEP_MS, type Link } from './link.js'
import type { Action, Credential, Status, StatusChange } from './machine-io.js'
import type { GoingAwayFrame, Welcome } from './protocol.js'

/** A connection that lasted this long was good: the next loss starts from the first delay again. */
const STABLE_MS = 10_000

/** Closes in a row that ask for a new credential, before it is given up. */
const CREDENTIAL_TRIES = 3

/** Until a `welcome` says otherwise: the server's own defaults. */
const DEFAULTS: Pick<Welcome, 'heartbeat' | 'limits' | 'reconnect'> = {
  heartbeat: { dead_ms: 62_500 },
  limits: { message_bytes: 65_536, subscriptions: 128, in_flight: 32 },
  reconnect: DEFAULT_RECONNECT,
}

/** What the rest of the machine does when links come and go. */
export interface LinksOwner {
  emit(action: Action): void
  send(link: Link, frame: object): void
  /** `auth` needs an id like every command. */
  nextId(): number
  /** A link is gone, whoever ended it. `primary`: it was the one that subscriptions live on. */
  gone(link: Link, primary: boolean): void
  dropCursors(): void
}

export class Links {
  now = 0
  /** The newest welcomed link, the one on its way to that, and the one that is being left. */
  primary: Link | null = null
  candidate: Link | null = null
  leaving: Link | null = null
  /** What the last `welcome` settled. */
  agreed = DEFAULTS
  #mode: 'on' | 'suspended' | 'stopped' = 'suspended'
  #attempt = 0
  /** Tries since a connection was last stable. */
  #tries = 0
  #credentialTries = 0
  /** When the next try is due. */
  #openAt = Infinity
  /** Set by `going_away`, until the next welcome. */
  #move: { readonly handover: string | null; tried: boolean } | null = null
  /** Why the last connection ended, for the status and for the credential's source. */
  #loss: { code: number; reason: string } | null = null
  /** Whether the network, not the server, is to blame: then its return is a reason to try at once. */
  #wakeable = true

  constructor(
    /** Whether credentials are to be asked for. */
    private readonly authenticates: boolean,
    private readonly random: () => number,
    private readonly owner: LinksOwner,
  ) {}

  get status(): Status {
    if (this.#mode !== 'on') return this.#mode
    if (this.primary) return this.#move || this.leaving ? 'moving' : 'ready'
    if (!this.candidate) return 'waiting'
    return this.candidate.phase === 'opened' ? 'authenticating' : 'connecting'
  }

  get change(): StatusChange {
    const { status } = this
    return { status, ...this.#loss, retryMs: status === 'waiting' ? Math.round(this.#openAt - this.now) : undefined }
  }

  get deadline(): number {
    return Math.min(this.#openAt, ...this.all().map((link) => livenessDeadline(link, this.agreed.heartbeat.dead_ms)))
  }

  all(): Link[] {
    return [this.primary, this.candidate, this.leaving].filter((link) => link !== null)
  }

  // Wanted and not wanted.

  resume(): void {
    if (this.#mode === 'on') return
    this.#mode = 'on'
    this.#connect()
  }

  suspend(): void {
    this.#closeAll('suspended')
    this.#mode = 'suspended'
  }

  stop(code: number, reason: string): void {
    this.#closeAll('closed')
    this.#mode = 'stopped'
    this.#loss = { code, reason }
  }

  // Getting connected.

  #connect(): void {
    this.#openAt = Infinity
    if (this.#move) this.#move.tried = true
    const link = newLink(++this.#attempt, this.now)
    this.candidate = link
    if (!this.authenticates) return this.credential(link, null)
    const { code = 0, reason = '' } = this.#loss ?? {}
    const why = closeClass(code) === 're-authenticate' ? closeName(reason) : this.#attempt === 1 ? 'connect' : 'reconnect'
    this.owner.emit({ type: 'authenticate', attempt: link.attempt, tries: this.#tries + 1, reason: why })
  }

  credential(link: Link, credential: Credential | null): void {
    if (link.phase === 'ready' && credential) this.owner.send(link, { type: 'auth', id: this.owner.nextId(), ...credential })
    if (link.phase !== 'credential') return
    link.credential = credential
    link.phase = 'opening'
    link.deadline = this.now + STEP_MS
    const query: Record<string, string> = {}
    if (credential && 'ticket' in credential) query['ticket'] = credential.ticket
    // A handover is for two connections at once.
    if (this.primary && this.#move?.handover) query['handover'] = this.#move.handover
    this.owner.emit({ type: 'open', attempt: link.attempt, query })
  }

  /** The server wants a new credential on an open link. Without a source of them it asks elsewhere, or closes. */
  reauthenticate({ attempt }: Link, reason: string): void {
    if (this.authenticates) this.owner.emit({ type: 'authenticate', attempt, tries: 1, reason })
  }

  /** The credential's source failed. For a link that is ready the server will ask again, or close with 42xx. */
  noCredential(link: Link, reason: string, retryMs?: number): void {
    if (link.phase === 'ready') return
    this.lost(link, 1006, retryMs === undefined ? reason : `${reason};retry_ms=${Math.round(retryMs)}`)
  }

  opened(link: Link): void {
    if (link.phase === 'opening') link.phase = 'opened'
  }

  welcomed(link: Link, welcome: Welcome): void {
    this.agreed = welcome
    this.owner.emit({ type: 'welcome', welcome })
    if (link.phase === 'ready') return
    link.phase = 'ready'
    link.readyAt = this.now
    this.candidate = null
    if (this.leaving) this.close(this.leaving, 'moved')
    this.leaving = this.primary
    this.primary = link
    this.#wakeable = true
    this.#move = this.#loss = null
    this.#openAt = Infinity
  }

  // Losing it.

  lost(link: Link, code: number, reason: string): void {
    const welcomed = link === this.primary
    const left = link === this.leaving
    this.#drop(link)
    if (left) return
    if (welcomed) {
      if (this.now - link.readyAt >= STABLE_MS) this.#tries = this.#credentialTries = 0
      if (this.leaving) this.close(this.leaving, 'moved')
    }
    this.#loss = { code, reason }
    const action = closeClass(code)
    if (action === 'stop' || action === 'done') return this.stop(code, reason)
    if (action === 're-authenticate' && ++this.#credentialTries > CREDENTIAL_TRIES) return this.stop(code, reason)
    if (action === 'start-afresh') this.owner.dropCursors()
    this.#wakeable &&= !saidByServer(code)
    // Not if a try is on its way, or `going_away` has named the time of one.
    if (this.candidate || (this.#move && !this.#move.tried)) return
    this.#openAt = this.now + retryDelayMs({ code, reason, welcomed }, this.#tries++, this.agreed.reconnect, this.random)
  }

  goingAway(link: Link, frame: GoingAwayFrame): void {
    if (link !== this.primary || this.#move) return
    this.#move = { handover: frame.handover ?? null, tried: false }
    this.#openAt = this.now + frame.reconnect_after_ms
    this.#tryIfDue()
  }

  /** Gives a link up. Nothing that its socket says afterwards is heard. */
  close(link: Link, reason: string, code = 1000): void {
    this.owner.emit({ type: 'close', attempt: link.attempt, code, reason })
    this.#drop(link)
  }

  #closeAll(reason: string): void {
    for (const link of this.all()) this.close(link, reason)
    this.#openAt = Infinity
    this.#move = this.#loss = null
  }

  #drop(link: Link): void {
    const primary = link === this.primary
    if (primary) this.primary = null
    else if (link === this.candidate) this.candidate = null
    else this.leaving = null
    this.owner.gone(link, primary)
  }

  // Time.

  tick(): void {
    this.#tryIfDue()
    for (const link of this.all()) {
      if (this.now < livenessDeadline(link, this.agreed.heartbeat.dead_ms)) continue
      if (link.phase === 'ready' && link.probedAt === null) this.#probe(link)
      else this.fail(link, link.phase === 'ready' ? 'heartbeat_timeout' : `no answer while ${link.phase}`)
    }
  }

  wake(): void {
    if (this.#mode !== 'on') return
    if (this.primary) return this.#probe(this.primary)
    if (!this.candidate && this.#wakeable) this.#openAt = this.now
    this.#tryIfDue()
  }

  /** Gives a link up for a fault of the other side's, and goes on as after a loss without a goodbye. */
  fail(link: Link, reason: string, code = 4104, name = 'heartbeat_timeout'): void {
    this.owner.emit({ type: 'close', attempt: link.attempt, code, reason: name })
    this.lost(link, 1006, reason)
  }

  #tryIfDue(): void {
    if (this.now >= this.#openAt) this.#connect()
  }

  /** Asks for a sign of life. A late timer (a page that slept) must not kill a link whose messages are still to be read. */
  #probe(link: Link): void {
    if (link.probedAt !== null) return
    link.probedAt = this.now
    this.owner.send(link, { type: 'ping' })
  }
}
