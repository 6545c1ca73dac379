import { expect, test } from 'vitest'
import { Messages } from '../src/messages.js'
import { seeded } from './bench.js'

const none = (): void => {}
const ended = { value: undefined, done: true }

test('what is pushed comes out in order, before or after it is asked for', async () => {
  const messages = new Messages<number>(4, 'drop-oldest', none)
  messages.push(1)
  const early = [messages.next(), messages.next(), messages.next()]
  messages.push(2)
  messages.push(3)
  expect((await Promise.all(early)).map(({ value }) => value)).toEqual([1, 2, 3])
})

test.each(['drop-oldest', 'drop-newest', 'error'] as const)('%s: the buffer follows its model', async (overflow) => {
  for (let seed = 0; seed < 300; seed++) {
    const random = seeded(seed)
    const capacity = 1 + Math.floor(random() * 5)
    const messages = new Messages<number>(capacity, overflow, none)
    let model: number[] = []
    let dropped = 0
    let failed = false
    for (let step = 0, next = 0; step < 60 && !failed; step++) {
      if (random() < 0.6) {
        messages.push(next)
        if (model.length < capacity) model.push(next)
        else if (overflow === 'error') failed = true
        else if ((dropped++, overflow === 'drop-oldest')) model = [...model.slice(1), next]
        next++
      } else if (model.length) expect(await messages.next()).toEqual({ value: model.shift(), done: false })
      expect(messages.dropped).toBe(dropped)
      expect(messages.buffered).toBe(model.length)
    }
    for (const value of model) expect(await messages.next()).toEqual({ value, done: false })
    if (failed) await expect(messages.next()).rejects.toMatchObject({ code: 'overflow' })
    else messages.end()
    expect(await messages.next()).toEqual(ended)
  }
})

test('the end is told once, after what was buffered, and an error is thrown once', async () => {
  let ends = 0
  const messages = new Messages<number>(4, 'drop-oldest', () => ends++)
  messages.push(1)
  messages.end(new Error('gone'))
  messages.end()
  messages.push(2)
  expect(await messages.next()).toEqual({ value: 1, done: false })
  await expect(messages.next()).rejects.toThrow('gone')
  expect(await messages.next()).toEqual(ended)
  expect(ends).toBe(1)
})

test('leaving the loop ends it', async () => {
  let ends = 0
  const messages = new Messages<number>(4, 'drop-oldest', () => ends++)
  messages.push(1)
  messages.push(2)
  for await (const value of messages) if (value === 1) break
  expect(ends).toBe(1)
  expect(await messages.next()).toEqual(ended)
})

test('a waiting reader is told of the end', async () => {
  const messages = new Messages<number>(1, 'drop-oldest', none)
  const waiting = messages.next()
  messages.end()
  expect(await waiting).toEqual(ended)
  expect(() => new Messages(0, 'error', none)).toThrow(RangeError)
})
