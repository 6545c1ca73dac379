// The live page in a real browser, served by a real gateway: what is published is shown, what hurts heals.

import { chromium, type Browser, type Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { Gateway, until } from '../../sdk/js/test/gateway.ts'

const CHROMIUM = process.env['CHROMIUM'] ?? '/usr/bin/chromium'
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--no-first-run']

let browser: Browser
let gateway: Gateway
let page: Page
/** What the page complained about, apart from connections that were made to fail. */
let complaints: string[]

beforeAll(async () => {
  browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS })
})

afterAll(() => browser?.close())

beforeEach(async () => {
  gateway = await Gateway.start()
  complaints = []
  page = await browser.newPage({ viewport: { width: 1280, height: 900 } })
  page.on('pageerror', (error) => complaints.push(String(error)))
  page.on('console', (message) => {
    if (message.type() === 'error' && !message.text().includes('WebSocket connection')) complaints.push(message.text())
  })
  page.on('request', (request) => {
    if (!request.url().startsWith(gateway.page)) complaints.push(`asks elsewhere: ${request.url()}`)
  })
  await page.goto(gateway.page)
  await status('ready')
  for (const panel of ['board', 'log', 'ticks']) await until(`${panel} is live`, async () => (await text(`${panel}-status`)) === 'live')
})

afterEach(async () => {
  await page?.close()
  await gateway?.remove()
  expect(complaints).toEqual([])
})

const text = (testid: string): Promise<string> => page.getByTestId(testid).innerText()
const number = async (testid: string): Promise<number> => Number((await text(testid)).replaceAll(',', ''))
const status = (wanted: string): Promise<void> => until(`the status is ${wanted}`, async () => (await text('status')) === wanted)

/** The lines of the log, as they stand there. */
const lines = (): Promise<string[]> => page.locator('[data-testid=log-lines] li[data-offset] .text').allInnerTexts()
const offsets = async (): Promise<number[]> => (await page.locator('[data-testid=log-lines] .offset').allInnerTexts()).map(Number)

async function logIs(expected: string[]): Promise<void> {
  await until(`the log has ${expected.length} lines`, async () => (await lines()).length >= expected.length)
  expect(await lines()).toEqual(expected)
  const told = await offsets()
  expect(told).toEqual([...new Set(told)].sort((a, b) => a - b))
}

/** The board as keys and what stands beside them. */
const board = async (): Promise<Record<string, string>> =>
  Object.fromEntries(
    await page.locator('[data-testid=board-rows] tr').evaluateAll((rows) =>
      rows.map((row) => [(row as HTMLElement).dataset['key'], [...(row as HTMLTableRowElement).cells].slice(1, 3).map((cell) => cell.textContent).join(' | ')]),
    ),
  )
const boardIs = async (expected: Record<string, string>): Promise<void> => {
  await until(`the board is ${JSON.stringify(expected)}`, async () => JSON.stringify(await board()) === JSON.stringify(expected))
}

const numbered = (from: number, to: number): string[] => Array.from({ length: to - from + 1 }, (_, n) => `line ${from + n}`)
const toBuild = (all: string[]): Promise<void> => gateway.publishAll(all.map((data) => ({ channel: 'build:demo', data })))
const order = (key: string, state: string): object => ({ channel: 'orders:demo', key, data: { drink: 'Cortado', name: 'Ada', status: state } })

test('shows what is published over HTTP and from a shell', async () => {
  await gateway.publish(order('A-2', 'ordered'))
  await gateway.publish(order('A-1', 'ordered'))
  await gateway.publish(order('A-1', 'ready'))
  await gateway.publish({ channel: 'orders:demo', key: 'A-3', data: 7 })
  await gateway.publish({ channel: 'orders:demo', key: 'A-2', deleted: true })
  await boardIs({ 'A-1': 'Cortado for Ada | ready', 'A-3': '7 | ' })

  await gateway.publish({ channel: 'build:demo', data: 'over HTTP' })
  await gateway.command(['publish', 'build:demo'], 'from a shell\n<b>not markup</b>\n')
  await logIs(['over HTTP', 'from a shell', '<b>not markup</b>'])

  await gateway.command(['publish', 'demo:event:ticks'], Array.from({ length: 20 }, (_, n) => `${n}\n`).join(''))
  await until('20 ticks are counted', async () => (await number('ticks-total')) === 20)
  await until('the round trip is measured', async () => (await text('round-trip')).endsWith('ms'))
  expect(await text('session')).toBe('anonymous')
  expect(await text('connection')).not.toBe('–')
})

test('a gateway that is killed and started again: every line once, in order, and the board right', async () => {
  await toBuild(numbered(1, 30))
  await gateway.publish(order('A-1', 'ordered'))
  await gateway.publish(order('A-2', 'ordered'))
  await logIs(numbered(1, 30))
  await boardIs({ 'A-1': 'Cortado for Ada | ordered', 'A-2': 'Cortado for Ada | ordered' })

  await gateway.kill()
  await until('the page notices', async () => (await text('status')) !== 'ready')
  expect(await text('last-close')).toContain('1006')
  await gateway.run()
  await toBuild(numbered(31, 60))
  await gateway.publish(order('A-1', 'ready'))
  await gateway.publish({ channel: 'orders:demo', key: 'A-2', deleted: true })
  await gateway.publish(order('A-3', 'brewing'))
  await status('ready')
  await gateway.command(['publish', 'build:demo'], `${numbered(61, 80).join('\n')}\n`)

  await logIs(numbered(1, 80))
  await boardIs({ 'A-1': 'Cortado for Ada | ready', 'A-3': 'Cortado for Ada | brewing' })
  expect(await number('log-gaps')).toBe(0)
  expect(await page.locator('[data-testid=log-lines] .gap').count()).toBe(0)
})

