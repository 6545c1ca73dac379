// The driver: carries inputs to the machine and its actions out to sockets, timers and the application.

import { Channel, StateChannel, type Subscriber } from './channels.js'
import { TidegateError } from './errors.js'
import { Emitter } from './emitter.js'
import { watchLifecycle } from './lifecycle.js'
import { Machine } from './machine.js'
import type { Action, Command, Credential, Input, Published, Status, StatusChange } from './machine-io.js'
import type { ChannelKind, Position, Since, Welcome } from './protocol.js'
import { openSocket, socketAddress, webSocketClass, type Socket, type WebSocketConstructor } from './transport.js'

/** Default of `queue`: at the server's default of 20 messages a second, about 13 seconds' worth. */
const QUEUE = 256

/** Default of `timeoutMs`: long enough for a gateway to be replaced, short enough for a person who waits. */
const TIMEOUT_MS = 30_000

/** Timers sleep at most this long: a longer time than a timer can hold would fire at once. */
const LONGEST_SLEEP_MS = 3_600_000

export interface AuthRequest {
  /** 1 for the first try, counted until a connection has lasted 10 s. */
  readonly attempt: number
  /** `connect`, `reconnect`, the name of the close that asked for it (`expired`, `revoked`, …), or of the `reauth` (`expiring`, …). */
  readonly reason: string
}

export interface TidegateOptions {
  /** `wss://…/ws`; relative to the page where there is one, and `https:` will do. */
  readonly url: string
  /** Called before every connection. An error's `retryAfterMs`, if it has one, is kept to. Null, or no `auth`: anonymous. */
  readonly auth?: (request: AuthRequest) => Promise<Credential | null> | Credential | null
  /** Only where there is no global one. */
  readonly WebSocket?: WebSocketConstructor
  /** Most publishes and requests that wait for a connection or an answer; more fail with `queue_full`. 256 by default. */
  readonly queue?: number
}

export interface CommandOptions {
  /** After this long it fails with `timeout`; whether it happened is then unknown. 30 s by default. */
  readonly timeoutMs?: number
}

export interface PublishOptions extends CommandOptions {
  /** The entry of a `state` channel. */
  readonly key?: string
  /** By which repeats are recognised; one is made if it is left out. */
  readonly messageId?: string
}

export interface TidegateEvents {
  status: StatusChange
  /** A connection is ready, or its authority was renewed. */
  welcome: Welcome
}

/** A connection to a Tidegate gateway that comes back by itself and goes on where it was. */
export class Tidegate extends Emitter<TidegateEvents> {
  readonly #machine: Machine
  readonly #options: TidegateOptions
  readonly #WebSocket: WebSocketConstructor
  readonly #sockets = new Map<number, Socket>()
  /** Handles by name while they are subscribed, and by the reference that the machine knows them by. */
  readonly #channels = new Map<string, Channel | StateChannel>()
  readonly #handles = new Map<number, Channel | StateChannel>()
  readonly #waiting = new Map<number, { resolve: (result: never) => void; reject: (error: Error) => void }>()
  readonly #unwatch: () => void
  #welcome: Welcome | null = null
  #lastRef = 0
  #draining = false
  #timer: ReturnType<typeof setTimeout> | undefined
  #wakesAt = Infinity

