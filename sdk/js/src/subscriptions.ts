// What is subscribed to, how far each has got, and what each frame means for it. Two links may serve a channel at once while
// the client moves: the first to bring an offset wins, and cursors only go forward.

import { TidegateError } from './errors.js'
import type { Link, Served } from './link.js'
import type { Action, Message, Told } from './machine-io.js'
import type { ChannelFrame, ChannelKind, GapFrame, MessageFrame, Position, Since, SnapshotFrame, SubscribedFrame } from './protocol.js'

/** Ids of `event` messages remembered while two links overlap. Overlaps last a second or so; twice a full server outbox would be 2,048. */
const REMEMBERED_IDS = 1_024

const EPOCH_GAP = { missed: null, from: null, to: null, reason: 'epoch' }

interface Subscription {
  readonly ref: number
  readonly channel: string
  readonly kind: ChannelKind
  /** What was asked for at first; asked for again as long as there is no cursor. */
  since: Since | undefined
  cursor: Position | null
  /** Not before this moment, after a refusal that named a time. */
  notBefore: number
  /** A gap was told since the last snapshot: an older snapshot counts too. */
  gapped: boolean
  readonly seenIds: Set<string>
}

export class Subscriptions {
  readonly #all = new Map<string, Subscription>()

  constructor(private readonly emit: (action: Action) => void) {}

  has(channel: string): boolean {
    return this.#all.has(channel)
  }

  add(ref: number, channel: string, kind: ChannelKind, since: Since | undefined): void {
    const cursor = typeof since === 'object' && 'epoch' in since ? since : null
    this.#all.set(channel, { ref, channel, kind, since, cursor, notBefore: 0, gapped: false, seenIds: new Set() })
  }

  /** Ends one: with an error unless it was wanted. */
  remove(channel: string, error?: TidegateError): void {
    const subscription = this.#all.get(channel)
    if (!subscription) return
    this.#all.delete(channel)
    this.emit({ type: 'ended', ref: subscription.ref, error })
  }

