import { describe, expect, test } from 'vitest'
import { Bench, WELCOME } from './bench.js'

describe('getting connected', () => {
  test('anonymous: connecting, authenticating, ready', () => {
    const bench = new Bench().put({ type: 'resume' })
    expect(bench.take('open')).toEqual([{ type: 'open', attempt: 1, query: {} }])
    bench.put({ type: 'opened', attempt: 1 }).frame(1, WELCOME)
    expect(bench.statuses()).toEqual(['connecting', 'authenticating', 'ready'])
    expect(bench.take('welcome')[0]!.welcome.connection).toBe('c1')
  })

  test('a ticket goes in the query', () => {
    const bench = new Bench({ authenticates: true }).put({ type: 'resume' })
    expect(bench.take('authenticate')).toEqual([{ type: 'authenticate', attempt: 1, tries: 1, reason: 'connect' }])
    expect(bench.take('open')).toEqual([])
    bench.put({ type: 'credential', attempt: 1, credential: { ticket: 'T' } })
    expect(bench.take('open')).toEqual([{ type: 'open', attempt: 1, query: { ticket: 'T' } }])
    expect(bench.sent()).toEqual([])
  })

  test('a token answers the challenge', () => {
    const bench = new Bench({ authenticates: true }).put({ type: 'resume' })
    bench.put({ type: 'credential', attempt: 1, credential: { token: 'J' } })
    expect(bench.take('open')[0]!.query).toEqual({})
    bench.put({ type: 'opened', attempt: 1 })
    bench.frame(1, { type: 'challenge', connection: 'c', nonce: 'n', audience: 'a', within_ms: 5000, methods: ['token'] })
    expect(bench.sent()).toEqual([{ type: 'auth', id: 1, token: 'J' }])
    bench.frame(1, { ...WELCOME, id: 1 })
    expect(bench.machine.status).toBe('ready')
  })

  test('a challenge without a token to answer with stops it', () => {
    const bench = new Bench().put({ type: 'resume' }).put({ type: 'opened', attempt: 1 })
    bench.frame(1, { type: 'challenge', connection: 'c', nonce: 'n', audience: 'a', within_ms: 5000, methods: ['token'] })
    expect(bench.take('status').at(-1)!.change).toMatchObject({ status: 'stopped', code: 4401 })
  })

  test('nothing more of a batch is handled once its connection is given up', () => {
    const bench = new Bench().put({ type: 'resume' }).put({ type: 'opened', attempt: 1 })
    const challenge = { type: 'challenge', connection: 'c', nonce: 'n', audience: 'a', within_ms: 5000, methods: ['token'] }
    bench.put({ type: 'received', attempt: 1, text: JSON.stringify([challenge, { type: 'ping' }]) })
    expect(bench.take('close')).toHaveLength(1)
    expect(bench.take('send')).toEqual([])
  })

  test('a source of credentials that fails is asked again, with growing delays and not before it says', () => {
    const bench = new Bench({ authenticates: true, random: () => 0.5 }).put({ type: 'resume' })
    bench.put({ type: 'no-credential', attempt: 1, reason: 'auth: 500' })
    expect(bench.take('status').at(-1)!.change).toEqual({ status: 'waiting', code: 1006, reason: 'auth: 500', retryMs: 500 })
    bench.nextTry()
    expect(bench.take('authenticate').at(-1)).toMatchObject({ attempt: 2, tries: 2, reason: 'reconnect' })
    bench.put({ type: 'no-credential', attempt: 2, reason: 'auth: 429', retryMs: 9_000 })
    expect(bench.take('status').at(-1)!.change.retryMs).toBe(9_000)
  })

  test.each(['credential', 'opening', 'opened'])('a try that hangs while %s is given up after 15 s', (phase) => {
    const bench = new Bench({ authenticates: true }).put({ type: 'resume' })
    if (phase !== 'credential') bench.put({ type: 'credential', attempt: 1, credential: { ticket: 'T' } })
    if (phase === 'opened') bench.put({ type: 'opened', attempt: 1 })
    bench.pass(14_999)
    expect(bench.take('close')).toEqual([])
    bench.pass(1)
    expect(bench.take('close')).toHaveLength(1)
    expect(bench.machine.status).toBe('waiting')
  })
})

