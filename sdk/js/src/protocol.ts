// Shapes of the wire protocol, version 1, as they are in JSON. The field names are those of the wire.

/** A place in a channel's history: after the message with this offset, in this life (epoch) of its log. */
export interface Position {
  readonly epoch: string
  /** Strictly increasing within an epoch, not necessarily dense; an integer below 2^53. */
  readonly offset: number
}

/** What a channel promises: `event` may lose (and says so), `log` loses nothing, `state` keeps the latest of each key. */
export type ChannelKind = 'event' | 'log' | 'state'

/** From where a subscription is served. `earliest` and `last` are for `log`; `event` channels take none. */
export type Since = Position | 'earliest' | { readonly last: number }

/** What becomes of the messages since the cursor: none asked, all follow, a snapshot follows, a gap is told first. */
export type Recovery = 'none' | 'complete' | 'snapshot' | 'gap'

export interface Welcome {
  readonly type: 'welcome'
  readonly connection: string
  readonly node: string
  readonly user?: string | null
  readonly session?: string | null
  readonly expires_in_ms?: number | null
  readonly heartbeat: { readonly app_ping_ms?: number | null; readonly dead_ms: number }
  readonly limits: { readonly message_bytes: number; readonly subscriptions: number; readonly in_flight: number }
  readonly reconnect: ReconnectSettings
}

/** How a client spreads its tries: the first within the window, later ones by full jitter from base to cap. */
export interface ReconnectSettings {
  readonly window_ms: number
  readonly base_ms: number
  readonly cap_ms: number
}

export interface MessageFrame {
  readonly type: 'message'
  readonly channel: string
  readonly offset?: number | null
  readonly id?: string | null
  readonly key?: string | null
  readonly data?: unknown
  readonly deleted?: boolean | null
}

export interface SnapshotEntry {
  readonly key: string
  readonly offset: number
  readonly data: unknown
}

export interface SubscribedFrame {
  readonly type: 'subscribed'
  readonly id: number
  readonly channel: string
  readonly kind: ChannelKind
  readonly position?: Position | null
  readonly recovery: Recovery
}

export interface SnapshotFrame {
  readonly type: 'snapshot'
  readonly channel: string
  readonly epoch: string
  readonly offset: number
  readonly entries: readonly SnapshotEntry[]
  readonly more: boolean
}

export interface GapFrame {
  readonly type: 'gap'
  readonly channel: string
  readonly missed?: number | null
  readonly from?: number | null
  readonly to?: number | null
  readonly reason: string
  readonly position?: Position | null
}

export interface LiveFrame {
  readonly type: 'live'
  readonly channel: string
  readonly offset?: number | null
}

export interface UnsubscribedFrame {
  readonly type: 'unsubscribed'
  readonly channel: string
  readonly code: string
  readonly retry_after_ms?: number | null
}

export type ChannelFrame = SubscribedFrame | MessageFrame | SnapshotFrame | GapFrame | LiveFrame | UnsubscribedFrame

export type ReplyFrame =
  | { readonly type: 'ok'; readonly id: number }
  | {
      readonly type: 'published'
      readonly id: number
      readonly epoch?: string | null
      readonly offset?: number | null
      readonly duplicate: boolean
    }
  | { readonly type: 'response'; readonly id: number; readonly data: unknown }
  | ErrorFrame

export interface ErrorFrame {
  readonly type: 'error'
  readonly id?: number | null
  readonly code: string
  readonly message: string
  readonly retry_after_ms?: number | null
}

export interface GoingAwayFrame {
  readonly type: 'going_away'
  readonly reason: string
  readonly reconnect_after_ms: number
  readonly deadline_ms: number
  readonly handover?: string | null
}

export type ServerFrame =
  | {
      readonly type: 'challenge'
      readonly connection: string
      readonly nonce: string
      readonly audience: string
      readonly within_ms: number
      readonly methods: readonly string[]
    }
  | Welcome
  | ChannelFrame
  | ReplyFrame
  | { readonly type: 'ping'; readonly n?: unknown }
  | { readonly type: 'pong'; readonly n?: unknown }
  | { readonly type: 'reauth'; readonly within_ms: number; readonly reason: string; readonly nonce?: string | null }
  | GoingAwayFrame
