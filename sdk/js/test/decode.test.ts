import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { decode, FrameError } from '../src/decode.js'
import { Bench } from './bench.js'

interface Vector {
  name: string
  from: 'server' | 'client'
  frame?: object
  raw?: string
}

const folder = new URL('../../../conformance/vectors/', import.meta.url)
const files = readdirSync(folder).filter((name) => name.endsWith('.json'))
const sets = files.map((name) => JSON.parse(readFileSync(new URL(name, folder), 'utf8')) as { name: string; vectors: Vector[] })

/** Files of vectors in the shape of messages; others in the folder have a reader of their own. */
const messages = sets.filter(({ vectors }) => vectors?.every((vector) => vector.from && (vector.frame || vector.raw)))

test('there are vectors of every frame that a server sends', () => {
  const types = messages.flatMap(({ vectors }) => vectors.filter(({ from, frame }) => from === 'server' && frame).map(({ frame }) => (frame as { type: string }).type))
  expect([...new Set(types)].sort()).toEqual([
    'challenge', 'error', 'gap', 'going_away', 'live', 'message', 'ok', 'ping', 'pong', 'published', 'reauth', 'response',
    'snapshot', 'subscribed', 'tidings', 'unsubscribed', 'welcome',
  ])
})

describe.each(messages)('$name', ({ vectors }) => {
  test.each(vectors.filter(({ from }) => from === 'server'))('$name', ({ frame, raw }) => {
    const text = raw ?? JSON.stringify(frame)
    const value: unknown = JSON.parse(text)
    const known = (Array.isArray(value) ? value : [value]).filter(({ type }) => type !== 'tidings')
    expect(decode(text)).toEqual(known)
    // And the machine takes it, whatever state it is in, without losing the connection for it.
    const bench = Bench.ready()
    bench.subscribe('log', 'orders:42')
    bench.put({ type: 'received', attempt: 1, text })
    expect(bench.take('close').filter(({ code }) => code === 4400)).toEqual([])
  })
})

test('keys that are names of built-in properties change no other object', () => {
  const bench = Bench.ready()
  bench.subscribe('state', 'px')
  bench.frame(1, { type: 'subscribed', id: 1, channel: 'px', kind: 'state', position: { epoch: 'a', offset: 0 }, recovery: 'snapshot' })
  bench.put({ type: 'received', attempt: 1, text: '{"type":"snapshot","channel":"px","epoch":"a","offset":1,"entries":[{"key":"__proto__","offset":1,"data":{"__proto__":{"polluted":true}}}],"more":false}' })
  bench.put({ type: 'received', attempt: 1, text: '{"__proto__":{"polluted":true},"type":"message","channel":"px","offset":2,"key":"constructor","data":1}' })
  expect(({} as { polluted?: boolean }).polluted).toBeUndefined()
  // A frame may not take its fields from a prototype that it brings along.
  expect(() => decode('{"__proto__":{"channel":"px"},"type":"message"}')).toThrow('message.channel')
  expect(bench.told('message')).toHaveLength(1)
})

const BAD: [string, string][] = [
  ['', 'not JSON'],
  ['{', 'not JSON'],
  ['null', 'type'],
  ['7', 'type'],
  ['{}', 'type'],
  ['[{"type":"ping"},3]', 'type'],
  ['{"type":7}', 'type'],
  ['{"type":"message"}', 'message.channel'],
  ['{"type":"message","channel":"a","offset":"1"}', 'message.offset'],
  ['{"type":"message","channel":"a","offset":1.5}', 'message.offset'],
  ['{"type":"message","channel":"a","offset":-1}', 'message.offset'],
  ['{"type":"message","channel":"a","offset":9007199254740992}', 'message.offset'],
  ['{"type":"subscribed","id":1,"channel":"a","kind":"log","position":{"epoch":1,"offset":1},"recovery":"none"}', 'subscribed.position'],
  ['{"type":"snapshot","channel":"a","epoch":"e","offset":1,"entries":[{"key":"k"}],"more":false}', 'snapshot.entries'],
  ['{"type":"snapshot","channel":"a","epoch":"e","offset":1,"entries":{},"more":false}', 'snapshot.entries'],
  ['{"type":"welcome","connection":"c","node":"n","heartbeat":null,"limits":{},"reconnect":{}}', 'welcome.heartbeat'],
  ['{"type":"going_away","reason":"drain","reconnect_after_ms":null,"deadline_ms":1}', 'going_away.reconnect_after_ms'],
]

test.each(BAD)('%s is refused and names %s', (text, named) => {
  expect(() => decode(text)).toThrow(FrameError)
  expect(() => decode(text)).toThrow(named)
  const bench = Bench.ready()
  bench.put({ type: 'received', attempt: 1, text })
  expect(bench.take('close')).toEqual([{ type: 'close', attempt: 1, code: 4400, reason: 'bad_frame' }])
  const { change } = bench.take('status').at(-1)!
  expect(change.status).toBe('waiting')
  expect(change.reason).toContain(named)
})

test('a type that is not known is ignored, even one that objects inherit', () => {
  expect(decode('[{"type":"tidings"},{"type":"constructor"},{"type":"__proto__"},{"type":"ping"}]')).toEqual([{ type: 'ping' }])
})