describe('attempt numbers', () => {
  test('nothing that an older socket says is heard', () => {
    const bench = Bench.ready()
    bench.subscribe('log', 'a', 'earliest')
    bench.put({ type: 'closed', attempt: 1, code: 1006, reason: '' }).nextTry()
    expect(bench.connect()).toBe(2)
    bench.take('status'), bench.sent(), bench.take('channel')
    bench.frame(1, { type: 'subscribed', id: 1, channel: 'a', kind: 'log', position: { epoch: 'e', offset: 1 }, recovery: 'complete' })
    bench.frame(1, { type: 'message', channel: 'a', offset: 1, data: 1 }, { type: 'ping' })
    bench.put({ type: 'closed', attempt: 1, code: 4400, reason: 'bad_frame' })
    bench.put({ type: 'credential', attempt: 1, credential: null }).put({ type: 'opened', attempt: 7 })
    expect([bench.take('status'), bench.take('send'), bench.take('channel'), bench.take('open')]).toEqual([[], [], [], []])
    expect(bench.machine.status).toBe('ready')
  })

  test('a credential that comes after its try was given up is not used', () => {
    const bench = new Bench({ authenticates: true }).put({ type: 'resume' })
    bench.pass(15_000).nextTry()
    bench.take('open')
    bench.put({ type: 'credential', attempt: 1, credential: { ticket: 'old' } })
    expect(bench.take('open')).toEqual([])
  })
})

describe('close classes', () => {
  const close = (bench: Bench, code: number, reason = ''): void => void bench.put({ type: 'closed', attempt: bench.machine.status === 'ready' ? 1 : 0, code, reason })

  test('42xx gets a new credential at once or soon, at most three times in a row', () => {
    const bench = new Bench({ authenticates: true }).put({ type: 'resume' })
    for (let attempt = 1; attempt <= 4; attempt++) {
      const asked = bench.take('authenticate')
      expect(asked).toHaveLength(1)
      expect(asked[0]!.reason).toBe(attempt === 1 ? 'connect' : 'revoked')
      bench.put({ type: 'credential', attempt, credential: { ticket: 'T' } })
      bench.put({ type: 'closed', attempt, code: 4203, reason: 'revoked' })
      if (attempt < 4) bench.nextTry()
    }
    expect(bench.take('status').at(-1)!.change).toEqual({ status: 'stopped', code: 4203, reason: 'revoked' })
    bench.pass(3_600_000)
    expect(bench.take('authenticate')).toEqual([])
  })

  test('a session that lasts between them is not counted against it', () => {
    const bench = new Bench({ authenticates: true }).put({ type: 'resume' })
    for (let attempt = 1; attempt <= 20; attempt++) {
      bench.put({ type: 'credential', attempt, credential: { ticket: 'T' } })
      bench.connect()
      bench.pass(20_000)
      bench.put({ type: 'closed', attempt, code: 4201, reason: 'expired' }).nextTry()
    }
    expect(bench.machine.status).toBe('connecting')
  })

  test('43xx drops cursors, says that they are gone, and starts as at first', () => {
    const bench = Bench.ready()
    bench.subscribe('log', 'a', 'earliest')
    bench.subscribe('log', 'b', { epoch: 'e', offset: 3 })
    bench.frame(1, { type: 'subscribed', id: 1, channel: 'a', kind: 'log', position: { epoch: 'e', offset: 9 }, recovery: 'complete' }, { type: 'live', channel: 'a', offset: 9 })
    expect(bench.machine.cursor('a')).toEqual({ epoch: 'e', offset: 9 })
    close(bench, 4301, 'epoch_reset')
    expect(bench.told('gap').map((gap) => gap.reason)).toEqual(['epoch', 'epoch'])
    expect(bench.machine.cursor('a')).toBeNull()
    bench.nextTry()
    bench.take('send')
    expect(bench.sent(bench.connect()).map(({ channel, since }) => [channel, since])).toEqual([['a', 'earliest'], ['b', undefined]])
  })

  test('44xx and 1000 stop it: everything that waits is told, nothing is tried', () => {
    const bench = Bench.ready()
    bench.subscribe('log', 'a')
    bench.publish('a', 1)
    close(bench, 4403, 'forbidden')
    expect(bench.take('settle')[0]!.error).toMatchObject({ code: 'stopped', message: '4403 forbidden' })
    expect(bench.take('ended')[0]!.error).toMatchObject({ code: 'stopped' })
    bench.publish('a', 2)
    expect(bench.take('settle')[0]!.error!.code).toBe('stopped')
    bench.subscribe('log', 'b')
    expect(bench.take('ended')[0]!.error!.code).toBe('stopped')
    bench.put({ type: 'resume' }).put({ type: 'wake' }).pass(600_000)
    expect(bench.take('open')).toEqual([])
  })
})

