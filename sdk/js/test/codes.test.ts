import { expect, test } from 'vitest'
import { closeClass, closeName, retryMs, saidByServer } from '../src/codes.js'
import { Bench } from './bench.js'

const CODES: [number, string, string][] = [
  [4000, 'draining', 'resume'], [4001, 'rebalance', 'resume'], [4002, 'max_age', 'resume'],
  [4100, 'internal', 'back-off'], [4101, 'overloaded', 'back-off'], [4102, 'rate_limited', 'back-off'],
  [4103, 'slow_consumer', 'back-off'], [4104, 'heartbeat_timeout', 'back-off'], [4105, 'bus_lost', 'back-off'],
  [4200, 'auth_timeout', 're-authenticate'], [4201, 'expired', 're-authenticate'],
  [4202, 'privilege_changed', 're-authenticate'], [4203, 'revoked', 're-authenticate'],
  [4300, 'session_unknown', 'start-afresh'], [4301, 'epoch_reset', 'start-afresh'],
  [4400, 'bad_frame', 'stop'], [4401, 'bad_credentials', 'stop'], [4403, 'forbidden', 'stop'],
  [4409, 'unsupported_version', 'stop'], [4429, 'quota', 'stop'],
  [1000, 'idle hard stop', 'done'], [1001, 'server draining', 'back-off'],
  [1002, 'protocol_error', 'stop'], [1003, 'unsupported_data', 'stop'], [1007, 'invalid_payload', 'stop'],
  [1008, 'client too slow', 'stop'], [1009, 'message_too_big', 'stop'],
  [1005, '', 'back-off'], [1006, '', 'back-off'], [1011, '', 'back-off'], [1012, '', 'back-off'],
  [1013, '', 'back-off'], [1014, '', 'back-off'], [4599, 'unknown', 'back-off'], [3000, 'unknown', 'back-off'],
]

test.each(CODES)('%i %s: %s', (code, reason, expected) => {
  expect(closeClass(code)).toBe(expected)
  // The whole client does what the class says.
  const bench = Bench.ready({ authenticates: false })
  bench.put({ type: 'closed', attempt: 1, code, reason })
  const last = bench.take('status').at(-1)!.change
  expect(last).toMatchObject({ status: expected === 'stop' || expected === 'done' ? 'stopped' : 'waiting', code, reason })
  bench.pass(600_000)
  expect(bench.take('open').length > 0).toBe(last.status === 'waiting')
})

test('any code of a hundred that this version does not know belongs to its class', () => {
  for (const [from, expected] of [[4003, 'resume'], [4199, 'back-off'], [4250, 're-authenticate'], [4399, 'start-afresh'], [4450, 'stop']] as const) {
    expect(closeClass(from)).toBe(expected)
  }
})

test('retry_ms is read from the reason, and nothing else is', () => {
  expect(retryMs('draining;retry_ms=3500')).toBe(3500)
  expect(retryMs('draining;retry_ms=0')).toBe(0)
  expect(retryMs('draining;retry_ms=12;more=1')).toBe(12)
  for (const none of ['', 'draining', 'retry_ms=5', 'x;retry_ms=', 'x;retry_ms=-1', 'x;retry_ms=1e9', 'x;retry_ms=99999999999']) {
    expect(retryMs(none)).toBeNull()
  }
  expect(closeName('revoked;retry_ms=1')).toBe('revoked')
})

test('only a code that was sent counts as said by the server', () => {
  expect([1001, 1011, 1014, 4000, 4103].every(saidByServer)).toBe(true)
  expect([1005, 1006, 1015].some(saidByServer)).toBe(false)
})
