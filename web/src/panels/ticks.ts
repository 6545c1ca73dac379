// The tick plot: a line for each source over the last seconds, and the pointers of whoever moves over it.

import type { Tick, Totals } from '../doors.ts'
import { count, element, setText } from '../page.ts'

const SPAN_MS = 20_000

/** Sources that are drawn, and points kept of each: bounds for a stranger who publishes under ever new names. */
const SOURCES = 8
const POINTS = 600

/** How long a pointer stays after its last move. */
const POINTER_MS = 4_000

/** A pause that shows as a hole. */
const HOLE_MS = 1_000

/** How often the plot moves for those who want little motion. */
const CALM_MS = 1_000

interface Source {
  readonly points: { at: number; value: number }[]
  pointer: { at: number; x: number; y: number } | null
  low: number
  high: number
}

export class Ticks {
  readonly #canvas = element<HTMLCanvasElement>('plot')
  readonly #sources = new Map<string, Source>()
  #described = 0

  constructor(point: (x: number, y: number) => void) {
    this.#canvas.addEventListener('pointermove', ({ offsetX, offsetY }) => {
      const { clientWidth, clientHeight } = this.#canvas
      point(round(offsetX / clientWidth), round(offsetY / clientHeight))
    })
    const calm = matchMedia('(prefers-reduced-motion: reduce)')
    let drawnAt = 0
    const draw = (now: number): void => {
      if (!calm.matches || now - drawnAt >= CALM_MS) {
        this.#draw()
        drawnAt = now
      }
      requestAnimationFrame(draw)
    }
    requestAnimationFrame(draw)
  }

  show(ticks: readonly Tick[], totals: Totals): void {
    const now = performance.now()
    for (const tick of ticks) this.#take(tick, now)
    setText(element('ticks-total'), count(totals.ticks))
    setText(element('ticks-missed'), count(totals.ticksMissed))
    setText(element('ticks-dropped'), count(totals.ticksDropped))
    setText(element('ticks-buffered'), count(totals.ticksBuffered))
  }

  #take({ by, value, x, y }: Tick, at: number): void {
    const name = String(by ?? '')
    const source = this.#sources.get(name) ?? { points: [], pointer: null, low: 0, high: 100 }
    if (typeof value === 'number' && Number.isFinite(value)) {
      source.points.push({ at, value })
      if (source.points.length > POINTS) source.points.shift()
    } else if (typeof x === 'number' && typeof y === 'number') source.pointer = { at, x, y }
    else return
    // The source that spoke last comes last; the one that has been silent longest makes room.
    this.#sources.delete(name)
    this.#sources.set(name, source)
    if (this.#sources.size > SOURCES) this.#sources.delete(this.#sources.keys().next().value!)
  }

  #draw(): void {
    const { clientWidth: width, clientHeight: height } = this.#canvas
    const scale = devicePixelRatio
    if (this.#canvas.width !== Math.round(width * scale)) this.#canvas.width = Math.round(width * scale)
    if (this.#canvas.height !== Math.round(height * scale)) this.#canvas.height = Math.round(height * scale)
    const context = this.#canvas.getContext('2d')!
    const style = getComputedStyle(this.#canvas)
    context.setTransform(scale, 0, 0, scale, 0, 0)
    context.clearRect(0, 0, width, height)
    context.font = `12px ${style.fontFamily}`
    this.#grid(context, width, height, style)
    const now = performance.now()
    for (const [name, source] of this.#sources) {
      const color = style.getPropertyValue(`--series-${hash(name) % 6}`)
      while (source.points[0] && source.points[0].at < now - SPAN_MS) source.points.shift()
      line(context, source, color, (at) => width - 56 - ((now - at) / SPAN_MS) * (width - 56), height)
      if (source.pointer && now - source.pointer.at < POINTER_MS) pointer(context, name, source.pointer, color, width, height)
    }
    this.#describe(now)
  }

  #grid(context: CanvasRenderingContext2D, width: number, height: number, style: CSSStyleDeclaration): void {
    context.strokeStyle = style.getPropertyValue('--line')
    context.fillStyle = style.getPropertyValue('--faint')
    context.lineWidth = 1
    context.beginPath()
    for (let n = 0; n <= 4; n++) {
      const y = Math.round(12 + ((height - 24) * n) / 4) + 0.5
      context.moveTo(0, y)
      context.lineTo(width, y)
    }
    context.stroke()
    if (![...this.#sources.values()].some(({ points }) => points.length)) {
      context.textAlign = 'center'
      context.fillText('No ticks yet. Start a stream, or send some from a shell.', width / 2, height / 2 - 8)
    }
  }

  /** What the plot shows in words, renewed rarely. */
  #describe(now: number): void {
    if (now - this.#described < 2_000) return
    this.#described = now
    const latest = [...this.#sources].filter(([, { points }]) => points.length).map(([name, { points }]) => `${name || 'unnamed'} at ${points.at(-1)!.value}`)
    this.#canvas.setAttribute('aria-label', `Ticks of the last 20 seconds: ${latest.join(', ') || 'none'}`)
  }
}

/** A line with its latest value at its end. The scale follows what is in view, slowly. */
function line(context: CanvasRenderingContext2D, source: Source, color: string, toX: (at: number) => number, height: number): void {
  const { points } = source
  const last = points.at(-1)
  if (!last) return
  const values = points.map(({ value }) => value)
  const low = Math.min(0, ...values)
  const high = Math.max(100, ...values)
  source.low += (low - source.low) * 0.1
  source.high += (high - source.high) * 0.1
  const toY = (value: number): number => height - 12 - ((value - source.low) / (source.high - source.low || 1)) * (height - 24)
  context.strokeStyle = context.fillStyle = color
  context.lineWidth = 2
  context.lineJoin = 'round'
  context.beginPath()
  let before = 0
  for (const { at, value } of points) {
    // Silence is a hole in the line, not a slope.
    if (at - before > HOLE_MS) context.moveTo(toX(at), toY(value))
    else context.lineTo(toX(at), toY(value))
    before = at
  }
  context.stroke()
  context.beginPath()
  context.arc(toX(last.at), toY(last.value), 3.5, 0, Math.PI * 2)
  context.fill()
  context.textAlign = 'left'
  context.fillText(String(last.value), Math.min(toX(last.at) + 8, context.canvas.clientWidth - 46), toY(last.value) + 4)
}

function pointer(context: CanvasRenderingContext2D, name: string, at: { x: number; y: number }, color: string, width: number, height: number): void {
  const [x, y] = [at.x * width, at.y * height]
  context.fillStyle = color
  context.beginPath()
  context.moveTo(x, y)
  context.lineTo(x, y + 15)
  context.lineTo(x + 4, y + 11)
  context.lineTo(x + 10, y + 11)
  context.fill()
  context.textAlign = 'left'
  context.fillText(name, x + 12, y + 22)
}

function hash(text: string): number {
  let sum = 0
  for (const letter of text) sum = (sum * 31 + letter.codePointAt(0)!) >>> 0
  return sum
}

function round(part: number): number {
  return Math.round(part * 1_000) / 1_000
}
