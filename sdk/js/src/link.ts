// One connection, from the wish for a credential to its loss. What a link has been told dies with it.

import type { Credential } from './machine-io.js'
import type { SnapshotEntry } from './protocol.js'

/** Deadline for each step of a try: getting a credential, and from there to `welcome`. */
export const STEP_MS = 15_000

/** How long a probe may stay unanswered. Any frame answers it. */
export const PROBE_MS = 10_000

/** What the server has said about one channel on one link. */
export interface Served {
  /** The id of the `subscribe`. */
  readonly id: number
  state: 'asked' | 'replaying' | 'live'
  /** The epoch that offsets on this link belong to. */
  epoch: string
  /** Parts of a snapshot that is still coming. */
  entries: SnapshotEntry[]
  /** Messages between `subscribed` and `live`. */
  recovered: number
}

export interface Link {
  readonly attempt: number
  phase: 'credential' | 'opening' | 'opened' | 'ready'
  credential: Credential | null
  /** End of the step that it is in; not used once it is ready. */
  deadline: number
  readyAt: number
  heardAt: number
  /** When a probe was sent that nothing has answered yet. */
  probedAt: number | null
  readonly served: Map<string, Served>
}

export function newLink(attempt: number, now: number): Link {
  return {
    attempt,
    phase: 'credential',
    credential: null,
    deadline: now + STEP_MS,
    readyAt: 0,
    heardAt: now,
    probedAt: null,
    served: new Map(),
  }
}

/** Silence shorter than this means nothing, whatever the server says. */
const LEAST_QUIET_MS = 1_000

/** The next moment at which silence on this link means something. */
export function livenessDeadline(link: Link, quietMs: number): number {
  if (link.phase !== 'ready') return link.deadline
  return link.probedAt === null ? link.heardAt + Math.max(quietMs, LEAST_QUIET_MS) : link.probedAt + PROBE_MS
}
