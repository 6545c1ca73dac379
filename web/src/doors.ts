// What the page and its workers say to each other. Workers own the connections: the reader has everything that is shown, and can
// be made to suffer; the publisher has a connection of its own, as a service elsewhere would. The page only shows and asks.

import type { ChannelKind, Gap, Position, StatusChange, SubscriptionStatus } from '@tidegate/client'

/** The channels of the page, by the panel that shows them. */
export const CHANNELS = {
  board: { name: 'orders:demo', kind: 'state' },
  log: { name: 'build:demo', kind: 'log' },
  ticks: { name: 'demo:event:ticks', kind: 'event' },
} as const satisfies Record<string, { name: string; kind: ChannelKind }>

export type Panel = keyof typeof CHANNELS
export const PANELS = Object.keys(CHANNELS) as Panel[]

/** Most lines that the log panel holds, and so the most that is worth handing over at once. */
export const LOG_LINES = 2_000

/** What the log panel shows, in order. */
export type LogItem =
  | { readonly type: 'line'; readonly offset: number; readonly text: string }
  | { readonly type: 'gap'; readonly gap: Gap }
  | { readonly type: 'recovered'; readonly count: number }

export interface Tick {
  /** Which page it comes from. */
  readonly by: string
  readonly value?: number
  /** A pointer over the plot, as parts of its width and height. */
  readonly x?: number
  readonly y?: number
}

export interface BoardChange {
  readonly key: string
  readonly value?: unknown
  readonly deleted: boolean
}

/** Everything that has happened since the last one: at most one of these every few milliseconds. */
export interface Batch {
  readonly type: 'batch'
  /** All entries anew, if there was a snapshot; changes come after it. */
  readonly board: readonly (readonly [string, unknown])[] | null
  readonly changes: readonly BoardChange[]
  readonly log: readonly LogItem[]
  readonly ticks: readonly Tick[]
  readonly positions: Readonly<Partial<Record<Panel, Position | null>>>
  readonly totals: Readonly<Totals>
}

/** Counted since the page was opened. */
export interface Totals {
  lines: number
  recovered: number
  /** Gaps told on the log. */
  gaps: number
  /** Ticks that the gateway says it left out. */
  ticksMissed: number
  ticks: number
  /** Ticks that the page's own bounded buffer dropped, and how many wait in it. */
  ticksDropped: number
  ticksBuffered: number
}

export type FromReader =
  | { readonly type: 'status'; readonly change: StatusChange }
  | { readonly type: 'welcome'; readonly connection: string; readonly node: string; readonly user: string | null; readonly session: string | null }
  | { readonly type: 'subscription'; readonly panel: Panel; readonly status: SubscriptionStatus; readonly error: string | null }
  | { readonly type: 'round-trip'; readonly ms: number }
  | Batch

export interface Outcomes {
  published: number
  /** Publishes that wait for their acknowledgement. */
  unacknowledged: number
  failed: number
  /** Why the last one failed. */
  failure: string
}

export type FromPublisher = { readonly type: 'outcomes'; readonly outcomes: Readonly<Outcomes> }

export type ToPublisher =
  | { readonly type: 'connect'; readonly url: string }
  | { readonly type: 'stream'; readonly panel: Panel; readonly on: boolean }
  | { readonly type: 'pointer'; readonly x: number; readonly y: number }

export type ToReader =
  | { readonly type: 'connect'; readonly url: string }
  /** Stop everything in the worker for a while: its socket is not read. */
  | { readonly type: 'block'; readonly ms: number }
  /** Lose the connection, and every new one for a while. */
  | { readonly type: 'offline'; readonly ms: number }
  /** Handle ticks slowly. */
  | { readonly type: 'slow'; readonly on: boolean }
