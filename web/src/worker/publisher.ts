// The publisher: demo streams over a connection of its own, so that what hurts the reader leaves something to be missed.

import { Tidegate } from '@tidegate/client'
import type { FromPublisher, Outcomes, ToPublisher } from '../doors.ts'
import { Streams } from './streams.ts'

/** How often the page is told what has become of the publishes, at most. */
const TELL_MS = 250

const outcomes: Outcomes = { published: 0, unacknowledged: 0, failed: 0, failure: '' }
let streams: Streams | null = null
let due = false

self.addEventListener('message', ({ data }: MessageEvent<ToPublisher>) => {
  if (data.type === 'connect') streams = new Streams(new Tidegate({ url: data.url }), randomName(), report)
  else if (data.type === 'stream') streams?.set(data.panel, data.on)
  else streams?.point(data.x, data.y)
})

function report(settled: Parameters<ConstructorParameters<typeof Streams>[2]>[0]): void {
  if (settled === 'sent') outcomes.unacknowledged++
  else {
    outcomes.unacknowledged--
    if (settled === 'published') outcomes.published++
    else {
      outcomes.failed++
      outcomes.failure = `${settled.code}: ${settled.message}`
    }
  }
  if (due) return
  due = true
  setTimeout(() => {
    due = false
    self.postMessage({ type: 'outcomes', outcomes: { ...outcomes } } satisfies FromPublisher)
  }, TELL_MS)
}

/** Three letters to tell pages apart by. */
function randomName(): string {
  return String.fromCharCode(...[...crypto.getRandomValues(new Uint8Array(3))].map((byte) => 65 + (byte % 26)))
}