test('pulling the cable: what came meanwhile is recovered', async () => {
  await toBuild(numbered(1, 5))
  await logIs(numbered(1, 5))
  await page.getByTestId('drop').click()
  await status('waiting')
  expect(await text('last-close')).toContain('1006')
  await toBuild(numbered(6, 25))
  await gateway.publish(order('A-1', 'brewing'))
  expect(await lines()).toHaveLength(5)
  await status('ready')
  await logIs(numbered(1, 25))
  await boardIs({ 'A-1': 'Cortado for Ada | brewing' })
  await until('20 are counted as recovered', async () => (await number('log-recovered')) === 20)
  expect(await text('journal')).toContain('20 recovered')
  await until('the button can be pressed again', async () => (await text('drop')).includes('5 s'))
})

test('not reading for 8 s: the page stays awake, and everything comes afterwards', async () => {
  await page.getByTestId('block').click()
  // Any second in the middle will do: one of them may pass unseen on a machine that is busy.
  await until('it counts down', async () => /[2-5] s left/.test(await text('block')))
  await toBuild(numbered(1, 150))
  const shown = await lines()
  // Publishing may have taken until the page reads again; then there is nothing to be seen of it.
  if (/[2-5] s left/.test(await text('block'))) expect(shown).toHaveLength(0)
  await logIs(numbered(1, 150))
  expect(await text('status')).toBe('ready')
  expect(await text('last-close')).toBe('none yet')
})

test('a slow consumer: every tick is shown, waiting, dropped here, or told as left out', async () => {
  await page.getByTestId('slow').click()
  const ticks = Array.from({ length: 200 }, (_, n) => ({ channel: 'demo:event:ticks', data: { by: 'T', value: n % 100 } }))
  await gateway.publishAll(ticks)
  await until('some are dropped', async () => (await number('ticks-dropped')) > 0)
  await page.getByTestId('slow').click()
  const counted = async (): Promise<number> => {
    const counts = await Promise.all(['ticks-total', 'ticks-dropped', 'ticks-missed', 'ticks-buffered'].map(number))
    return counts.reduce((sum, count) => sum + count)
  }
  await until('nothing waits', async () => (await number('ticks-buffered')) === 0)
  await until('all 200 are accounted for', async () => (await counted()) === 200)
})

test('the demo streams fill every panel within the rate that a session has', async () => {
  await page.getByTestId('all-streams').click()
  await until('all three move', async () => (await number('board-size')) >= 4 && (await number('log-total')) >= 8 && (await number('ticks-total')) >= 30, 30_000)
  expect(await text('publishes')).not.toContain('failed')
  for (const panel of ['board', 'log', 'ticks']) await page.getByTestId(`${panel}-stream`).click()
  await until('nothing is on the way', async () => !(await text('publishes')).includes('on the way'))
  // What was acknowledged is shown a frame later, which may be long on a machine that is busy.
  let before = await number('log-total')
  await until('nothing more is shown for a second', async () => {
    const shown = before
    await new Promise((resolve) => setTimeout(resolve, 1_000))
    before = await number('log-total')
    return before === shown
  })
  await new Promise((resolve) => setTimeout(resolve, 1_500))
  expect(await number('log-total')).toBe(before)
})

test('the log follows its end until the reader scrolls up', async () => {
  await toBuild(numbered(1, 100))
  await logIs(numbered(1, 100))
  const atEnd = (): Promise<boolean> => page.getByTestId('log-scroll').evaluate((node) => node.scrollHeight - node.scrollTop - node.clientHeight < 2)
  await until('it is at the end', atEnd)
  await page.getByTestId('log-scroll').evaluate((node) => (node.scrollTop = 0))
  await page.getByTestId('log-follow').waitFor({ state: 'visible' })
  await toBuild(numbered(101, 120))
  await logIs(numbered(1, 120))
  expect(await atEnd()).toBe(false)
  await page.getByTestId('log-follow').click()
  await until('it is at the end again', atEnd)
})

test('a line between the jump to the end and its scroll event does not look like a reader who scrolls', async () => {
  await toBuild(numbered(1, 100))
  await logIs(numbered(1, 100))
  await page.getByTestId('log-lines').evaluate((list) => {
    const observer = new MutationObserver(() => {
      observer.disconnect()
      list.append(Object.assign(document.createElement('li'), { style: 'height: 200px' }))
    })
    observer.observe(list, { childList: true })
  })
  await toBuild(numbered(101, 101))
  await until('line 101 is shown', async () => (await lines()).length === 101)
  await new Promise((resolve) => setTimeout(resolve, 200))
  expect(await page.getByTestId('log-follow').isVisible()).toBe(false)
})

test('it is a page for everybody: names, widths, and nothing from elsewhere', async () => {
  const response = await page.reload()
  expect(response!.headers()['content-security-policy']).toContain("default-src 'none'")
  for (const width of [320, 390, 768, 1024, 1920]) {
    await page.setViewportSize({ width, height: 900 })
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)
    expect(wide, `scrolls sideways at ${width}`).toBeLessThanOrEqual(0)
  }
  const nameless = await page.locator('button, canvas, [role=region]').evaluateAll((nodes) =>
    nodes.filter((node) => !(node.textContent!.trim() || node.getAttribute('aria-label') || node.getAttribute('aria-labelledby'))).map((node) => node.outerHTML),
  )
  expect(nameless).toEqual([])
  const repeated = await page.locator('[id]').evaluateAll((nodes) => nodes.map(({ id }) => id).filter((id, at, all) => all.indexOf(id) !== at))
  expect(repeated).toEqual([])
})
