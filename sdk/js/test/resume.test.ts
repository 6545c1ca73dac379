// Seeded worlds full of trouble, and what must hold at the end of each: nothing lost silently, nothing twice, all in order.

import { describe, expect, test } from 'vitest'
import { Bench } from './bench.js'
import { Log, World } from './world.js'

/** Steps on until everything is quiet: live, delivered and acknowledged. */
function settle(world: World): void {
  for (let n = 0; n < 3_000; n++) {
    world.step(100)
    const busy = [...world.peers.values()].some(({ toClient, open }) => !open || toClient.length)
    if (world.bench.machine.status === 'ready' && !busy) return
  }
  throw new Error(`did not come to rest: ${world.bench.machine.status}`)
}

interface Trouble {
  cuts: number
  moves: number
  epochs: number
  overflows: number
}

function live(world: World, log: Log, steps: number, { cuts, moves, epochs, overflows }: Trouble, publish: (n: number) => void): void {
  for (let n = 0; n < steps; n++) {
    if (world.chance(0.6)) publish(n)
    const peers = [...world.peers.values()]
    const peer = peers[Math.floor(world.random() * peers.length)]
    if (peer && world.chance(cuts)) world.cut(peer, world.chance(0.5) ? 1006 : 4100, '')
    else if (peer && world.chance(moves)) world.goAway(peer)
    if (world.chance(epochs)) world.newEpoch(log)
    if (world.chance(overflows)) world.overflow(log)
    world.step(Math.floor(world.random() * (world.chance(0.05) ? 3_000 : 30)))
  }
}

describe.each<[string, Trouble]>([
  ['cut connections', { cuts: 0.05, moves: 0, epochs: 0, overflows: 0 }],
  ['moves', { cuts: 0, moves: 0.1, epochs: 0, overflows: 0 }],
  ['cuts, moves, gaps and new epochs', { cuts: 0.03, moves: 0.05, epochs: 0.01, overflows: 0.02 }],
])('a log under %s', (_, trouble) => {
  test.each([['kept whole', 100_000], ['kept for 5 messages', 5]])('%s: delivered once, in order, or told missing', (_, retention) => {
    for (let seed = 1; seed <= 60; seed++) {
      const log = new Log('build:1', 'log', retention)
      const world = new World(seed, [log])
      /** Every offset that ever was in the log's first epoch. */
      const written: number[] = []
      const note = (): void => {
        if (log.epoch === 'e1') written.push(...log.entries.map(({ offset }) => offset).filter((offset) => offset > (written.at(-1) ?? 0)))
      }
      world.bench.subscribe('log', 'build:1', 'earliest')
      live(world, log, 300, trouble, (n) => (note(), world.publish(log, n), note()))
      settle(world)
      note()

      let last = 0
      const seen = new Set<number>()
      const missing: [number, number][] = []
      for (const { told } of world.bench.take('channel')) {
        if (told[0] === 'message') {
          const offset = told[1].offset!
          expect(offset, `seed ${seed}: in order, once`).toBeGreaterThan(last)
          seen.add((last = offset))
        } else if (told[0] === 'gap' && told[1].reason === 'epoch') last = 0
        else if (told[0] === 'gap') missing.push([told[1].from!, (last = Math.max(last, told[1].to!))])
      }
      expect(world.bench.machine.cursor('build:1')).toEqual({ epoch: log.epoch, offset: log.offset })
      if (trouble.epochs) continue
      // From the earliest that was kept when it first got through.
      const first = Math.min(...seen, ...missing.map(([from]) => from))
      for (const offset of written.filter((offset) => offset >= first)) {
        const told = missing.some(([from, to]) => offset >= from && offset <= to)
        expect(seen.has(offset) || told, `seed ${seed}: ${offset} is lost silently`).toBe(true)
      }
      expect(seen.size).toBeGreaterThan(20)
    }
  })
})

test('publishes are stored once each, in order, whatever happens to the connections', () => {
  for (let seed = 1; seed <= 60; seed++) {
    const log = new Log('chat:1', 'log', 100_000)
    const world = new World(seed, [log])
    let published = 0
    live(world, log, 300, { cuts: 0.05, moves: 0.05, epochs: 0, overflows: 0 }, () => world.bench.publish('chat:1', published++, 3_600_000))
    settle(world)
    world.step(100), settle(world)
    expect(world.bench.take('settle').filter(({ result }) => result)).toHaveLength(published)
    expect(log.entries.map(({ data }) => data), `seed ${seed}`).toEqual(Array.from({ length: published }, (_, n) => n))
  }
})

