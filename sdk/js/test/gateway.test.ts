// The whole client against a real gateway: the driver, real sockets, and a gateway that is killed.

import { afterAll, beforeAll, expect, test } from 'vitest'
import WebSocket from 'ws'
import { Tidegate, type Message, type TidegateOptions } from '../src/index.js'
import { Gateway, until } from './gateway.js'

let gateway: Gateway
const open: Tidegate[] = []

beforeAll(async () => {
  gateway = await Gateway.start()
})

afterAll(async () => {
  for (const tide of open) tide.close()
  await gateway?.remove()
})

function connect(options: Partial<TidegateOptions> = {}): Tidegate {
  const tide = new Tidegate({ url: gateway.url, WebSocket, ...options })
  open.push(tide)
  return tide
}

const ready = (tide: Tidegate, timeoutMs?: number): Promise<void> => until('the client is ready', () => tide.status === 'ready', timeoutMs)

test('publish and subscribe on each kind of channel', async () => {
  const tide = connect()
  const log = tide.log<number>('build:kinds', { since: 'earliest' })
  const board = tide.state<{ n: number }>('orders:kinds')
  const ticks = tide.event<string>('demo:event:kinds')
  const seen: [string, unknown][] = []
  log.on('message', ({ data }) => seen.push(['log', data]))
  ticks.on('message', ({ data }) => seen.push(['event', data]))
  board.on('change', ({ key, value }) => seen.push([key, value]))
  await until('all are live', () => [log, board, ticks].every(({ status }) => status === 'live'))

  const first = await tide.publish('build:kinds', 1)
  expect(first).toMatchObject({ duplicate: false, offset: expect.any(Number), epoch: expect.any(String) })
  expect(await tide.publish('demo:event:kinds', 'tick')).toEqual({ epoch: null, offset: null, duplicate: false })
  await tide.publish('orders:kinds', { n: 1 }, { key: 'a' })
  await tide.publish('orders:kinds', { n: 2 }, { key: '__proto__' })
  await until('everything has come', () => seen.length === 4)
  // A channel's messages come in their order; one channel's may overtake another's.
  const of = (...names: string[]) => seen.filter(([name]) => names.includes(name))
  expect([of('log'), of('event')]).toEqual([[['log', 1]], [['event', 'tick']]])
  expect(of('a', '__proto__')).toEqual([['a', { n: 1 }], ['__proto__', { n: 2 }]])
  expect([...board]).toEqual([['a', { n: 1 }], ['__proto__', { n: 2 }]])
  expect(log.cursor).toEqual({ epoch: first.epoch, offset: first.offset })

  await tide.delete('orders:kinds', 'a')
  await until('it is deleted', () => !board.has('a'))
  const again = connect().state('orders:kinds')
  await until('a snapshot brings what is left', () => again.status === 'live')
  expect([...again.keys()]).toEqual(['__proto__'])
  expect(await tide.ping()).toBeGreaterThan(0)
  expect(tide.welcome!.connection).toBeTruthy()
})

test('the same message id is stored once', async () => {
  const tide = connect()
  const first = await tide.publish('build:once', 'x', { messageId: 'fixed-id' })
  const second = await tide.publish('build:once', 'x', { messageId: 'fixed-id' })
  expect(second).toEqual({ ...first, duplicate: true })
})

test('what may not be done is refused with its code, and the connection goes on', async () => {
  const tide = connect()
  await expect(tide.publish('secret:channel', 1)).rejects.toMatchObject({ name: 'TidegateError', code: 'forbidden', retryAfterMs: null })
  const refused = tide.log('secret:channel')
  const iteration = refused.messages()
  await expect(iteration.next()).rejects.toMatchObject({ code: 'forbidden' })
  expect(refused.status).toBe('ended')
  expect(tide.status).toBe('ready')
  await expect(tide.publish('build:large', 'x'.repeat(70_000))).rejects.toMatchObject({ code: 'too_large' })
  await expect(tide.publish('build:nothing', undefined)).rejects.toThrow(TypeError)
})

test('iteration: from the earliest, in order, until it is broken off', async () => {
  await gateway.publishAll(Array.from({ length: 50 }, (_, n) => ({ channel: 'build:iterate', data: n })))
  const tide = connect()
  const seen: number[] = []
  for await (const { data } of tide.log<number>('build:iterate', { since: 'earliest' }).messages()) {
    seen.push(data)
    if (seen.length === 50) break
  }
  expect(seen).toEqual(Array.from({ length: 50 }, (_, n) => n))
  const last: number[] = []
  const few = connect().log<number>('build:iterate', { since: { last: 5 } })
  few.on('message', ({ data }) => last.push(data))
  await until('it is live', () => few.status === 'live')
  expect(last).toEqual([45, 46, 47, 48, 49])
})

test('unsubscribed and subscribed again in one go: nothing of the old is taken for the new', async () => {
  const tide = connect()
  await tide.publish('build:again', 1)
  const seen: number[] = []
  const first = tide.log<number>('build:again', { since: 'earliest' })
  await until('it is live', () => first.status === 'live')
  first.unsubscribe()
  expect(first.status).toBe('ended')
  const second = tide.log<number>('build:again', { since: 'earliest' })
  second.on('message', ({ data }) => seen.push(data))
  expect(tide.log('build:again')).toBe(second)
  expect(() => tide.state('build:again')).toThrow(TypeError)
  await until('it is live', () => second.status === 'live')
  expect(seen).toEqual([1])
})