describe('network-up and page-visible', () => {
  test('try at once after the path failed', () => {
    const bench = Bench.ready()
    bench.put({ type: 'closed', attempt: 1, code: 1006, reason: '' })
    bench.take('open')
    bench.put({ type: 'wake' })
    expect(bench.take('open')).toHaveLength(1)
    bench.put({ type: 'wake' })
    expect(bench.take('open')).toEqual([])
  })

  test('wait if the server caused the loss, also after a try in between has failed', () => {
    const bench = Bench.ready({ random: () => 0.9 })
    bench.put({ type: 'closed', attempt: 1, code: 4101, reason: 'overloaded;retry_ms=5000' })
    bench.take('open')
    bench.put({ type: 'wake' })
    expect(bench.take('open')).toEqual([])
    bench.nextTry()
    bench.put({ type: 'closed', attempt: 2, code: 1006, reason: '' }).take('open')
    bench.put({ type: 'wake' })
    expect(bench.take('open')).toEqual([])
  })

  test('ask a connection that looks alive whether it is', () => {
    const bench = Bench.ready()
    bench.put({ type: 'wake' }).put({ type: 'wake' })
    expect(bench.sent()).toEqual([{ type: 'ping' }])
    bench.pass(9_999)
    expect(bench.machine.status).toBe('ready')
    bench.pass(1)
    expect(bench.machine.status).toBe('waiting')
  })
})

describe('liveness', () => {
  test('an application ping is answered at once, with its n', () => {
    const bench = Bench.ready()
    bench.frame(1, { type: 'ping' }, { type: 'ping', n: [1] })
    expect(bench.sent()).toEqual([{ type: 'pong' }, { type: 'pong', n: [1] }])
  })

  test('silence for dead_ms is asked about, and only then is the connection lost', () => {
    const bench = Bench.ready()
    bench.pass(62_499)
    expect(bench.sent()).toEqual([])
    bench.pass(1)
    expect(bench.sent()).toEqual([{ type: 'ping' }])
    bench.pass(10_000)
    expect(bench.take('close')).toEqual([{ type: 'close', attempt: 1, code: 4104, reason: 'heartbeat_timeout' }])
    expect(bench.take('status').at(-1)!.change).toMatchObject({ status: 'waiting', reason: 'heartbeat_timeout' })
  })

  test('any frame counts as life, also as an answer', () => {
    const bench = Bench.ready()
    for (let n = 0; n < 20; n++) bench.pass(60_000).frame(1, { type: 'ping' })
    bench.pass(70_000).frame(1, { type: 'pong' }).pass(62_499)
    expect(bench.machine.status).toBe('ready')
    expect(bench.take('close')).toEqual([])
  })

  test('a timer that rings an hour late asks first: the page slept, the connection may live', () => {
    const bench = Bench.ready()
    bench.now += 3_600_000
    bench.put({ type: 'tick' })
    expect(bench.machine.status).toBe('ready')
    bench.frame(1, { type: 'pong' }).pass(60_000)
    expect(bench.machine.status).toBe('ready')
  })

  test('ping measures the round trip', () => {
    const bench = Bench.ready()
    bench.put({ type: 'command', ref: 9, command: { type: 'ping' }, timeoutMs: 5_000 })
    const [ping] = bench.sent()
    bench.now += 17
    bench.frame(1, { type: 'pong', n: ping!['n'] })
    expect(bench.take('settle')).toEqual([{ type: 'settle', ref: 9, result: 17 }])
  })
})