  constructor(options: TidegateOptions) {
    super()
    this.#options = options
    this.#machine = new Machine({ authenticates: !!options.auth, queue: options.queue ?? QUEUE, random })
    this.#unwatch = watchLifecycle({
      wake: () => this.#input({ type: 'wake' }),
      suspend: () => this.suspend(),
      resume: () => this.resume(),
    })
    // A wrong address fails here, not later and again.
    socketAddress(options.url)
    this.#WebSocket = webSocketClass(options.WebSocket)
    // Later, so that listeners added at once hear everything.
    queueMicrotask(() => this.#input({ type: 'resume' }))
  }

  get status(): Status {
    return this.#machine.status
  }

  /** What the server said when the connection became ready: connection, node, user, session, limits. */
  get welcome(): Welcome | null {
    return this.#welcome
  }

  /** Subscribes to an `event` channel. A name that is subscribed to already gives the same channel again, here and below. */
  event<T = unknown>(name: string): Channel<T> {
    return this.#subscribe('event', name) as Channel<T>
  }

  /** Subscribes to a `log` channel: live, or from where `since` says. */
  log<T = unknown>(name: string, options: { since?: Since } = {}): Channel<T> {
    return this.#subscribe('log', name, options.since) as Channel<T>
  }

  /** Subscribes to a `state` channel: a snapshot, then changes. */
  state<T = unknown>(name: string): StateChannel<T> {
    return this.#subscribe('state', name) as StateChannel<T>
  }

  /** Resolves once it is acknowledged. Repeated with the same id over reconnects until then, or until its timeout. */
  publish(channel: string, data: unknown, { key, messageId, timeoutMs }: PublishOptions = {}): Promise<Published> {
    // JSON has no undefined: a field that vanished would publish something else than was meant.
    if (JSON.stringify(data) === undefined) return Promise.reject(new TypeError('data is not a JSON value'))
    return this.#command({ type: 'publish', channel, data, key, message_id: messageId }, timeoutMs)
  }

  /** Deletes an entry of a `state` channel. */
  delete(channel: string, key: string, { messageId, timeoutMs }: Omit<PublishOptions, 'key'> = {}): Promise<Published> {
    return this.#command({ type: 'publish', channel, key, deleted: true, message_id: messageId }, timeoutMs)
  }

  /** Asks the team's backend. Never repeated: after `connection_lost` it may or may not have happened. */
  request<T = unknown>(method: string, data: unknown = null, { timeoutMs }: CommandOptions = {}): Promise<T> {
    return this.#command({ type: 'request', method, data }, timeoutMs)
  }

  /** Round-trip time to the gateway in milliseconds. */
  ping({ timeoutMs }: CommandOptions = {}): Promise<number> {
    return this.#command({ type: 'ping' }, timeoutMs)
  }

  /** Lets the connection go without ending subscriptions; `resume` goes on at their cursors. */
  suspend(): void {
    this.#input({ type: 'suspend' })
  }

  resume(): void {
    this.#input({ type: 'resume' })
  }

  /** Ends everything for good. */
  close(): void {
    this.#input({ type: 'stop' })
  }

  #subscribe(kind: ChannelKind, name: string, since?: Since): Channel | StateChannel {
    const known = this.#channels.get(name)
    if (known && known.kind !== kind) throw new TypeError(`${name} is subscribed to as ${known.kind}`)
    if (known) return known
    const ref = ++this.#lastRef
    const subscriber: Subscriber = {
      cursor: (): Position | null => this.#machine.cursor(name),
      unsubscribe: () => {
        if (this.#end(ref)) this.#input({ type: 'unsubscribe', channel: name })
      },
    }
    const channel = kind === 'state' ? new StateChannel(subscriber, name, kind) : new Channel(subscriber, name, kind)
    this.#channels.set(name, channel)
    this.#handles.set(ref, channel)
    this.#input({ type: 'subscribe', ref, channel: name, kind, since })
    return channel
  }

  /** The handle hears no more after this. False if it had ended before. */
  #end(ref: number, error?: TidegateError): boolean {
    const channel = this.#handles.get(ref)
    if (!channel) return false
    this.#handles.delete(ref)
    this.#channels.delete(channel.name)
    channel.end(error)
    return true
  }

  #command<Result>(command: Command, timeoutMs = TIMEOUT_MS): Promise<Result> {
    return new Promise<Result>((resolve, reject) => {
      const ref = ++this.#lastRef
      this.#waiting.set(ref, { resolve, reject })
      this.#input({ type: 'command', ref, command, timeoutMs })
    })
  }

  /** One input, then everything that follows from it. Listeners may cause further inputs: their actions come after. */
  #input(input: Input): void {
    this.#machine.handle(clock(), input)
    if (this.#draining) return
    this.#draining = true
    try {
      for (let action; (action = this.#machine.actions.shift()); ) this.#act(action)
    } finally {
      this.#draining = false
    }
    this.#sleep()
  }

  #act(action: Action): void {
    switch (action.type) {
      case 'authenticate':
        return void this.#authenticate(action.attempt, { attempt: action.tries, reason: action.reason })
      case 'open':
        return this.#open(action.attempt, action.query)
      case 'send':
        return this.#sockets.get(action.attempt)?.send(action.text)
      case 'close':
        this.#sockets.get(action.attempt)?.close(action.code, action.reason)
        return void this.#sockets.delete(action.attempt)
      case 'status':
        if (action.change.status === 'stopped') this.#unwatch()
        return this.emit('status', action.change)
      case 'welcome':
        this.#welcome = action.welcome
        return this.emit('welcome', action.welcome)
      case 'settle': {
        const { resolve, reject } = this.#waiting.get(action.ref)!
        this.#waiting.delete(action.ref)
        return action.error ? reject(action.error) : resolve(action.result as never)
      }
      case 'ended':
        return void this.#end(action.ref, action.error)
      case 'channel':
        return this.#handles.get(action.ref)?.receive(...action.told)
    }
  }

  async #authenticate(attempt: number, request: AuthRequest): Promise<void> {
    try {
      this.#input({ type: 'credential', attempt, credential: (await this.#options.auth?.(request)) ?? null })
    } catch (error) {
      const { message = String(error), retryAfterMs } = (error ?? {}) as Partial<TidegateError>
      this.#input({ type: 'no-credential', attempt, reason: `auth: ${message}`, retryMs: retryAfterMs ?? undefined })
    }
  }

  #open(attempt: number, query: Readonly<Record<string, string>>): void {
    const socket = openSocket(this.#WebSocket, socketAddress(this.#options.url, query), {
      opened: () => this.#input({ type: 'opened', attempt }),
      received: (text) => this.#input({ type: 'received', attempt, text }),
      closed: (code, reason) => {
        this.#sockets.delete(attempt)
        this.#input({ type: 'closed', attempt, code, reason })
      },
    })
    if (socket) this.#sockets.set(attempt, socket)
  }

  /** Sets the timer, unless one is set that rings early enough. */
  #sleep(): void {
    const deadline = this.#machine.deadline()
    if (deadline >= this.#wakesAt && deadline < Infinity) return
    clearTimeout(this.#timer)
    this.#wakesAt = deadline
    if (deadline === Infinity) return
    this.#timer = setTimeout(() => {
      this.#wakesAt = Infinity
      this.#input({ type: 'tick' })
    }, Math.min(Math.max(0, deadline - clock()), LONGEST_SLEEP_MS))
  }
}

/** Milliseconds since 1970, but never set back: a corrected clock must not make a wait last for hours. */
function clock(): number {
  return performance.timeOrigin + performance.now()
}

function random(): number {
  return crypto.getRandomValues(new Uint32Array(1))[0]! / 2 ** 32
}
