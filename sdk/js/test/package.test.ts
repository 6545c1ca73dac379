// The built package: both module systems load it, its types are there for both, and it stays small.

import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, symlinkSync, mkdirSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import { build, type Rolldown } from 'vite'
import { afterAll, beforeAll, expect, test } from 'vitest'

const root = fileURLToPath(new URL('..', import.meta.url))
let consumer: string

beforeAll(() => {
  consumer = mkdtempSync(join(tmpdir(), 'tidegate-consumer-'))
  mkdirSync(join(consumer, 'node_modules/@tidegate'), { recursive: true })
  symlinkSync(root, join(consumer, 'node_modules/@tidegate/client'))
})

afterAll(() => rmSync(consumer, { recursive: true, force: true }))

const run = (name: string, code: string): string => {
  writeFileSync(join(consumer, name), code)
  return execFileSync(process.execPath, [name], { cwd: consumer, encoding: 'utf8' }).trim()
}

test('loads as an ES module and as CommonJS', () => {
  const names = 'Channel,StateChannel,Tidegate,TidegateError'
  expect(run('a.mjs', `import * as all from '@tidegate/client'; console.log(Object.keys(all).sort().join())`)).toBe(names)
  expect(run('a.cjs', `console.log(Object.keys(require('@tidegate/client')).sort().join())`)).toBe(names)
})

test('says what is missing where there is no WebSocket', () => {
  expect(run('b.mjs', `import { Tidegate } from '@tidegate/client'
    delete globalThis.WebSocket
    for (const options of [{ url: 'ws://127.0.0.1/ws' }, { url: 'not an address' }]) try { new Tidegate(options) } catch (error) { console.log(error.name) }`)).toBe('TypeError\nTypeError')
})

test.each(['mts', 'cts'])('its types resolve for a .%s file', (extension) => {
  writeFileSync(join(consumer, `types.${extension}`), `import { Tidegate, type Message, type Gap } from '@tidegate/client'
    const tide = new Tidegate({ url: 'wss://a/ws', auth: async ({ attempt, reason }) => ({ ticket: reason + attempt.toFixed() }) })
    const board = tide.state<{ n: number }>('orders:eu')
    const map: ReadonlyMap<string, { n: number }> = board
    board.on('change', ({ key, value, deleted }) => { const n: number | undefined = value?.n; void [key, n, deleted, map] })
    tide.log<string>('build:1', { since: { last: 5 } }).on('gap', (gap: Gap) => void gap.missed)
    async function read(signal: AbortSignal) {
      for await (const m of tide.event<number>('e').messages({ signal, buffer: 8, overflow: 'drop-newest' })) { const typed: Message<number> = m; void typed }
    }
    // @ts-expect-error: there is no such status
    if (tide.status === 'sleeping') void read
    // @ts-expect-error: event channels take no since
    tide.event('e', { since: 'earliest' })`)
  const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc')
  const args = [tsc, '--noEmit', '--strict', '--module', 'NodeNext', '--target', 'ES2022', '--lib', 'ES2023,DOM', `types.${extension}`]
  try {
    execFileSync(process.execPath, args, { cwd: consumer, encoding: 'utf8' })
  } catch (error) {
    throw new Error((error as { stdout: string }).stdout)
  }
}, 60_000)

test('the default entry stays within its size', async () => {
  writeFileSync(join(consumer, 'entry.mjs'), `export * from '@tidegate/client'`)
  const output = await build({
    root: consumer,
    configFile: false,
    logLevel: 'silent',
    build: { write: false, minify: 'oxc', target: 'es2022', rolldownOptions: { input: join(consumer, 'entry.mjs'), preserveEntrySignatures: 'strict' }, modulePreload: false },
  })
  const { code } = (output as Rolldown.RolldownOutput).output[0]
  const size = gzipSync(code, { level: 9 }).length
  console.info(`default entry: ${size} bytes, minified and compressed`)
  expect(size).toBeLessThanOrEqual(LIMIT)
})

/** Minified and compressed. The goal of 7 kB is not reached: no module but the two of the connection and the subscriptions is over half
    a kB. What is here must not grow unnoticed. */
const LIMIT = 8.15 * 1024

test('it has no dependencies, and nothing happens by loading it', () => {
  const { dependencies = {}, peerDependencies = {}, sideEffects } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Record<string, unknown>
  expect([dependencies, peerDependencies, sideEffects]).toEqual([{}, {}, false])
})
