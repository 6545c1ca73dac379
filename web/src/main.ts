// The page: starts the workers, and shows what they say.

import type { FromPublisher, FromReader, ToPublisher, ToReader } from './doors.ts'
import { element, setText } from './page.ts'
import { Board } from './panels/board.ts'
import { wireButtons } from './panels/buttons.ts'
import { Connection } from './panels/connection.ts'
import { Log } from './panels/log.ts'
import { Ticks } from './panels/ticks.ts'

const url = new URL('ws', location.href).href
const reader = new Worker(new URL('./worker/reader.ts', import.meta.url), { type: 'module' })
const read = (message: ToReader): void => reader.postMessage(message)
let publisher: Worker | null = null

const board = new Board()
const log = new Log()
const ticks = new Ticks((x, y) => publish({ type: 'pointer', x, y }))
const connection = new Connection()
wireButtons(read, publish, (text) => connection.note(text))

reader.addEventListener('message', ({ data }: MessageEvent<FromReader>) => {
  switch (data.type) {
    case 'batch':
      board.show(data.board, data.changes, data.positions.board ?? null)
      log.show(data.log, data.positions.log ?? null, data.totals)
      ticks.show(data.ticks, data.totals)
      return connection.recovered(data.log)
    case 'status':
      return connection.status(data.change)
    case 'welcome':
      return connection.welcome(data)
    case 'round-trip':
      return connection.roundTrip(data.ms)
    case 'subscription': {
      const badge = element(`${data.panel}-status`)
      setText(badge, data.status)
      badge.dataset['status'] = data.status
      if (data.error) connection.note(`${data.panel}: ${data.error}`, 'bad')
    }
  }
})
reader.addEventListener('error', ({ message }) => connection.note(`the reader failed: ${message}`, 'bad'))
read({ type: 'connect', url })

/** A second connection, once there is something to publish. */
function publish(message: ToPublisher): void {
  if (!publisher) {
    publisher = new Worker(new URL('./worker/publisher.ts', import.meta.url), { type: 'module' })
    publisher.addEventListener('message', ({ data }: MessageEvent<FromPublisher>) => connection.outcomes(data.outcomes))
    publisher.addEventListener('error', ({ message }) => connection.note(`the publisher failed: ${message}`, 'bad'))
    publisher.postMessage({ type: 'connect', url } satisfies ToPublisher)
  }
  publisher.postMessage(message)
}