test.each<[string, Trouble]>([
  ['cuts', { cuts: 0.05, moves: 0, epochs: 0, overflows: 0 }],
  ['cuts, moves and new epochs', { cuts: 0.03, moves: 0.05, epochs: 0.02, overflows: 0 }],
])('a state channel under %s ends as the server has it, and never goes back', (_, trouble) => {
  for (let seed = 1; seed <= 100; seed++) {
    const board = new Log('orders:1', 'state', Infinity)
    const world = new World(seed, [board])
    world.bench.subscribe('state', 'orders:1')
    const keys = ['a', 'b', 'c', 'd', '__proto__']
    live(world, board, 200, trouble, (n) => world.publish(board, n, keys[Math.floor(world.random() * 5)]!, world.chance(0.2)))
    settle(world)
    const state = new Map<string, unknown>()
    for (const { told } of world.bench.take('channel')) {
      if (told[0] === 'snapshot') {
        // Values only grow here: a snapshot that is older than what is known would show as a smaller one.
        for (const { key, data } of told[1]) expect(data as number, `seed ${seed}: ${key} went back`).toBeGreaterThanOrEqual((state.get(key) as number) ?? 0)
        state.clear()
        for (const { key, data } of told[1]) state.set(key, data)
      } else if (told[0] === 'message') {
        const { key, data, deleted } = told[1]
        deleted ? state.delete(key!) : state.set(key!, data)
      }
    }
    expect([...state].sort(), `seed ${seed}`).toEqual([...board.state()].sort())
  }
})

