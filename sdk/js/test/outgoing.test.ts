import { describe, expect, test } from 'vitest'
import { Bench, WELCOME, seeded } from './bench.js'
import { messageId } from '../src/message-id.js'

const lose = (bench: Bench, attempt: number): Bench => bench.put({ type: 'closed', attempt, code: 1006, reason: '' })

describe('publish', () => {
  test('carries an id of its own, and settles with the position', () => {
    const bench = Bench.ready()
    const ref = bench.publish('chat:1', { hello: 1 })
    const [frame] = bench.sent()
    expect(frame).toMatchObject({ type: 'publish', channel: 'chat:1', data: { hello: 1 } })
    expect(frame!['message_id']).toMatch(/^[0-9A-HJKMNP-TV-Z]{26}$/)
    bench.frame(1, { type: 'published', id: frame!['id'], epoch: 'e', offset: 4, duplicate: false })
    expect(bench.take('settle')).toEqual([{ type: 'settle', ref, result: { epoch: 'e', offset: 4, duplicate: false } }])
  })

  test('is repeated with the same id after a reconnect until it is acknowledged, in order', () => {
    const bench = Bench.ready()
    bench.publish('a', 1), bench.publish('a', 2)
    const first = bench.sent()
    bench.frame(1, { type: 'published', id: first[0]!['id'], epoch: null, offset: null, duplicate: false })
    lose(bench, 1)
    bench.publish('a', 3)
    expect(bench.sent()).toEqual([])
    bench.nextTry()
    const again = bench.sent(bench.connect())
    expect(again.map(({ data }) => data)).toEqual([2, 3])
    expect(again[0]!['message_id']).toBe(first[1]!['message_id'])
    bench.frame(2, { type: 'published', id: again[0]!['id'], epoch: null, offset: null, duplicate: true })
    expect(bench.take('settle').at(-1)!.result).toMatchObject({ duplicate: true })
  })

  test('fails with timeout, and says by which id it can be repeated', () => {
    const bench = Bench.ready()
    const ref = bench.publish('a', 1, 5_000)
    const [frame] = bench.sent()
    bench.pass(4_999)
    expect(bench.take('settle')).toEqual([])
    bench.pass(1)
    expect(bench.take('settle')).toMatchObject([{ ref, error: { code: 'timeout', messageId: frame!['message_id'] } }])
    // What it comes to afterwards interests nobody.
    bench.frame(1, { type: 'published', id: frame!['id'], epoch: null, offset: null, duplicate: false })
    expect(bench.take('settle')).toEqual([])
  })

  test('the queue is bounded: what is too many or too large is refused at once', () => {
    const bench = new Bench({ queue: 3 }).put({ type: 'resume' })
    for (let n = 0; n < 4; n++) bench.publish('a', n)
    expect(bench.take('settle')).toMatchObject([{ ref: 4, error: { code: 'queue_full' } }])
    const small = Bench.ready({}, { ...WELCOME, limits: { ...WELCOME.limits, message_bytes: 200 } })
    small.publish('a', 'ü'.repeat(60)), small.publish('a', 'u'.repeat(90))
    expect(small.take('settle')).toMatchObject([{ ref: 1, error: { code: 'too_large' } }])
    expect(small.sent()).toHaveLength(1)
  })

  test('an error without a time is final, with one it is repeated until the timeout', () => {
    const bench = Bench.ready()
    bench.publish('a', 1), bench.publish('a', 2, 3_000)
    const [one, two] = bench.sent()
    bench.frame(1, { type: 'error', id: one!['id'], code: 'forbidden', message: 'no', retry_after_ms: null })
    expect(bench.take('settle')).toMatchObject([{ ref: 1, error: { code: 'forbidden', message: 'no', retryAfterMs: null } }])
    bench.frame(1, { type: 'error', id: two!['id'], code: 'unavailable', message: 'bus', retry_after_ms: 2_000 })
    bench.pass(1_999)
    expect(bench.sent()).toEqual([])
    bench.pass(1)
    expect(bench.sent()).toEqual([two])
    bench.frame(1, { type: 'error', id: two!['id'], code: 'unavailable', message: 'bus', retry_after_ms: 2_000 })
    expect(bench.take('settle')).toMatchObject([{ ref: 2, error: { code: 'unavailable' } }])
  })

  test('no more are on their way than the server works on', () => {
    const bench = Bench.ready({}, { ...WELCOME, limits: { ...WELCOME.limits, in_flight: 2 } })
    for (let n = 0; n < 5; n++) bench.publish('a', n)
    const sent = bench.sent()
    expect(sent).toHaveLength(2)
    bench.frame(1, { type: 'published', id: sent[0]!['id'], epoch: null, offset: null, duplicate: false })
    expect(bench.sent().map(({ data }) => data)).toEqual([2])
  })
})

