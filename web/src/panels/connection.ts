// The connection in facts, and the journal of what happened to it and what the client did.

import type { StatusChange } from '@tidegate/client'
import type { FromReader, LogItem, Outcomes } from '../doors.ts'
import { count, element, make, setText } from '../page.ts'

/** Lines that the journal keeps. */
const ENTRIES = 50

/** The classes of close codes, in words: what the client does about each. */
const CLASSES: Record<number, string> = {
  40: 'resumes elsewhere',
  41: 'backs off',
  42: 'gets a new credential',
  43: 'starts afresh',
  44: 'stops',
}

export class Connection {
  readonly #pill = element('status')
  readonly #journal = element<HTMLOListElement>('journal')
  #lostAt = 0

  status({ status, code, reason, retryMs }: StatusChange): void {
    setText(this.#pill, status)
    this.#pill.dataset['status'] = status
    if (status === 'waiting' || status === 'stopped') {
      this.#lostAt ||= performance.now()
      const did = status === 'stopped' ? 'stops' : (CLASSES[Math.floor((code ?? 0) / 100)] ?? 'backs off')
      const when = status === 'stopped' ? '' : `, tries in ${seconds(retryMs ?? 0)}`
      const cause = reason || (code === 1006 ? 'lost without a goodbye' : 'no reason given')
      setText(element('last-close'), `${code} → ${did}`)
      element('last-close').title = cause
      this.note(`${code} ${cause} → ${did}${when}`, status === 'stopped' ? 'bad' : 'warn')
    } else if (status === 'moving') this.note('asked to leave: opens the next connection before it closes this one', 'warn')
    else if (status === 'ready') {
      this.note(this.#lostAt ? `ready again after ${seconds(performance.now() - this.#lostAt)}` : 'ready', 'good')
      this.#lostAt = 0
    }
    if (status !== 'ready') setText(element('round-trip'), '–')
  }

  welcome({ connection, node, user, session }: Extract<FromReader, { type: 'welcome' }>): void {
    setText(element('connection'), connection)
    setText(element('node'), node)
    setText(element('session'), session ?? user ?? 'anonymous')
  }

  roundTrip(ms: number): void {
    setText(element('round-trip'), ms < 10 ? `${ms.toFixed(1)} ms` : `${Math.round(ms)} ms`)
  }

  /** What each resume brought, beside the time it took. */
  recovered(items: readonly LogItem[]): void {
    for (const item of items) {
      if (item.type === 'recovered') this.note(`build log resumed at its cursor: ${count(item.count)} missed, ${count(item.count)} recovered`, 'good')
      else if (item.type === 'gap') this.note(`build log: a gap was told (${item.gap.reason})`, 'bad')
    }
  }

  outcomes({ published, unacknowledged, failed, failure }: Outcomes): void {
    const parts = [`${count(published)} published`]
    if (unacknowledged) parts.push(`${count(unacknowledged)} on the way`)
    if (failed) parts.push(`${count(failed)} failed (${failure})`)
    setText(element('publishes'), parts.join(', '))
  }

  note(text: string, mood: 'good' | 'warn' | 'bad' | 'plain' = 'plain'): void {
    const entry = make('li', mood)
    const time = make('time', '', new Date().toLocaleTimeString('en-GB'))
    entry.append(time, make('span', '', text))
    this.#journal.prepend(entry)
    while (this.#journal.childElementCount > ENTRIES) this.#journal.lastElementChild!.remove()
  }
}

function seconds(ms: number): string {
  return ms < 950 ? `${Math.round(ms)} ms` : `${(ms / 1_000).toFixed(1)} s`
}
