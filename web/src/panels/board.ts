// The order board: a row a key, flashing as it changes.

import type { Position } from '@tidegate/client'
import type { BoardChange } from '../doors.ts'
import { count, element, make, setText } from '../page.ts'

/** Rows that are shown; a board of thousands of keys would be no board any more. */
const ROWS = 100

interface Row {
  readonly tr: HTMLTableRowElement
  readonly what: HTMLTableCellElement
  readonly status: HTMLSpanElement
  readonly age: HTMLTableCellElement
  changedAt: number
}

export class Board {
  readonly #body = element<HTMLTableSectionElement>('board-rows')
  readonly #rows = new Map<string, Row>()
  readonly #values = new Map<string, unknown>()

  constructor() {
    setInterval(() => this.#showAges(), 1_000)
  }

  show(snapshot: readonly (readonly [string, unknown])[] | null, changes: readonly BoardChange[], position: Position | null): void {
    if (snapshot) this.#replace(new Map(snapshot))
    for (const { key, value, deleted } of changes) {
      if (deleted) this.#remove(key)
      else this.#set(key, value)
    }
    setText(element('board-size'), count(this.#values.size))
    setText(element('board-position'), position ? `${position.epoch}:${position.offset}` : '–')
    element('board-empty').hidden = this.#values.size > 0
  }

  /** Only what differs is touched, so a resume flashes what has changed meanwhile and nothing else. */
  #replace(next: Map<string, unknown>): void {
    for (const key of [...this.#values.keys()]) if (!next.has(key)) this.#remove(key)
    for (const [key, value] of next) {
      if (JSON.stringify(value) !== JSON.stringify(this.#values.get(key))) this.#set(key, value)
    }
  }

  #set(key: string, value: unknown): void {
    this.#values.set(key, value)
    const row = this.#rows.get(key) ?? this.#insert(key)
    if (!row) return
    const { what, status } = describe(value)
    setText(row.what, what)
    setText(row.status, status)
    row.status.dataset['status'] = status
    row.changedAt = Date.now()
    setText(row.age, 'now')
    for (const animation of row.tr.getAnimations()) animation.cancel()
    row.tr.classList.remove('flash')
    // The class has to be gone for a moment for its animation to run again.
    void row.tr.offsetWidth
    row.tr.classList.add('flash')
  }

  /** A row at its place in the order of keys, while there is room. */
  #insert(key: string): Row | null {
    if (this.#rows.size >= ROWS) return null
    const tr = make('tr')
    tr.dataset['key'] = key
    const head = make('th', '', key)
    head.scope = 'row'
    const what = make('td')
    const cell = make('td')
    const status = make('span', 'chip')
    cell.append(status)
    const age = make('td', 'number age')
    tr.append(head, what, cell, age)
    const after = [...this.#body.rows].find((row) => (row.dataset['key'] ?? '') > key)
    this.#body.insertBefore(tr, after ?? null)
    const row = { tr, what, status, age, changedAt: Date.now() }
    this.#rows.set(key, row)
    return row
  }

  #remove(key: string): void {
    this.#values.delete(key)
    this.#rows.get(key)?.tr.remove()
    this.#rows.delete(key)
  }

  #showAges(): void {
    const now = Date.now()
    for (const { age, changedAt } of this.#rows.values()) {
      const seconds = Math.round((now - changedAt) / 1_000)
      setText(age, seconds < 2 ? 'now' : seconds < 120 ? `${seconds} s` : `${Math.round(seconds / 60)} min`)
    }
  }
}

/** What a value says, whoever published it: the demo's orders nicely, anything else as JSON. */
function describe(value: unknown): { what: string; status: string } {
  if (typeof value !== 'object' || value === null) return { what: JSON.stringify(value) ?? '', status: '' }
  const { drink, name, status, ...rest } = value as Record<string, unknown>
  const known = [drink, name].filter((part) => typeof part === 'string').join(' for ')
  const others = Object.keys(rest).length ? JSON.stringify(rest) : ''
  return { what: [known, others].filter(Boolean).join(' '), status: typeof status === 'string' ? status : '' }
}
