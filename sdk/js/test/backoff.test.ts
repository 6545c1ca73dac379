import { expect, test } from 'vitest'
import { DEFAULT_RECONNECT, retryDelayMs } from '../src/backoff.js'
import { Bench, seeded } from './bench.js'

const lost = { code: 1006, reason: '', welcomed: true }

test('every delay lies in the interval that its rule gives, and fills it', () => {
  const random = seeded(7)
  const cases: [Parameters<typeof retryDelayMs>[0], number, number, number][] = [
    [lost, 0, 0, 8_000],
    [{ ...lost, code: 1001 }, 0, 0, 8_000],
    [{ ...lost, code: 4301, reason: 'epoch_reset' }, 0, 0, 8_000],
    [lost, 1, 0, 2_000],
    [lost, 3, 0, 8_000],
    [lost, 6, 0, 60_000],
    [lost, 5_000, 0, 60_000],
    [{ ...lost, welcomed: false }, 0, 0, 1_000],
    [{ ...lost, code: 4000, reason: 'draining' }, 9, 0, 8_000],
    [{ ...lost, code: 4000, reason: 'draining;retry_ms=3500' }, 9, 3_500, 3_500],
    [{ ...lost, code: 4101, reason: 'overloaded' }, 0, 0, 1_000],
    [{ ...lost, code: 4101, reason: 'overloaded;retry_ms=3500' }, 0, 3_500, 3_500],
    [{ ...lost, code: 4101, reason: 'overloaded;retry_ms=3500' }, 4, 3_500, 16_000],
    [{ ...lost, code: 4201, reason: 'expired' }, 0, 0, 1_000],
  ]
  for (const [loss, tries, low, high] of cases) {
    const delays = Array.from({ length: 2_000 }, () => retryDelayMs(loss, tries, DEFAULT_RECONNECT, random))
    expect(Math.min(...delays)).toBeGreaterThanOrEqual(low)
    expect(Math.max(...delays)).toBeLessThanOrEqual(high)
    expect(Math.max(...delays) - Math.min(...delays)).toBeGreaterThanOrEqual((high - low) * 0.95)
  }
})

test('the first tries of a thousand clients spread evenly over the window', () => {
  const buckets = new Array<number>(8).fill(0)
  for (let client = 0; client < 1_000; client++) {
    const bench = Bench.ready({ random: seeded(client) })
    bench.pass(60_000).put({ type: 'closed', attempt: 1, code: 1006, reason: '' })
    const { retryMs } = bench.take('status').at(-1)!.change
    buckets[Math.floor(retryMs! / 1_000)]!++
  }
  // Chi-squared with 7 degrees of freedom stays below 24.3 in 99.9 % of even spreads; the seeds are fixed.
  const chi = buckets.reduce((sum, count) => sum + (count - 125) ** 2 / 125, 0)
  expect(chi).toBeLessThan(24.3)
})

test('failing tries grow to the cap; ten stable seconds start it again, less does not', () => {
  const delays = (stableMs: number): number => {
    const bench = Bench.ready({ random: () => 0.999 })
    bench.put({ type: 'closed', attempt: 1, code: 1006, reason: '' })
    for (let n = 0; n < 4; n++) {
      bench.nextTry()
      bench.put({ type: 'closed', attempt: bench.take('open').at(-1)!.attempt, code: 1006, reason: '' })
    }
    bench.nextTry()
    const attempt = bench.connect()
    bench.pass(stableMs).take('status')
    bench.put({ type: 'closed', attempt, code: 4100, reason: 'internal' })
    return bench.take('status').at(-1)!.change.retryMs!
  }
  expect(delays(9_999)).toBe(Math.round(0.999 * 32_000))
  expect(delays(10_000)).toBe(999)
})

test('a gateway that is down for a minute sees few tries of each client', () => {
  for (let seed = 0; seed < 200; seed++) {
    const bench = Bench.ready({ random: seeded(seed) })
    bench.put({ type: 'closed', attempt: 1, code: 1006, reason: '' })
    let tries = 0
    const end = bench.now + 60_000
    while (bench.machine.deadline() < end) {
      bench.nextTry()
      for (const { attempt } of bench.take('open')) {
        tries++
        bench.put({ type: 'closed', attempt, code: 1006, reason: '' })
      }
    }
    expect(tries).toBeGreaterThan(0)
    expect(tries).toBeLessThanOrEqual(18)
  }
})