test('killed four times in the middle of publishing: everything acknowledged is there once, in order, and is delivered so', async () => {
  const reader = connect()
  const writer = connect()
  const seen: Message<number>[] = []
  const log = reader.log<number>('build:kill', { since: 'earliest' })
  const gaps: unknown[] = []
  log.on('message', (message) => seen.push(message))
  log.on('gap', (gap) => gaps.push(gap))
  const total = 120
  const acknowledged: number[] = []
  const publishing = (async () => {
    for (let n = 0; n < total; n++) {
      writer.publish('build:kill', n, { timeoutMs: 300_000 }).then(() => acknowledged.push(n))
      await new Promise((resolve) => setTimeout(resolve, 60))
    }
  })()
  for (let kills = 0; kills < 4; kills++) {
    await new Promise((resolve) => setTimeout(resolve, 700))
    await gateway.kill()
    await gateway.run()
    // Tries add up over the kills until a connection has been stable for a while: one wait may be the longest that there is.
    await Promise.all([ready(reader, 130_000), ready(writer, 130_000)])
  }
  await publishing
  await until('everything is acknowledged', () => acknowledged.length === total, 60_000)
  await until('everything is delivered', () => seen.length >= total, 30_000)
  expect(seen.map(({ data }) => data)).toEqual(Array.from({ length: total }, (_, n) => n))
  expect(gaps).toEqual([])
  const stored = connect().log<number>('build:kill', { since: 'earliest' })
  const all: number[] = []
  stored.on('message', ({ data }) => all.push(data))
  await until('it is live', () => stored.status === 'live')
  expect(all).toEqual(Array.from({ length: total }, (_, n) => n))
}, 400_000)

test('a credential that can not be had: waits, tells, and goes on when there is one', async () => {
  let asked = 0
  const tide = connect({
    auth: ({ attempt, reason }) => {
      asked++
      expect([attempt, reason]).toEqual([asked, asked === 1 ? 'connect' : 'reconnect'])
      if (asked < 3) throw Object.assign(new Error('the shop is shut'), { retryAfterMs: 200 })
      // Anonymous after all: what a visitor gets who is not logged in.
      return null
    },
  })
  const told: unknown[] = []
  tide.on('status', ({ status, reason }) => status === 'waiting' && told.push(reason))
  await ready(tide)
  expect(told).toHaveLength(2)
  expect(told[0]).toContain('the shop is shut')
})

test('suspended and resumed: goes on at its cursor', async () => {
  const tide = connect()
  const seen: number[] = []
  const log = tide.log<number>('build:suspend')
  log.on('message', ({ data }) => seen.push(data))
  await until('it is live', () => log.status === 'live')
  tide.suspend()
  expect(tide.status).toBe('suspended')
  await gateway.publishAll([1, 2, 3].map((data) => ({ channel: 'build:suspend', data })))
  tide.resume()
  await until('what came meanwhile is recovered', () => seen.length === 3)
  expect(seen).toEqual([1, 2, 3])
})

test('a listener that throws harms nobody', async () => {
  const tide = connect()
  const uncaught: unknown[] = []
  const listeners = process.listeners('uncaughtException')
  process.removeAllListeners('uncaughtException')
  process.on('uncaughtException', (error) => uncaught.push(error))
  try {
    const log = tide.log<number>('build:throw', { since: 'earliest' })
    const seen: number[] = []
    const off = log.on('message', () => {
      throw new Error('mine')
    })
    log.on('message', ({ data }) => seen.push(data))
    await tide.publish('build:throw', 1)
    await until('the other one is told', () => seen.length === 1)
    off()
    await tide.publish('build:throw', 2)
    await until('and goes on', () => seen.length === 2)
    expect(uncaught.map(String)).toEqual(['Error: mine'])
  } finally {
    process.removeAllListeners('uncaughtException')
    for (const listener of listeners) process.on('uncaughtException', listener)
  }
})

test('SIGTERM: moves without losing anything, or comes back after it', async () => {
  const tide = connect()
  const seen: number[] = []
  const log = tide.log<number>('build:drain', { since: 'earliest' })
  log.on('message', ({ data }) => seen.push(data))
  await until('it is live', () => log.status === 'live')
  const codes: unknown[] = []
  tide.on('status', ({ code }) => code !== undefined && codes.push(code))
  await gateway.publishAll([1, 2, 3].map((data) => ({ channel: 'build:drain', data })))
  expect(await gateway.kill('SIGTERM')).toBe(0)
  // What ends a connection that was up: the client is then waiting, or in a try that it had begun before. Tries while the
  // only node is leaving are refused with 503, which shows as 1006.
  await until('the end of the connection is told', () => codes.length > 0)
  expect(codes[0]).toBe(4000)
  await gateway.run()
  await gateway.publishAll([4, 5].map((data) => ({ channel: 'build:drain', data })))
  await until('everything has come', () => seen.length >= 5, 130_000)
  expect(seen).toEqual([1, 2, 3, 4, 5])
}, 240_000)

test('closed: pending work is told, and the process may end', async () => {
  const tide = connect({ url: 'ws://127.0.0.1:1/ws' })
  const pending = tide.publish('build:never', 1)
  const log = tide.log('build:never')
  tide.close()
  await expect(pending).rejects.toMatchObject({ code: 'stopped' })
  expect(log.status).toBe('ended')
  expect(log.error).toBeNull()
  expect(tide.status).toBe('stopped')
  await expect(tide.request('anything')).rejects.toMatchObject({ code: 'stopped' })
})