describe('single frames', () => {
  const position = (offset: number, epoch = 'e'): object => ({ epoch, offset })
  const subscribed = (id: number, at: object, recovery: string): object => ({ type: 'subscribed', id, channel: 'a', kind: 'log', position: at, recovery })
  const message = (offset: number): object => ({ type: 'message', channel: 'a', offset, data: offset })

  test('an epoch that changes under a live subscription goes on where the gap says', () => {
    const bench = Bench.ready()
    bench.subscribe('log', 'a')
    bench.frame(1, subscribed(1, position(100), 'none'), { type: 'live', channel: 'a', offset: 100 })
    bench.frame(1, { type: 'gap', channel: 'a', missed: null, reason: 'epoch', position: position(7, 'f') }, message(8), message(8))
    expect(bench.told('message').map((message) => message.offset)).toEqual([8])
    expect(bench.machine.cursor('a')).toEqual(position(8, 'f'))
  })

  test('a new epoch that no gap has told is told by the client', () => {
    const bench = Bench.ready()
    bench.subscribe('log', 'a', position(100))
    bench.frame(1, subscribed(1, position(3, 'f'), 'complete'), message(3))
    expect(bench.take('channel').map(({ told }) => told[0]).slice(-2)).toEqual(['gap', 'message'])
    expect(bench.machine.cursor('a')).toEqual(position(3, 'f'))
  })

  test('the cursor of a loss in the middle of a replay is the last message, not the head', () => {
    const bench = Bench.ready()
    bench.subscribe('log', 'a', position(10))
    bench.frame(1, subscribed(1, position(50), 'complete'), message(11), message(12))
    bench.put({ type: 'closed', attempt: 1, code: 1006, reason: '' }).nextTry()
    bench.take('send')
    expect(bench.sent(bench.connect())[0]!['since']).toEqual(position(12))
  })

  test('live-only subscriptions resume too, even if nothing has come yet', () => {
    const bench = Bench.ready()
    bench.subscribe('log', 'a')
    expect(bench.sent()[0]).not.toHaveProperty('since')
    bench.frame(1, subscribed(1, position(50), 'none'))
    bench.put({ type: 'closed', attempt: 1, code: 1006, reason: '' }).nextTry()
    expect(bench.sent(bench.connect())[0]!['since']).toEqual(position(50))
  })

  test('half a snapshot is worth nothing', () => {
    const bench = Bench.ready()
    bench.subscribe('state', 'px')
    const told = { type: 'subscribed', id: 1, channel: 'px', kind: 'state', position: position(9), recovery: 'snapshot' }
    const part = { type: 'snapshot', channel: 'px', epoch: 'e', offset: 9, entries: [{ key: 'k', offset: 1, data: 1 }], more: true }
    bench.frame(1, told, part)
    bench.put({ type: 'closed', attempt: 1, code: 1006, reason: '' }).nextTry()
    expect(bench.told('snapshot')).toEqual([])
    const [again] = bench.sent(bench.connect())
    expect(again).not.toHaveProperty('since')
    bench.frame(2, { ...told, id: again!['id'] }, { ...part, entries: [], more: false })
    expect(bench.told('snapshot')).toEqual([[]])
  })

  test('a gap that begins a state anew leaves no place to go on from before its snapshot is complete', () => {
    const bench = Bench.ready()
    bench.subscribe('state', 'px')
    const snapshot = { type: 'snapshot', channel: 'px', epoch: 'e', offset: 9, entries: [], more: false }
    bench.frame(1, { type: 'subscribed', id: 1, channel: 'px', kind: 'state', position: position(9), recovery: 'none' }, snapshot)
    expect(bench.machine.cursor('px')).toEqual(position(9))
    bench.frame(1, { type: 'gap', channel: 'px', missed: null, reason: 'epoch', position: position(40, 'f') }, { ...snapshot, epoch: 'f', offset: 40, more: true })
    expect(bench.told('gap')).toHaveLength(1)
    bench.put({ type: 'closed', attempt: 1, code: 1006, reason: '' }).nextTry()
    bench.take('send')
    expect(bench.sent(bench.connect())[0]).not.toHaveProperty('since')
  })

  test('the first snapshot counts, even one that is older than the head was', () => {
    const bench = Bench.ready()
    bench.subscribe('state', 'px')
    bench.frame(1, { type: 'subscribed', id: 1, channel: 'px', kind: 'state', position: position(9), recovery: 'none' })
    bench.frame(1, { type: 'snapshot', channel: 'px', epoch: 'e', offset: 7, entries: [{ key: 'k', offset: 1, data: 1 }], more: false })
    bench.frame(1, { type: 'message', channel: 'px', key: 'k', offset: 8, data: 2 })
    expect(bench.take('channel').map(({ told }) => told[0]).slice(-2)).toEqual(['snapshot', 'message'])
  })

  test('a refusal with a time is repeated then; one without ends the subscription', () => {
    const bench = Bench.ready()
    const ref = bench.subscribe('log', 'a')
    bench.sent()
    bench.frame(1, { type: 'error', id: 1, code: 'unavailable', message: 'bus', retry_after_ms: 2_000 })
    bench.pass(1_999)
    expect(bench.sent()).toEqual([])
    bench.pass(1)
    expect(bench.sent()).toMatchObject([{ type: 'subscribe', channel: 'a' }])
    bench.frame(1, { type: 'error', id: 2, code: 'forbidden', message: 'no grant', retry_after_ms: null })
    expect(bench.take('ended')).toMatchObject([{ ref, error: { code: 'forbidden' } }])
  })

  test('a subscription that the server ends for a while comes back at its cursor; for good, it has ended', () => {
    const bench = Bench.ready()
    bench.subscribe('log', 'a')
    bench.frame(1, subscribed(1, position(5), 'none'), { type: 'live', channel: 'a', offset: 5 }, message(6))
    bench.sent()
    bench.frame(1, { type: 'unsubscribed', channel: 'a', code: 'unavailable', retry_after_ms: 500 }, message(7))
    bench.pass(500)
    expect(bench.sent()).toMatchObject([{ channel: 'a', since: position(6) }])
    bench.frame(1, subscribed(2, position(7), 'complete'), { type: 'unsubscribed', channel: 'a', code: 'revoked', retry_after_ms: null })
    expect(bench.take('ended')).toMatchObject([{ error: { code: 'revoked' } }])
  })

  test('what still comes for a subscription that was given up is not taken for the next one', () => {
    const bench = Bench.ready()
    bench.subscribe('log', 'a')
    bench.frame(1, subscribed(1, position(5), 'none'))
    bench.take('send'), bench.take('channel')
    bench.put({ type: 'unsubscribe', channel: 'a' })
    bench.subscribe('log', 'a', 'earliest')
    expect(bench.sent().map(({ type }) => type)).toEqual(['unsubscribe', 'subscribe'])
    bench.frame(1, message(6), { type: 'live', channel: 'a', offset: 6 })
    expect(bench.take('channel')).toEqual([])
  })

  test('a channel of another kind than asked for ends with the reason, and is given up at the server', () => {
    const bench = Bench.ready()
    bench.subscribe('state', 'a')
    bench.sent()
    bench.frame(1, subscribed(1, position(5), 'none'))
    expect(bench.take('ended')).toMatchObject([{ error: { code: 'wrong_kind' } }])
    expect(bench.sent()).toMatchObject([{ type: 'unsubscribe', channel: 'a' }])
  })

  test('as many subscriptions at once as the server works on, then the rest', () => {
    const bench = Bench.ready()
    for (let n = 0; n < 100; n++) bench.subscribe('event', `ev:${n}`)
    let subscribedTo = 0
    for (let sent = bench.sent(); sent.length; sent = bench.sent()) {
      expect(sent.length).toBeLessThanOrEqual(32)
      subscribedTo += sent.length
      for (const { id, channel } of sent) bench.frame(1, { type: 'subscribed', id, channel, kind: 'event', recovery: 'none' })
    }
    expect(subscribedTo).toBe(100)
  })
})
