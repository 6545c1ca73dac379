// Text frame → server frames. Checks every field that the machine relies on, and names the one that is wrong.

import type { ServerFrame } from './protocol.js'

type Fields = Record<string, unknown>

const isObject = (value: unknown): value is Fields => typeof value === 'object' && value !== null && !Array.isArray(value)
const fits = (value: unknown, shape: string): boolean => isObject(value) && failing(value, shape) === undefined

/** Kinds of values: text, count, flag, position, entries of a snapshot, figures of a welcome. */
const KINDS: Record<string, (value: unknown) => boolean> = {
  s: (value) => typeof value === 'string',
  i: (value) => Number.isSafeInteger(value) && (value as number) >= 0,
  b: (value) => typeof value === 'boolean',
  p: (value) => fits(value, 'epoch:s offset:i'),
  e: (value) => Array.isArray(value) && value.every((entry) => fits(entry, 'key:s offset:i')),
  h: (value) => fits(value, 'dead_ms:i'),
  l: (value) => fits(value, 'message_bytes:i in_flight:i'),
  r: (value) => fits(value, 'window_ms:i base_ms:i cap_ms:i'),
}

/** Field, kind, and `?` where it may be absent or null. A frame type that is not here is ignored, as the protocol asks. */
const SHAPES: Record<string, string> = {
  challenge: '',
  welcome: 'connection:s node:s heartbeat:h limits:l reconnect:r',
  subscribed: 'id:i channel:s kind:s position:p? recovery:s',
  message: 'channel:s offset:i? id:s? key:s? deleted:b?',
  snapshot: 'channel:s epoch:s offset:i entries:e more:b',
  gap: 'channel:s missed:i? from:i? to:i? reason:s position:p?',
  live: 'channel:s offset:i?',
  unsubscribed: 'channel:s code:s retry_after_ms:i?',
  ok: 'id:i',
  published: 'id:i epoch:s? offset:i? duplicate:b',
  response: 'id:i',
  error: 'id:i? code:s message:s retry_after_ms:i?',
  ping: '',
  pong: '',
  reauth: 'reason:s',
  going_away: 'reconnect_after_ms:i handover:s?',
}

/** The first field that is not as the shape says. Only own fields count. */
function failing(frame: Fields, shape: string): string | undefined {
  for (const [, field, kind, optional] of shape.matchAll(/(\w+):(\w)(\??)/g)) {
    const value = Object.hasOwn(frame, field!) ? frame[field!] : null
    if (!(optional && value == null) && !KINDS[kind!]!(value)) return field
  }
  return
}

/** A frame that is not this protocol; the message names the field. */
export class FrameError extends Error {}

/** The frames in one text message, in order; types that this version does not know are left out. Throws {@link FrameError}. */
export function decode(text: string): ServerFrame[] {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw new FrameError('not JSON')
  }
  const frames: ServerFrame[] = []
  for (const item of Array.isArray(value) ? value : [value]) {
    if (!fits(item, 'type:s')) throw new FrameError('type')
    const { type } = item as ServerFrame
    if (!Object.hasOwn(SHAPES, type)) continue
    const field = failing(item as Fields, SHAPES[type]!)
    if (field) throw new FrameError(`${type}.${field}`)
    frames.push(item as ServerFrame)
  }
  return frames
}