describe('authority', () => {
  test('reauth is answered on the open connection', () => {
    const bench = new Bench({ authenticates: true }).put({ type: 'resume' })
    bench.put({ type: 'credential', attempt: 1, credential: { token: 'J1' } })
    bench.connect()
    bench.take('authenticate')
    bench.frame(1, { type: 'reauth', within_ms: 30_000, reason: 'expiring', nonce: 'n' })
    expect(bench.take('authenticate')).toEqual([{ type: 'authenticate', attempt: 1, tries: 1, reason: 'expiring' }])
    bench.put({ type: 'credential', attempt: 1, credential: { token: 'J2' } })
    expect(bench.sent()).toEqual([{ type: 'auth', id: 1, token: 'J2' }])
    bench.take('welcome'), bench.take('status')
    bench.frame(1, { ...WELCOME, id: 1, user: 'u1' })
    expect(bench.take('welcome')[0]!.welcome.user).toBe('u1')
    expect(bench.take('status')).toEqual([])
  })

  test('a credential that can not be had then leaves the connection to the server', () => {
    const bench = new Bench({ authenticates: true }).put({ type: 'resume' })
    bench.put({ type: 'credential', attempt: 1, credential: null })
    bench.connect()
    bench.frame(1, { type: 'reauth', within_ms: 30_000, reason: 'expiring' })
    bench.put({ type: 'no-credential', attempt: 1, reason: 'auth: 500' })
    expect(bench.machine.status).toBe('ready')
  })
})

describe('suspending', () => {
  test('closes, keeps quiet, and goes on at the cursors', () => {
    const bench = Bench.ready()
    bench.subscribe('log', 'a')
    bench.frame(1, { type: 'subscribed', id: 1, channel: 'a', kind: 'log', position: { epoch: 'e', offset: 9 }, recovery: 'none' })
    bench.put({ type: 'suspend' })
    expect(bench.take('close')).toEqual([{ type: 'close', attempt: 1, code: 1000, reason: 'suspended' }])
    bench.take('open')
    bench.put({ type: 'wake' }).pass(3_600_000)
    expect(bench.take('open')).toEqual([])
    expect(bench.machine.deadline()).toBe(Infinity)
    bench.put({ type: 'resume' })
    bench.take('send')
    expect(bench.sent(bench.connect())).toMatchObject([{ channel: 'a', since: { epoch: 'e', offset: 9 } }])
    expect(bench.statuses().slice(-4)).toEqual(['suspended', 'connecting', 'authenticating', 'ready'])
  })
})

