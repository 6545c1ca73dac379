// A channel's messages as an async iterable, through a bounded buffer.

import { TidegateError } from './errors.js'

/** What gives when the consumer is slower than the channel: the oldest, the newest, or the iteration (which then throws `overflow`). */
export type Overflow = 'drop-oldest' | 'drop-newest' | 'error'

export interface MessagesOptions {
  /** Ends the iteration. */
  readonly signal?: AbortSignal
  /** Messages held for a slow consumer; 256 by default. */
  readonly buffer?: number
  readonly overflow?: Overflow
}

export class Messages<T> implements AsyncIterableIterator<T> {
  #buffer: T[] = []
  #dropped = 0
  #end: { error?: Error } | null = null
  /** Readers that wait, oldest first; only more than one if `next` is called without waiting. */
  #readers: { resolve: (result: IteratorResult<T, undefined>) => void; reject: (error: Error) => void }[] = []

  /** @internal */
  constructor(
    private readonly capacity: number,
    private readonly overflow: Overflow,
    private readonly onEnd: () => void,
  ) {
    if (!(capacity >= 1)) throw new RangeError('buffer must be at least 1')
  }

  /** How many messages the buffer has dropped so far. */
  get dropped(): number {
    return this.#dropped
  }

  /** How many messages wait to be read. */
  get buffered(): number {
    return this.#buffer.length
  }

  /** @internal */
  push(message: T): void {
    if (this.#end) return
    const reader = this.#readers.shift()
    if (reader) return reader.resolve({ value: message, done: false })
    if (this.#buffer.length >= this.capacity) {
      if (this.overflow === 'error') return this.end(new TidegateError('overflow', `over ${this.capacity} messages wait`))
      this.#dropped++
      if (this.overflow === 'drop-newest') return
      this.#buffer.shift()
    }
    this.#buffer.push(message)
  }

  /** @internal What is buffered can still be read; then it ends, by throwing if there is an error. */
  end(error?: Error): void {
    if (this.#end) return
    this.#end = error ? { error } : {}
    this.onEnd()
    for (const reader of this.#readers.splice(0)) this.#finish(reader)
  }

  next(): Promise<IteratorResult<T, undefined>> {
    return new Promise((resolve, reject) => {
      if (this.#buffer.length) resolve({ value: this.#buffer.shift()!, done: false })
      else if (this.#end) this.#finish({ resolve, reject })
      else this.#readers.push({ resolve, reject })
    })
  }

  return(): Promise<IteratorResult<T, undefined>> {
    this.#buffer = []
    this.end()
    return Promise.resolve({ value: undefined, done: true })
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  #finish(reader: { resolve: (result: IteratorResult<T, undefined>) => void; reject: (error: Error) => void }): void {
    const error = this.#end?.error
    this.#end = {}
    if (error) reader.reject(error)
    else reader.resolve({ value: undefined, done: true })
  }
}
