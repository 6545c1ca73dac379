// The real gateway, for tests: `tidegate dev` in a folder of its own, on ports of its own.

import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const target = fileURLToPath(new URL('../../../target/', import.meta.url))

/** TIDEGATE_BIN, else the release build, else the debug build. */
export function binary(): string {
  const candidates = [process.env['TIDEGATE_BIN'], `${target}release/tidegate`, `${target}debug/tidegate`]
  const found = candidates.find((path) => path && existsSync(path))
  if (!found) throw new Error('no gateway to test against: cargo build -p tidegate-gateway, or set TIDEGATE_BIN')
  return found
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

/** Waits until it is so, or fails saying what it waited for. */
export async function until(what: string, condition: () => boolean | Promise<boolean>, timeoutMs = 20_000): Promise<void> {
  const end = Date.now() + timeoutMs
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`not within ${timeoutMs} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 30))
  }
}

export class Gateway {
  readonly #folder = mkdtempSync(join(tmpdir(), 'tidegate-'))
  readonly #settings: Record<string, string>
  #process: ChildProcess | null = null

  private constructor(
    readonly publicPort: number,
    readonly internalPort: number,
    settings: Record<string, string>,
  ) {
    this.#settings = settings
  }

  /** Ports are only known to be free a moment before; three tries are plenty. */
  static async start(settings: Record<string, string> = {}): Promise<Gateway> {
    for (let tries = 1; ; tries++) {
      const gateway = new Gateway(await freePort(), await freePort(), settings)
      try {
        await gateway.run()
        return gateway
      } catch (error) {
        await gateway.remove()
        if (tries === 3) throw error
      }
    }
  }

  get page(): string {
    return `http://127.0.0.1:${this.publicPort}/`
  }

  get url(): string {
    return `ws://127.0.0.1:${this.publicPort}/ws`
  }

  get api(): string {
    return `http://127.0.0.1:${this.internalPort}`
  }

  /** Starts it, again after `kill`, with the same data and ports. */
  async run(): Promise<void> {
    const log = openSync(join(this.#folder, 'gateway.log'), 'a')
    const env = {
      ...process.env,
      TIDEGATE__PUBLIC__LISTEN: `127.0.0.1:${this.publicPort}`,
      TIDEGATE__INTERNAL__LISTEN: `127.0.0.1:${this.internalPort}`,
      ...this.#settings,
    }
    const child = spawn(binary(), ['dev'], { cwd: this.#folder, env, stdio: ['ignore', log, log] })
    this.#process = child
    const ready = async (): Promise<boolean> => {
      if (child.exitCode !== null) throw new Error(`the gateway ended with ${child.exitCode}:\n${this.log()}`)
      return (await fetch(`${this.api}/readyz`).catch(() => null))?.ok ?? false
    }
    await until('the gateway is ready', ready)
  }

  log(): string {
    return readFileSync(join(this.#folder, 'gateway.log'), 'utf8')
  }

  /** SIGKILL by default: no goodbye, nothing flushed. */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<number | null> {
    const child = this.#process
    this.#process = null
    if (!child || child.exitCode !== null || child.signalCode !== null) return child?.exitCode ?? null
    const ended = once(child, 'exit') as Promise<[number | null]>
    child.kill(signal)
    return (await ended)[0]
  }

  async remove(): Promise<void> {
    await this.kill()
    rmSync(this.#folder, { recursive: true, force: true })
  }

  /** Publishes over the HTTP API; the position of the message. */
  async publish(message: object): Promise<{ epoch: string | null; offset: number | null; duplicate: boolean }> {
    const response = await fetch(`${this.api}/v1/publish`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(message),
    })
    if (!response.ok) throw new Error(`publish: ${response.status} ${await response.text()}`)
    return (await response.json()) as { epoch: string | null; offset: number | null; duplicate: boolean }
  }

  /** Publishes many in one NDJSON body. */
  async publishAll(messages: object[]): Promise<void> {
    const response = await fetch(`${this.api}/v1/publish`, {
      method: 'POST',
      headers: { 'content-type': 'application/x-ndjson' },
      body: messages.map((message) => `${JSON.stringify(message)}\n`).join(''),
    })
    const results = (await response.text()).trim().split('\n').map((line) => JSON.parse(line) as { error?: unknown })
    const failed = results.filter(({ error }) => error)
    if (!response.ok || failed.length || results.length !== messages.length) throw new Error(`publish: ${response.status} ${JSON.stringify(failed)}`)
  }

  /** Runs a client command of the binary with this standard input; fails unless it exits 0. */
  async command(args: string[], input = ''): Promise<string> {
    const child = spawn(binary(), args, {
      cwd: this.#folder,
      env: { ...process.env, TIDEGATE_URL: this.url, TIDEGATE_API: this.api },
      stdio: ['pipe', 'pipe', 'pipe'],
    })
    let output = ''
    let errors = ''
    child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()))
    child.stderr.on('data', (chunk: Buffer) => (errors += chunk.toString()))
    child.stdin.end(input)
    const [code] = (await once(child, 'close')) as [number | null]
    if (code !== 0) throw new Error(`tidegate ${args.join(' ')} exited with ${code}: ${errors}`)
    return output
  }
}
