// Text frame → server frames. Checks every field that the machine relies on, and names the one that is wrong.

import type { ServerFrame } from './protocol.js'

type Check = (value: unknown) => boolean

const isObject: Check = (value) => typeof value === 'object' && value !== null && !Array.isArray(value)
const isText: Check = (value) => typeof value === 'string'
const isCount: Check = (value) => Number.isSafeInteger(value) && (value as number) >= 0
const isFlag: Check = (value) => typeof value === 'boolean'
const isPosition: Check = (value) => isObject(value) && failing(value as Fields, 'epoch:s offset:i') === null
const isEntries: Check = (value) =>
  Array.isArray(value) && value.every((entry) => isObject(entry) && failing(entry as Fields, 'key:s offset:i') === null)

type Fields = Record<string, unknown>

const CHECKS: Record<string, Check> = {
  s: isText, i: isCount, b: isFlag, o: isObject, p: isPosition, e: isEntries, a: Array.isArray,
}

/** Field, kind, and `?` where it may be absent or null. A frame type that is not here is ignored, as the protocol asks. */
const SHAPES = new Map(Object.entries({
  challenge: 'connection:s nonce:s audience:s within_ms:i methods:a',
  welcome: 'connection:s node:s user:s? session:s? expires_in_ms:i? heartbeat:o limits:o reconnect:o',
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
  reauth: 'within_ms:i reason:s',
  going_away: 'reason:s reconnect_after_ms:i deadline_ms:i handover:s?',
}))

/** The first field that is not as the shape says, or null. Only own fields count. */
function failing(frame: Fields, shape: string): string | null {
  for (const rule of shape ? shape.split(' ') : []) {
    const [field, kind] = rule.split(':') as [string, string]
    const value = Object.hasOwn(frame, field) ? frame[field] : undefined
    if (kind.endsWith('?') && (value === undefined || value === null)) continue
    if (!CHECKS[kind[0]!]!(value)) return field
  }
  return null
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
    const type: unknown = isObject(item) ? (item as Fields)['type'] : null
    if (!isText(type)) throw new FrameError('type')
    const shape = SHAPES.get(type as string)
    if (shape === undefined) continue
    const field = failing(item as Fields, shape)
    if (field) throw new FrameError(`${type}.${field}`)
    frames.push(item as ServerFrame)
  }
  return frames
}