test('under a rate limit everything arrives, once, and in the order of the first refusals', () => {
  // The server's token bucket: 40 at once, then 20 a second. Refused commands name the time of the next token.
  const bench = Bench.ready()
  let tokens = 40
  let filledAt = bench.now
  const arrived: unknown[] = []
  let refusals = 0
  for (let n = 0; n < 200; n++) bench.publish('a', n, 60_000)
  for (let turns = 0; arrived.length < 200 && turns < 2_000; turns++) {
    const sent = bench.sent()
    if (!sent.length) bench.pass(10)
    for (const frame of sent) {
      tokens = Math.min(40, tokens + (bench.now - filledAt) / 50)
      filledAt = bench.now
      if (tokens >= 1) {
        tokens--
        arrived.push(frame['data'])
        bench.frame(1, { type: 'published', id: frame['id'], epoch: null, offset: null, duplicate: false })
      } else {
        refusals++
        bench.frame(1, { type: 'error', id: frame['id'], code: 'rate_limited', message: 'slow down', retry_after_ms: Math.ceil((1 - tokens) * 50) })
      }
    }
  }
  expect(arrived).toEqual(Array.from({ length: 200 }, (_, n) => n))
  // A client that does not stop when told is closed with 4102.
  expect(refusals).toBeLessThan(200)
  expect(bench.take('settle').filter(({ error }) => error)).toEqual([])
})

describe('request', () => {
  test('waits for a connection, but is never sent twice', () => {
    const bench = new Bench().put({ type: 'resume' })
    const early = bench.request('orders.list')
    bench.take('send')
    const [frame] = bench.sent(bench.connect())
    expect(frame).toEqual({ type: 'request', method: 'orders.list', data: null, id: 1 })
    bench.frame(1, { type: 'response', id: 1, data: [7] })
    expect(bench.take('settle')).toEqual([{ type: 'settle', ref: early, result: [7] }])
    const late = bench.request('orders.cancel')
    lose(bench, 1)
    expect(bench.take('settle')).toMatchObject([{ ref: late, error: { code: 'connection_lost' } }])
    bench.nextTry()
    bench.take('send')
    expect(bench.sent(bench.connect())).toEqual([])
  })

  test('is repeated after rate_limited, which did not begin it, and after nothing else', () => {
    const bench = Bench.ready()
    bench.request('a')
    bench.frame(1, { type: 'error', id: 1, code: 'rate_limited', message: '', retry_after_ms: 100 })
    bench.sent()
    bench.pass(100)
    expect(bench.sent()).toHaveLength(1)
    bench.frame(1, { type: 'error', id: 1, code: 'unavailable', message: '', retry_after_ms: 100 })
    expect(bench.take('settle')).toMatchObject([{ error: { code: 'unavailable', retryAfterMs: 100 } }])
  })
})

test('message ids sort by time and do not repeat', () => {
  const random = seeded(3)
  const ids = Array.from({ length: 2_000 }, (_, n) => messageId(1_700_000_000_000 + n * 7.5, random))
  expect(new Set(ids).size).toBe(2_000)
  const times = ids.map((id) => id.slice(0, 10))
  expect([...times].sort()).toEqual(times)
  // The figures of the ULID specification: 01ARYZ6S41 is 1469918176385.
  expect(messageId(1_469_918_176_385, random).slice(0, 10)).toBe('01ARYZ6S41')
})
