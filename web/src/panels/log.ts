// The build log: follows its end until the reader scrolls up; gaps and recoveries stand between the lines.

import type { Position } from '@tidegate/client'
import { LOG_LINES, type LogItem, type Totals } from '../doors.ts'
import { count, element, make, setText } from '../page.ts'

/** Pixels from the end that still count as being there. */
const NEAR_END = 24

export class Log {
  readonly #scroll = element('log-scroll')
  readonly #lines = element<HTMLOListElement>('log-lines')
  readonly #follow = element<HTMLButtonElement>('log-follow')
  #following = true
  /** Where it last stood. The event of a jump to the end comes late: further lines may be below it by then. */
  #top = 0

  constructor() {
    this.#scroll.addEventListener('scroll', () => {
      const { scrollTop, scrollHeight, clientHeight } = this.#scroll
      const isUp = scrollTop < this.#top
      this.#top = scrollTop
      if (scrollHeight - scrollTop - clientHeight < NEAR_END) this.#setFollowing(true)
      else if (isUp) this.#setFollowing(false)
    })
    this.#follow.addEventListener('click', () => {
      this.#setFollowing(true)
      this.#toEnd()
    })
  }

  show(items: readonly LogItem[], position: Position | null, totals: Totals): void {
    if (items.length) {
      this.#lines.append(...items.map(render))
      while (this.#lines.childElementCount > LOG_LINES) this.#lines.firstElementChild!.remove()
      element('log-empty').hidden = true
      if (this.#following) this.#toEnd()
    }
    setText(element('log-total'), count(totals.lines))
    setText(element('log-recovered'), count(totals.recovered))
    setText(element('log-gaps'), count(totals.gaps))
    setText(element('log-position'), position ? `${position.epoch}:${position.offset}` : '–')
  }

  #setFollowing(following: boolean): void {
    this.#following = following
    this.#follow.hidden = following
  }

  #toEnd(): void {
    this.#scroll.scrollTop = this.#scroll.scrollHeight
    this.#top = this.#scroll.scrollTop
  }
}

function render(item: LogItem): HTMLLIElement {
  if (item.type === 'line') {
    const line = make('li', /^\s*(error|warning)/.exec(item.text)?.[1] ?? '')
    line.dataset['offset'] = String(item.offset)
    line.append(make('span', 'offset', String(item.offset)), make('span', 'text', item.text))
    return line
  }
  if (item.type === 'recovered') return make('li', 'mark recovered', item.count ? `back: ${messages(item.count)} recovered` : 'back: nothing was missed')
  const { missed, from, to, reason } = item.gap
  const range = from === null ? '' : ` (${from} to ${to})`
  return make('li', 'mark gap', `gap: ${missed === null ? 'some messages' : messages(missed)} will not come${range}: ${reason}`)
}

function messages(number: number): string {
  return number === 1 ? '1 message' : `${count(number)} messages`
}
