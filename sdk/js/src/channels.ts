// What applications hold of a channel: listeners, iteration, the cursor, and for `state` the entries themselves.

import type { TidegateError } from './errors.js'
import { Emitter } from './emitter.js'
import type { ChannelEvents, Message, SubscriptionStatus, Told } from './machine-io.js'
import { Messages, type MessagesOptions } from './messages.js'
import type { ChannelKind, Position } from './protocol.js'

/** What a channel's handle needs of its client. */
export interface Subscriber {
  cursor(): Position | null
  unsubscribe(): void
}

/** A subscription to an `event` or `log` channel. */
export class Channel<T = unknown, Events extends ChannelEvents<T> = ChannelEvents<T>> extends Emitter<Events> {
  #status: SubscriptionStatus = 'subscribing'
  #error: TidegateError | null = null
  readonly #iterations = new Set<Messages<Message<T>>>()

  /** @internal */
  constructor(
    private readonly subscriber: Subscriber,
    readonly name: string,
    readonly kind: ChannelKind,
  ) {
    super()
  }

  get status(): SubscriptionStatus {
    return this.#status
  }

  /** Why it ended, if not by `unsubscribe` or `close`. */
  get error(): TidegateError | null {
    return this.#error
  }

  /** The position up to which everything has come; hand it to `since` to go on from there another time. */
  get cursor(): Position | null {
    return this.subscriber.cursor()
  }

  /** Ends the subscription, for everybody who holds this channel. */
  unsubscribe(): void {
    this.subscriber.unsubscribe()
  }

  /** Messages from now on. A slow consumer overflows as it chooses; `dropped` of the iterator counts what that cost. */
  messages({ signal, buffer = 256, overflow = 'drop-oldest' }: MessagesOptions = {}): Messages<Message<T>> {
    const abort = (): void => iteration.end()
    const iteration = new Messages<Message<T>>(buffer, overflow, () => {
      this.#iterations.delete(iteration)
      signal?.removeEventListener('abort', abort)
    })
    this.#iterations.add(iteration)
    signal?.addEventListener('abort', abort)
    if (this.#status === 'ended') iteration.end(this.#error ?? undefined)
    else if (signal?.aborted) iteration.end()
    return iteration
  }

  /** @internal */
  receive(...[name, value]: Told): void {
    if (name === 'message') this.message(value as Message<T>)
    else if (name !== 'status') this.emit(name as keyof ChannelEvents<T>, value as never)
    else if (value !== this.#status) this.emit(name, (this.#status = value))
  }

  /** @internal */
  end(error?: TidegateError): void {
    this.#error = error ?? null
    this.receive('status', 'ended')
    for (const iteration of [...this.#iterations]) iteration.end(error)
  }

  protected message(message: Message<T>): void {
    this.emit('message', message)
    for (const iteration of [...this.#iterations]) iteration.push(message)
  }
}

export interface Change<T> {
  readonly key: string
  /** Undefined if deleted. */
  readonly value: T | undefined
  readonly deleted: boolean
}

export interface StateEvents<T> extends ChannelEvents<T> {
  change: Change<T>
  /** All entries have been replaced. */
  snapshot: ReadonlyMap<string, T>
}

/** A subscription to a `state` channel, and at the same time its entries: a live, read-only map from key to latest value. */
export class StateChannel<T = unknown> extends Channel<T, StateEvents<T>> implements ReadonlyMap<string, T> {
  #entries = new Map<string, T>()

  get size(): number {
    return this.#entries.size
  }

  get(key: string): T | undefined {
    return this.#entries.get(key)
  }

  has(key: string): boolean {
    return this.#entries.has(key)
  }

  keys(): MapIterator<string> {
    return this.#entries.keys()
  }

  values(): MapIterator<T> {
    return this.#entries.values()
  }

  entries(): MapIterator<[string, T]> {
    return this.#entries.entries()
  }

  [Symbol.iterator](): MapIterator<[string, T]> {
    return this.#entries[Symbol.iterator]()
  }

  forEach(callback: (value: T, key: string, map: ReadonlyMap<string, T>) => void, thisArg?: unknown): void {
    for (const [key, value] of this.#entries) callback.call(thisArg, value, key, this)
  }

  /** @internal */
  override receive(...told: Told): void {
    if (told[0] !== 'snapshot') return super.receive(...told)
    this.#entries = new Map(told[1].map(({ key, data }) => [key, data as T]))
    this.emit('snapshot', this)
  }

  protected override message(message: Message<T>): void {
    const { key = '', data, deleted = false } = message
    if (deleted) this.#entries.delete(key)
    else this.#entries.set(key, data)
    super.message(message)
    this.emit('change', { key, value: deleted ? undefined : data, deleted })
  }
}
