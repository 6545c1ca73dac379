// When to try again: the rules of "Reconnecting" in the protocol, as a function of what happened.

import { closeClass, retryMs } from './codes.js'
import type { ReconnectSettings } from './protocol.js'

/** What ended the last connection or try. */
export interface Loss {
  readonly code: number
  readonly reason: string
  /** Whether that connection had been welcomed; a failed try had not. */
  readonly welcomed: boolean
}

/** Used until a `welcome` says otherwise; the same figures as the server's defaults. */
export const DEFAULT_RECONNECT: ReconnectSettings = { window_ms: 8_000, base_ms: 1_000, cap_ms: 60_000 }

/**
 * Milliseconds to wait before the next try, after `tries` earlier ones that did not last.
 * `random` gives numbers in [0, 1).
 */
export function retryDelayMs(loss: Loss, tries: number, settings: ReconnectSettings, random: () => number): number {
  const action = closeClass(loss.code)
  const hint = retryMs(loss.reason)
  const jittered = random() * Math.min(settings.cap_ms, settings.base_ms * 2 ** tries)
  if (hint !== null) return action === 'resume' ? hint : Math.max(hint, jittered)
  return action === 'resume' || (tries === 0 && isUnexpected(loss)) ? random() * settings.window_ms : jittered
}

/** A loss that hits everybody at once: the node or the path is gone, or the cursors are. Coded closes come one by one. */
function isUnexpected({ code, welcomed }: Loss): boolean {
  return welcomed && (code < 4000 || closeClass(code) === 'start-afresh')
}
