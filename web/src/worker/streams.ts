// Demo streams: what the page publishes on each channel while its button is on. Together under the gateway's 20 messages a second.

import type { Tidegate } from '@tidegate/client'
import { CHANNELS, type Panel } from '../doors.ts'

/** Milliseconds between two messages of each stream: 2, 2 and 8 a second, and 4 for pointers. */
const EVERY_MS = { board: 500, log: 500, ticks: 125 } as const
const POINTER_MS = 250

/** Enough of what is not acknowledged: a stream then skips its turn, as a real source would hold back. */
const UNACKNOWLEDGED = 100

const DRINKS = ['Flat white', 'Espresso', 'Oat cappuccino', 'Cold brew', 'Cortado', 'Matcha latte', 'Filter', 'Chai', 'Macchiato']
const NAMES = ['Ada', 'Barbara', 'Edsger', 'Frances', 'Grace', 'Hedy', 'Ken', 'Leslie', 'Niklaus', 'Radia', 'Tony', 'Vint']
const STAGES = ['ordered', 'brewing', 'ready'] as const
const CRATES = ['bytes', 'hashbrown', 'http', 'hyper', 'itoa', 'mio', 'parking_lot', 'rustls', 'serde', 'smallvec', 'tokio', 'tower', 'tracing']

export interface Report {
  (settled: 'sent' | 'published' | { readonly code: string; readonly message: string }): void
}

export class Streams {
  readonly #timers = new Map<Panel, ReturnType<typeof setInterval>>()
  readonly #orders = new Map<string, { drink: string; name: string; stage: number }>()
  #number = Math.floor(Math.random() * 900) + 100
  #line = 0
  #value = 50
  #pointedAt = 0
  #unacknowledged = 0

  constructor(
    private readonly tide: Tidegate,
    /** This page's name in what it publishes. */
    private readonly by: string,
    private readonly report: Report,
  ) {}

  set(panel: Panel, on: boolean): void {
    clearInterval(this.#timers.get(panel))
    this.#timers.delete(panel)
    if (!on) return
    const next = { board: () => this.#order(), log: () => this.#build(), ticks: () => this.#tick() }[panel]
    next()
    this.#timers.set(panel, setInterval(next, EVERY_MS[panel]))
  }

  /** Where the pointer is over the plot; most positions are left out. */
  point(x: number, y: number): void {
    const now = performance.now()
    if (now - this.#pointedAt < POINTER_MS) return
    this.#pointedAt = now
    this.#publish('ticks', { by: this.by, x, y })
  }

  /** A new order, or the next stage of one; what is ready is collected. */
  #order(): void {
    const open = [...this.#orders.keys()]
    const key = open[Math.floor(Math.random() * open.length)]
    if (open.length < 4 || (open.length < 9 && Math.random() < 0.3)) {
      const order = { drink: pick(DRINKS), name: pick(NAMES), stage: 0 }
      const made = `${this.by}-${this.#number++}`
      this.#orders.set(made, order)
      this.#publish('board', { drink: order.drink, name: order.name, status: STAGES[0] }, made)
    } else if (key) {
      const order = this.#orders.get(key)!
      const status = STAGES[++order.stage]
      if (status) this.#publish('board', { drink: order.drink, name: order.name, status }, key)
      else {
        this.#orders.delete(key)
        this.#settle(this.tide.delete(CHANNELS.board.name, key))
      }
    }
  }

  #build(): void {
    const turn = this.#line++ % (CRATES.length + 2)
    const crate = CRATES[turn]
    const version = `${1 + (turn % 3)}.${(turn * 7) % 20}.${(turn * 5) % 9}`
    if (crate) this.#publish('log', `   Compiling ${crate} v${version}`)
    else if (turn === CRATES.length) this.#publish('log', '    Checking tidegate v0.1.0')
    else this.#publish('log', `    Finished \`dev\` profile in ${(this.#line * 0.5).toFixed(2)}s`)
  }

  #tick(): void {
    this.#value = Math.min(98, Math.max(2, this.#value + (Math.random() - 0.5) * 9))
    this.#publish('ticks', { by: this.by, value: Math.round(this.#value * 100) / 100 })
  }

  #publish(panel: Panel, data: unknown, key?: string): void {
    if (this.#unacknowledged >= UNACKNOWLEDGED) return
    this.#settle(this.tide.publish(CHANNELS[panel].name, data, key === undefined ? {} : { key }))
  }

  #settle(published: Promise<unknown>): void {
    this.#unacknowledged++
    this.report('sent')
    published.then(() => this.report('published'), this.report).finally(() => this.#unacknowledged--)
  }
}

function pick<T>(from: readonly T[]): T {
  return from[Math.floor(Math.random() * from.length)]!
}