describe('moving', () => {
  const goingAway = (after = 0): object => ({ type: 'going_away', reason: 'drain', reconnect_after_ms: after, deadline_ms: 10_000, handover: 'H' })

  test('the second connection is opened first, takes over, and only then the first is closed', () => {
    const bench = Bench.ready()
    bench.subscribe('log', 'a')
    bench.frame(1, { type: 'subscribed', id: 1, channel: 'a', kind: 'log', position: { epoch: 'e', offset: 5 }, recovery: 'none' }, { type: 'live', channel: 'a', offset: 5 })
    bench.take('open'), bench.take('send'), bench.take('status'), bench.take('channel')
    bench.frame(1, goingAway(700)).pass(699)
    expect(bench.take('open')).toEqual([])
    bench.pass(1)
    expect(bench.take('open')).toEqual([{ type: 'open', attempt: 2, query: { handover: 'H' } }])
    // Until the second is welcome, the first does all the work.
    const published = bench.publish('a', 'x')
    const [publish] = bench.sent(1)
    bench.frame(1, { type: 'message', channel: 'a', offset: 6, data: 6 })
    bench.put({ type: 'opened', attempt: 2 }).frame(2, WELCOME)
    const [subscribe] = bench.sent(2)
    expect(subscribe).toMatchObject({ channel: 'a', since: { epoch: 'e', offset: 6 } })
    bench.frame(1, { type: 'message', channel: 'a', offset: 7, data: 7 })
    bench.frame(2, { type: 'subscribed', id: subscribe!['id'], channel: 'a', kind: 'log', position: { epoch: 'e', offset: 8 }, recovery: 'complete' })
    bench.frame(2, { type: 'message', channel: 'a', offset: 7, data: 7 }, { type: 'message', channel: 'a', offset: 8, data: 8 })
    bench.frame(1, { type: 'message', channel: 'a', offset: 8, data: 8 })
    bench.frame(2, { type: 'live', channel: 'a', offset: 8 })
    // The first still owes an answer.
    expect(bench.take('close')).toEqual([])
    bench.frame(1, { type: 'published', id: publish!['id'], epoch: 'e', offset: 9, duplicate: false })
    expect(bench.take('settle')).toMatchObject([{ ref: published, result: { offset: 9 } }])
    expect(bench.take('close')).toEqual([{ type: 'close', attempt: 1, code: 1000, reason: 'moved' }])
    expect(bench.told('message').map((message) => message.offset)).toEqual([6, 7, 8])
    expect(bench.statuses()).toEqual(['moving', 'ready'])
  })

  test('a first connection that is closed meanwhile changes nothing of the plan', () => {
    const bench = Bench.ready()
    bench.frame(1, goingAway(700))
    bench.put({ type: 'closed', attempt: 1, code: 1006, reason: '' })
    bench.take('open')
    bench.pass(699)
    expect(bench.take('open')).toEqual([])
    bench.pass(1)
    // The handover is for two connections at once; there is only one now.
    expect(bench.take('open')).toEqual([{ type: 'open', attempt: 2, query: {} }])
  })

  test('a try that fails is repeated while the first connection goes on, and its close then rules', () => {
    const bench = Bench.ready({ random: () => 0.5 })
    bench.frame(1, goingAway())
    bench.put({ type: 'closed', attempt: 2, code: 1006, reason: '' })
    expect(bench.machine.status).toBe('moving')
    bench.pass(500)
    expect(bench.take('open').at(-1)).toMatchObject({ attempt: 3, query: { handover: 'H' } })
    bench.put({ type: 'closed', attempt: 3, code: 1006, reason: '' })
    bench.put({ type: 'closed', attempt: 1, code: 4000, reason: 'draining;retry_ms=1234' })
    expect(bench.take('status').at(-1)!.change).toEqual({ status: 'waiting', code: 4000, reason: 'draining;retry_ms=1234', retryMs: 1234 })
  })

  /** Two connections at once, both serving the log `a`; the second replays from offset 5. */
  const overlapping = (): Bench => {
    const bench = Bench.ready()
    bench.subscribe('log', 'a')
    bench.frame(1, { type: 'subscribed', id: 1, channel: 'a', kind: 'log', position: { epoch: 'e', offset: 5 }, recovery: 'none' }, { type: 'live', channel: 'a', offset: 5 }, goingAway())
    bench.take('send')
    bench.put({ type: 'opened', attempt: 2 }).frame(2, WELCOME)
    const [subscribe] = bench.sent(2)
    bench.frame(2, { type: 'subscribed', id: subscribe!['id'], channel: 'a', kind: 'log', position: { epoch: 'e', offset: 9 }, recovery: 'complete' })
    return bench
  }
  const message = (offset: number): object => ({ type: 'message', channel: 'a', offset, data: offset })

  test('what the first connection leaves out, the second brings: no gap, no hole', () => {
    const bench = overlapping()
    bench.frame(2, message(6))
    bench.frame(1, { type: 'gap', channel: 'a', missed: 2, from: 7, to: 8, reason: 'slow' }, message(9))
    bench.frame(2, message(7), message(8), message(9))
    expect(bench.told('message').map((told) => told.offset)).toEqual([6, 7, 8, 9])
    expect(bench.told('gap')).toEqual([])
  })

  test('when the first closes, what is on its way over the second is not sent again, and requests there go on', () => {
    const bench = overlapping()
    bench.publish('a', 'x'), bench.request('orders.list')
    expect(bench.sent(2)).toHaveLength(2)
    bench.put({ type: 'closed', attempt: 1, code: 4000, reason: 'draining' })
    expect([bench.take('send'), bench.take('settle')]).toEqual([[], []])
    expect(bench.machine.status).toBe('ready')
  })

  test('events of both connections come once, whichever brings them', () => {
    const bench = Bench.ready()
    bench.subscribe('event', 'ev')
    const live = (id: unknown): object[] => [{ type: 'subscribed', id, channel: 'ev', kind: 'event', recovery: 'none' }, { type: 'live', channel: 'ev' }]
    bench.frame(1, ...live(1), goingAway())
    bench.take('send')
    bench.put({ type: 'opened', attempt: 2 }).frame(2, WELCOME)
    const [subscribe] = bench.sent(2)
    // Owed by the first: keeps both open for the rest of this test.
    const event = (id: string): object => ({ type: 'message', channel: 'ev', id, data: id })
    bench.frame(1, event('a'), event('b'))
    const [subscribed, nowLive] = live(subscribe!['id'])
    bench.frame(2, subscribed!, event('b'), event('c'))
    bench.frame(1, event('c'))
    bench.frame(2, nowLive!)
    bench.frame(1, event('d'))
    bench.frame(2, event('d'))
    expect(bench.told('message').map((message) => message.id)).toEqual(['a', 'b', 'c', 'd'])
  })
})
