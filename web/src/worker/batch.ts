// Gathers what has come, and hands it to the page a few times a second: a fast channel must not flood it with messages.

import { LOG_LINES, type Batch, type BoardChange, type FromReader, type LogItem, type Panel, type Tick, type Totals } from '../doors.ts'
import type { Position } from '@tidegate/client'

/** How often, at most. */
const EVERY_MS = 33

/** Ticks worth drawing at once: more points than the plot has columns can't be seen. */
const TICKS = 1_000

export class Batches {
  readonly totals: Totals = {
    lines: 0, recovered: 0, gaps: 0, ticksMissed: 0, ticks: 0, ticksDropped: 0, ticksBuffered: 0,
  }
  #board: (readonly [string, unknown])[] | null = null
  #changes = new Map<string, BoardChange>()
  #log: LogItem[] = []
  #ticks: Tick[] = []
  #due = false

  constructor(
    private readonly post: (message: FromReader) => void,
    private readonly positions: () => Partial<Record<Panel, Position | null>>,
  ) {}

  snapshot(entries: Iterable<readonly [string, unknown]>): void {
    this.#board = [...entries]
    this.#changes.clear()
    this.due()
  }

  /** Only the latest of each key is worth showing. */
  change(change: BoardChange): void {
    this.#changes.delete(change.key)
    this.#changes.set(change.key, change)
    this.due()
  }

  /** More than the panel holds would scroll out before it was seen. */
  log(item: LogItem): void {
    this.#log.push(item)
    if (this.#log.length > LOG_LINES * 2) this.#log.splice(0, LOG_LINES)
    this.due()
  }

  tick(tick: Tick): void {
    this.#ticks.push(tick)
    if (this.#ticks.length > TICKS * 2) this.#ticks.splice(0, TICKS)
    this.due()
  }

  /** Something is to be handed over. */
  due(): void {
    if (this.#due) return
    this.#due = true
    setTimeout(() => this.#flush(), EVERY_MS)
  }

  #flush(): void {
    const batch: Batch = {
      type: 'batch',
      board: this.#board,
      changes: [...this.#changes.values()],
      log: this.#log.slice(-LOG_LINES),
      ticks: this.#ticks.slice(-TICKS),
      positions: this.positions(),
      totals: { ...this.totals },
    }
    this.#board = null
    this.#changes.clear()
    this.#log = []
    this.#ticks = []
    this.#due = false
    this.post(batch)
  }
}
