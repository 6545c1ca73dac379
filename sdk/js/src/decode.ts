// Text frame → server frames. Checks every field that the machine relies on, and names the one that is wrong.

import type { ServerFrame } from './protocol.js'

type Fields = Record<string, unknown>
type Check = (value: unknown) => boolean

const isText: Check = (value) => typeof value === 'string'
const isCount: Check = (value) => Number.isSafeInteger(value) && (value as number) >= 0

/** An object that has these fields, and all others that are known as they should be. */
const has = (required: string): Check => (value) =>
  typeof value === 'object' && value !== null && failing(value as Fields, required) === undefined

/** What a field holds, wherever it occurs. `id` is a number in replies and a text in messages; a wrong one is only never found. */
const FIELDS: Record<string, Check> = {
  type: isText,
  channel: isText,
  kind: isText,
  recovery: isText,
  reason: isText,
  code: isText,
  message: isText,
  connection: isText,
  node: isText,
  key: isText,
  epoch: isText,
  offset: isCount,
  missed: isCount,
  from: isCount,
  to: isCount,
  retry_after_ms: isCount,
  reconnect_after_ms: isCount,
  dead_ms: isCount,
  message_bytes: isCount,
  in_flight: isCount,
  window_ms: isCount,
  base_ms: isCount,
  cap_ms: isCount,
  position: has('epoch offset'),
  entries: (value) => Array.isArray(value) && value.every(has('key offset')),
  heartbeat: has('dead_ms'),
  limits: has('message_bytes in_flight'),
  reconnect: has('window_ms base_ms cap_ms'),
}

/** The fields that a frame of each type can't do without. A type that is not here is ignored, as the protocol asks. */
const REQUIRED: Record<ServerFrame['type'], string> = {
  challenge: '',
  welcome: 'connection node heartbeat limits reconnect',
  subscribed: 'channel kind recovery',
  message: 'channel',
  snapshot: 'channel epoch offset entries',
  gap: 'channel reason',
  live: 'channel',
  unsubscribed: 'channel code',
  ok: '',
  published: '',
  response: '',
  error: 'code message',
  ping: '',
  pong: '',
  reauth: 'reason',
  going_away: 'reconnect_after_ms',
}

/** The first field that is missing or wrong. Only own fields count; null is as good as absent. */
function failing(frame: Fields, required: string): string | undefined {
  const needed = required.split(' ')
  return Object.keys(FIELDS).find((field) => {
    const value = Object.hasOwn(frame, field) ? frame[field] : null
    return value == null ? needed.includes(field) : !FIELDS[field]!(value)
  })
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
  return (Array.isArray(value) ? value : [value]).filter((frame: ServerFrame) => {
    if (!isText(frame?.type)) throw new FrameError('type')
    if (!Object.hasOwn(REQUIRED, frame.type)) return false
    const field = failing(frame as unknown as Fields, REQUIRED[frame.type])
    if (field) throw new FrameError(`${frame.type}.${field}`)
    return true
  })
}
