// The reader: has the connection that the page shows, and can be made to suffer while the page stays awake.

import { Tidegate, type Channel, type StateChannel, type SubscriptionStatus } from '@tidegate/client'
import { CHANNELS, type FromReader, type Panel, type Tick, type ToReader } from '../doors.ts'
import { Batches } from './batch.ts'
import { PluggedWebSocket, unplug } from './unplugged.ts'

/** How often the round trip is measured. */
const PING_MS = 2_000

/** Messages of its past that the log panel asks for when the page is opened. */
const LOG_LAST = 200

/** Ticks that wait for their consumer; few, so that a slow one can be seen to overflow. */
const TICK_BUFFER = 24

/** How long the consumer takes for a tick while it is slow. */
const SLOW_MS = 400

const post = (message: FromReader): void => self.postMessage(message)

let slow = false

self.addEventListener('message', ({ data }: MessageEvent<ToReader>) => {
  if (data.type === 'connect') connect(data.url)
  else if (data.type === 'slow') slow = data.on
  else if (data.type === 'block') block(data.ms)
  else offline(data.ms)
})

function connect(url: string): void {
  const tide = new Tidegate({ url, WebSocket: PluggedWebSocket })
  tide.on('status', (change) => post({ type: 'status', change }))
  tide.on('welcome', ({ connection, node, user = null, session = null }) => post({ type: 'welcome', connection, node, user, session }))
  setInterval(() => {
    if (tide.status === 'ready') tide.ping({ timeoutMs: PING_MS * 2 }).then((ms) => post({ type: 'round-trip', ms }), () => {})
  }, PING_MS)

  const board = tide.state(CHANNELS.board.name)
  const log = tide.log(CHANNELS.log.name, { since: { last: LOG_LAST } })
  const ticks = tide.event<Tick>(CHANNELS.ticks.name)
  const batches = new Batches(post, () => ({ board: board.cursor, log: log.cursor }))
  tell('board', board)
  tell('log', log)
  tell('ticks', ticks)
  showBoard(board, batches)
  showLog(log, batches)
  void showTicks(ticks, batches)
}

/** What every kind of channel has. */
interface Subscribed {
  readonly error: Error | null
  on(name: 'status', listener: (status: SubscriptionStatus) => void): unknown
}

function tell(panel: Panel, channel: Subscribed): void {
  channel.on('status', (status) => post({ type: 'subscription', panel, status, error: channel.error?.message ?? null }))
}

function showBoard(board: StateChannel, batches: Batches): void {
  board.on('snapshot', (entries) => batches.snapshot(entries))
  board.on('change', ({ key, value, deleted }) => batches.change({ key, value, deleted }))
}

function showLog(log: Channel, batches: Batches): void {
  let resumed = false
  log.on('message', ({ data, offset = 0 }) => {
    batches.totals.lines++
    batches.log({ type: 'line', offset, text: typeof data === 'string' ? data : JSON.stringify(data) })
  })
  log.on('gap', (gap) => {
    batches.totals.gaps++
    batches.log({ type: 'gap', gap })
  })
  log.on('live', ({ recovered }) => {
    // The first time it is the past that was asked for.
    if (resumed) {
      batches.totals.recovered += recovered
      batches.log({ type: 'recovered', count: recovered })
    }
    resumed = true
  })
}

/** Takes ticks one at a time, through a small bounded buffer, as an application with work to do for each would. */
async function showTicks(channel: Channel<Tick>, batches: Batches): Promise<void> {
  const { totals } = batches
  channel.on('gap', ({ missed }) => {
    totals.ticksMissed += missed ?? 0
    batches.due()
  })
  const ticks = channel.messages({ buffer: TICK_BUFFER, overflow: 'drop-oldest' })
  for await (const { data } of ticks) {
    totals.ticks++
    totals.ticksDropped = ticks.dropped
    totals.ticksBuffered = ticks.buffered
    if (typeof data === 'object' && data !== null) batches.tick(data)
    else if (typeof data === 'number') batches.tick({ by: '', value: data })
    if (slow) await new Promise((resolve) => setTimeout(resolve, SLOW_MS))
  }
}

/** Keeps this worker from doing anything at all. Nobody reads the socket: the browser's buffers fill, then the gateway's. */
function block(ms: number): void {
  const end = performance.now() + ms
  while (performance.now() < end);
}

/** When the network is back, a browser says so, and the client tries at once. */
function offline(ms: number): void {
  unplug(ms)
  setTimeout(() => self.dispatchEvent(new Event('online')), ms)
}
