// Everything that can be pressed: streams, what hurts, and the copies of shell commands.

import type { Panel, ToPublisher, ToReader } from '../doors.ts'
import { PANELS } from '../doors.ts'
import { element, setText } from '../page.ts'

const OFFLINE_MS = 5_000
const BLOCK_MS = 8_000

const STREAMS: Record<Panel, string> = { board: 'orders', log: 'build', ticks: 'ticks' }

export function wireButtons(read: (message: ToReader) => void, publish: (message: ToPublisher) => void, note: (text: string) => void): void {
  wireStreams(publish)
  countDown(element<HTMLButtonElement>('drop'), OFFLINE_MS, () => {
    note(`cable pulled for ${OFFLINE_MS / 1_000} s`)
    read({ type: 'offline', ms: OFFLINE_MS })
  })
  countDown(element<HTMLButtonElement>('block'), BLOCK_MS, () => {
    note(`the socket is not read for ${BLOCK_MS / 1_000} s`)
    read({ type: 'block', ms: BLOCK_MS })
  })
  toggle(element<HTMLButtonElement>('slow'), (on) => {
    setText(element('slow-state'), on ? 'on' : 'off')
    note(on ? 'each tick now takes 400 ms to handle' : 'ticks are handled at once again')
    read({ type: 'slow', on })
  })
  for (const button of document.querySelectorAll<HTMLButtonElement>('.command button')) wireCopy(button)
}

/** A button for each stream, and one for all, which stops them as soon as all are on. Their names say what a press does. */
function wireStreams(publish: (message: ToPublisher) => void): void {
  const running = new Set<Panel>()
  const all = element<HTMLButtonElement>('all-streams')
  const name = (button: HTMLButtonElement, on: boolean, what: string): void => {
    setText(button, `${on ? 'Stop' : 'Start'} ${what}`)
    button.classList.toggle('on', on)
  }
  const set = (panel: Panel, on: boolean): void => {
    if (on === running.has(panel)) return
    if (on) running.add(panel)
    else running.delete(panel)
    publish({ type: 'stream', panel, on })
    name(element<HTMLButtonElement>(`${panel}-stream`), on, STREAMS[panel])
    name(all, running.size === PANELS.length, 'all three')
  }
  for (const panel of PANELS) element(`${panel}-stream`).addEventListener('click', () => set(panel, !running.has(panel)))
  all.addEventListener('click', () => {
    const on = running.size < PANELS.length
    for (const panel of PANELS) set(panel, on)
  })
}

function toggle(button: HTMLButtonElement, change: (on: boolean) => void): void {
  button.addEventListener('click', () => {
    const on = button.getAttribute('aria-pressed') !== 'true'
    button.setAttribute('aria-pressed', String(on))
    change(on)
  })
}

/** Shows how long it still hurts, and can't be pressed again meanwhile. */
function countDown(button: HTMLButtonElement, ms: number, start: () => void): void {
  const label = button.querySelector('span')!
  const rest = label.textContent!
  button.addEventListener('click', () => {
    if (button.getAttribute('aria-disabled') === 'true') return
    button.setAttribute('aria-disabled', 'true')
    start()
    const end = performance.now() + ms
    const timer = setInterval(() => {
      const left = end - performance.now()
      if (left > 0) return setText(label, `${Math.ceil(left / 1_000)} s left`)
      clearInterval(timer)
      button.removeAttribute('aria-disabled')
      setText(label, rest)
    }, 100)
  })
}

function wireCopy(button: HTMLButtonElement): void {
  button.addEventListener('click', async () => {
    const code = button.parentElement!.querySelector('code')!
    try {
      await navigator.clipboard.writeText(code.textContent!)
      setText(button, 'Copied')
    } catch {
      // No clipboard without permission or a secure origin: select it, so that one key copies it.
      getSelection()?.selectAllChildren(code)
      setText(button, 'Selected')
    }
    setTimeout(() => setText(button, 'Copy'), 1_500)
  })
}
