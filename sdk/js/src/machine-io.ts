// The machine's doors: everything that goes in, everything that comes out.

import type { TidegateError } from './errors.js'
import type { ChannelKind, Position, Recovery, Since, SnapshotEntry, Welcome } from './protocol.js'

/** `moving`: told to leave, opening the next connection while the old one still delivers. `suspended`: not wanted for now. */
export type Status = 'connecting' | 'authenticating' | 'ready' | 'moving' | 'waiting' | 'suspended' | 'stopped'

export interface StatusChange {
  readonly status: Status
  /** The close code behind `waiting` and `stopped`. */
  readonly code?: number | undefined
  /** The close reason, or what failed in words. */
  readonly reason?: string | undefined
  /** How long `waiting` waits. */
  readonly retryMs?: number | undefined
}

/** Proof of who the client is: a single-use ticket (sent in the query), or a token (answers the challenge). */
export type Credential = { readonly ticket: string } | { readonly token: string }

export interface Published {
  /** Null on `event` channels. */
  readonly epoch: string | null
  /** Null on `event` channels. */
  readonly offset: number | null
  /** Whether the message id had been stored before; then this is the position of the first. */
  readonly duplicate: boolean
}

/** A message of a channel. */
export interface Message<T = unknown> {
  readonly channel: string
  readonly data: T
  readonly id?: string | undefined
  /** Absent on `event` channels. */
  readonly offset?: number | undefined
  readonly key?: string | undefined
  readonly deleted?: true | undefined
}

/** Messages that will not come. */
export interface Gap {
  /** How many; null if it can't be known. */
  readonly missed: number | null
  readonly from: number | null
  readonly to: number | null
  /** `slow`, `retention`, `epoch`, `bus` or `policy`. */
  readonly reason: string
}

export type SubscriptionStatus = 'subscribing' | 'catching-up' | 'live' | 'ended'

/** What a subscription tells its channel's handle. */
export interface ChannelEvents<T = unknown> {
  message: Message<T>
  gap: Gap
  status: SubscriptionStatus
  /** The server has taken the subscription, and says what becomes of the messages since the cursor. */
  subscribed: { readonly recovery: Recovery; readonly position: Position | null }
  /** Everything missed has come: `recovered` messages. */
  live: { readonly recovered: number }
}

/** The same, and what a `state` channel's handle makes its entries of, as pairs of name and value. */
export type Told = { [Name in keyof ChannelEvents]: [Name, ChannelEvents[Name]] }[keyof ChannelEvents] | ['snapshot', readonly SnapshotEntry[]]

/** What happens. Inputs of a socket carry its attempt number; those of an older one change nothing. */
export type Input =
  /** Connect, after `new` or after `suspend`. */
  | { readonly type: 'resume' }
  | { readonly type: 'suspend' }
  | { readonly type: 'stop' }
  /** The network came up, or the page became visible. */
  | { readonly type: 'wake' }
  | { readonly type: 'tick' }
  | { readonly type: 'credential'; readonly attempt: number; readonly credential: Credential | null }
  | { readonly type: 'no-credential'; readonly attempt: number; readonly reason: string; readonly retryMs?: number | undefined }
  | { readonly type: 'opened'; readonly attempt: number }
  | { readonly type: 'received'; readonly attempt: number; readonly text: string }
  | { readonly type: 'closed'; readonly attempt: number; readonly code: number; readonly reason: string }
  | { readonly type: 'subscribe'; readonly ref: number; readonly channel: string; readonly kind: ChannelKind; readonly since?: Since | undefined }
  | { readonly type: 'unsubscribe'; readonly channel: string }
  | { readonly type: 'command'; readonly ref: number; readonly command: Command; readonly timeoutMs: number }

export type Command =
  | {
      readonly type: 'publish'
      readonly channel: string
      readonly data?: unknown
      readonly key?: string | undefined
      readonly deleted?: true
      readonly message_id?: string | undefined
    }
  | { readonly type: 'request'; readonly method: string; readonly data: unknown }
  | { readonly type: 'ping' }

/** What is to be done, in order. */
export type Action =
  /** Get a credential; answer with `credential` or `no-credential`. */
  | { readonly type: 'authenticate'; readonly attempt: number; readonly tries: number; readonly reason: string }
  | { readonly type: 'open'; readonly attempt: number; readonly query: Readonly<Record<string, string>> }
  | { readonly type: 'send'; readonly attempt: number; readonly text: string }
  | { readonly type: 'close'; readonly attempt: number; readonly code: number; readonly reason: string }
  | { readonly type: 'status'; readonly change: StatusChange }
  | { readonly type: 'welcome'; readonly welcome: Welcome }
  | { readonly type: 'settle'; readonly ref: number; readonly result?: unknown; readonly error?: TidegateError }
  | { readonly type: 'channel'; readonly ref: number; readonly told: Told }
  /** The subscription is over; with an error unless it was wanted. */
  | { readonly type: 'ended'; readonly ref: number; readonly error?: TidegateError | undefined }