  /** Ends all of them. */
  stop(error?: TidegateError): void {
    for (const channel of [...this.#all.keys()]) this.remove(channel, error)
  }

  cursor(channel: string): Position | null {
    return this.#all.get(channel)?.cursor ?? null
  }

  /** Offsets have become void: start as at first, and say what that means. */
  dropCursors(): void {
    for (const subscription of this.#all.values()) {
      if (!subscription.cursor) continue
      forget(subscription)
      this.#tell(subscription, 'gap', EPOCH_GAP)
    }
  }

  /** The next moment at which a refused subscription may be repeated. */
  deadline(now: number): number {
    let deadline = Infinity
    for (const { notBefore } of this.#all.values()) if (notBefore > now) deadline = Math.min(deadline, notBefore)
    return deadline
  }

  /** Subscribes on this link to what it doesn't serve yet, while there is room. True if nothing is left. */
  flush(now: number, link: Link, room: number, nextId: () => number): boolean {
    for (const { channel, cursor, since, notBefore } of this.#all.values()) {
      if (link.served.has(channel) || notBefore > now) continue
      if (room-- <= 0) return false
      const id = nextId()
      link.served.set(channel, { id, state: 'asked', epoch: '', entries: [], recovered: 0 })
      const frame = { type: 'subscribe', id, channel, since: cursor ?? since }
      this.emit({ type: 'send', attempt: link.attempt, text: JSON.stringify(frame) })
    }
    return true
  }

  /** Whether everything is live on this link. */
  settledOn(link: Link): boolean {
    for (const { channel } of this.#all.values()) if (link.served.get(channel)?.state !== 'live') return false
    return true
  }

  /** The link that served them is gone. */
  lost(): void {
    for (const subscription of this.#all.values()) this.#tell(subscription, 'status', 'subscribing')
  }

  /** A `subscribe` was refused: again later if a time is named, else it has ended. */
  refused(now: number, channel: string, error: TidegateError): void {
    const subscription = this.#all.get(channel)
    if (!subscription) return
    if (error.retryAfterMs === null) {
      this.remove(channel, error)
      return
    }
    subscription.notBefore = now + error.retryAfterMs
    this.#tell(subscription, 'status', 'subscribing')
  }

  /** A frame about a channel. `primary` is the newest welcomed link; `link` may be the one being left. */
  receive(now: number, link: Link, primary: Link | null, frame: ChannelFrame): void {
    const subscription = this.#all.get(frame.channel)
    const served = link.served.get(frame.channel)
    if (!subscription || !served) return
    // What comes before `subscribed` belongs to an earlier subscription that has been given up.
    if (served.state === 'asked' && frame.type !== 'subscribed') return
    const newest = link === primary
    if (frame.type === 'message') this.#message(subscription, served, newest, primary, frame)
    else if (frame.type === 'gap') this.#gap(subscription, link, served, newest, primary, frame)
    else if (frame.type === 'snapshot') this.#snapshot(subscription, served, newest, frame)
    else if (frame.type === 'subscribed') this.#subscribed(subscription, served, newest, frame)
    else if (frame.type === 'live') {
      served.state = 'live'
      if (!newest) return
      if (frame.offset != null) advance(subscription, served.epoch, frame.offset)
      this.#tell(subscription, 'live', { recovered: served.recovered })
      this.#tell(subscription, 'status', 'live')
    } else {
      link.served.delete(frame.channel)
      if (newest) this.refused(now, frame.channel, new TidegateError(frame.code, frame.code, frame.retry_after_ms ?? null))
    }
  }

  #subscribed(subscription: Subscription, served: Served, newest: boolean, frame: SubscribedFrame): void {
    const { channel } = subscription
    if (frame.kind !== subscription.kind) {
      const message = `${channel} is a channel of kind ${frame.kind}, not ${subscription.kind}`
      this.remove(channel, new TidegateError('wrong_kind', message))
      return
    }
    served.state = 'replaying'
    served.epoch = frame.position?.epoch ?? ''
    // What a `state` channel holds begins with its snapshot, wherever the head is by then.
    if (frame.recovery === 'none' && !subscription.since && frame.kind === 'log') subscription.cursor ??= frame.position ?? null
    if (!newest) return
    this.#tell(subscription, 'subscribed', { recovery: frame.recovery, position: frame.position ?? null })
    this.#tell(subscription, 'status', 'catching-up')
  }

  #message(subscription: Subscription, served: Served, newest: boolean, primary: Link | null, frame: MessageFrame): void {
    const { cursor } = subscription
    if (frame.offset == null) {
      if (!newest && primary?.served.get(subscription.channel)?.state === 'live') return
      if (seenBefore(subscription, newest && served.state === 'live', frame.id)) return
    } else if (!cursor || cursor.epoch === served.epoch) {
      if (cursor && frame.offset <= cursor.offset) return
    } else {
      // Another epoch: over on the link that is left; never told on the newest, so it is told here.
      if (!newest) return
      this.#tell(subscription, 'gap', EPOCH_GAP)
    }
    if (frame.offset != null) advance(subscription, served.epoch, frame.offset)
    if (served.state === 'replaying') served.recovered++
    this.#tell(subscription, 'message', toMessage(frame))
  }

  /** Only one link is left: nothing can come twice on `event` channels. */
  forgetIds(): void {
    for (const { seenIds } of this.#all.values()) seenIds.clear()
  }

  #snapshot(subscription: Subscription, served: Served, newest: boolean, frame: SnapshotFrame): void {
    served.entries.push(...frame.entries)
    if (frame.more) return
    const entries = served.entries
    const { cursor } = subscription
    served.entries = []
    served.epoch = frame.epoch
    if (cursor && cursor.epoch === frame.epoch && cursor.offset > frame.offset && !subscription.gapped) return
    if (cursor && cursor.epoch !== frame.epoch && !newest) return
    subscription.cursor = { epoch: frame.epoch, offset: frame.offset }
    subscription.gapped = false
    this.#tell(subscription, 'snapshot', entries)
  }

  #gap(subscription: Subscription, link: Link, served: Served, newest: boolean, primary: Link | null, frame: GapFrame): void {
    const { channel, kind, cursor } = subscription
    if (!newest && primary?.served.has(channel)) {
      // The newest link brings what is missing here, or tells its own gap: this one has no more say on the channel.
      if (kind !== 'event' || primary.served.get(channel)?.state === 'live') {
        link.served.delete(channel)
        return
      }
    }
    const { position, to } = frame
    if (position) served.epoch = position.epoch
    const { epoch } = served
    // Without either nothing is known but that it goes on in this epoch.
    const offset = position?.offset ?? to ?? (cursor && kind !== 'event' && cursor.epoch !== epoch ? 0 : null)
    if (offset !== null) {
      if (cursor?.epoch === epoch && cursor.offset >= offset) return
      advance(subscription, epoch, offset)
    }
    subscription.gapped = true
    this.#tell(subscription, 'gap', { missed: frame.missed ?? null, from: frame.from ?? null, to: to ?? null, reason: frame.reason })
  }

  #tell({ ref }: Subscription, ...told: Told): void {
    this.emit({ type: 'channel', ref, told })
  }
}

/**
 * Moves the cursor to an offset of this epoch, never back within one. What a `state` channel held in another epoch is void, and
 * only the snapshot that follows says what it holds now: until that is complete there is no place to go on from.
 */
function advance(subscription: Subscription, epoch: string, offset: number): void {
  const { cursor, kind } = subscription
  if (cursor?.epoch === epoch) subscription.cursor = { epoch, offset: Math.max(cursor.offset, offset) }
  else if (kind === 'state') forget(subscription)
  else subscription.cursor = { epoch, offset }
}

/** The cursor has become void: start as at first, or from the start. */
function forget(subscription: Subscription): void {
  subscription.cursor = null
  if (typeof subscription.since === 'object' && 'epoch' in subscription.since) subscription.since = undefined
}

/** Whether the other link has brought this `event` message. Remembers it for the other one, unless this link is settled. */
function seenBefore({ seenIds }: Subscription, settled: boolean, id: string | null | undefined): boolean {
  if (id == null) return false
  if (seenIds.has(id)) return true
  if (!settled && seenIds.size < REMEMBERED_IDS) seenIds.add(id)
  return false
}

function toMessage(frame: MessageFrame): Message {
  return {
    channel: frame.channel,
    data: frame.data,
    id: frame.id ?? undefined,
    offset: frame.offset ?? undefined,
    key: frame.key ?? undefined,
    deleted: frame.deleted || undefined,
  }
}
