// A whole world for the machine, in virtual time and from one seed: gateways with logs, and a network that loses connections.
// It speaks the protocol's promises (positions, recoveries, gaps, dedup by message id) in the plainest way that keeps them.

import { Bench, seeded, WELCOME } from './bench.js'

interface Entry {
  offset: number
  id: string | null
  key: string | null
  data: unknown
  deleted: boolean
}

/** A channel as its broker has it. */
export class Log {
  epoch = 'e1'
  offset = 0
  entries: Entry[] = []
  #ids = new Map<string, number>()

  constructor(readonly name: string, readonly kind: 'log' | 'state', private readonly retention: number) {}

  append(entry: Omit<Entry, 'offset'>, stride: number): { offset: number; duplicate: boolean; entry?: Entry } {
    const known = entry.id === null ? undefined : this.#ids.get(entry.id)
    if (known !== undefined) return { offset: known, duplicate: true }
    this.offset += stride
    const stored = { ...entry, offset: this.offset }
    this.entries.push(stored)
    if (this.kind === 'log' && this.entries.length > this.retention) this.entries.shift()
    if (entry.id !== null) this.#ids.set(entry.id, this.offset)
    return { offset: this.offset, duplicate: false, entry: stored }
  }

  state(): Map<string, unknown> {
    const state = new Map<string, unknown>()
    for (const { key, data, deleted } of this.entries) deleted ? state.delete(key!) : state.set(key!, data)
    return state
  }

  restart(epoch: string): void {
    this.epoch = epoch
    this.offset = 0
    this.entries = []
    this.#ids.clear()
  }

  frame({ offset, id, key, data, deleted }: Entry): object {
    return { type: 'message', channel: this.name, offset, ...(id && { id }), ...(key && { key }), ...(deleted ? { deleted } : { data }) }
  }

  /** What is sent for a `subscribe`. */
  serve(id: number, since: unknown, random: () => number): object[] {
    const position = { epoch: this.epoch, offset: this.offset }
    const head = { type: 'subscribed', id, channel: this.name, kind: this.kind, position }
    const live = { type: 'live', channel: this.name, offset: this.offset }
    const from = since as { epoch: string; offset: number } | undefined
    const current = from !== undefined && typeof from === 'object' && from.epoch === this.epoch
    if (this.kind === 'state') {
      if (current && random() < 0.5) {
        const latest = new Map(this.entries.filter(({ offset }) => offset > from.offset).map((entry) => [entry.key, entry]))
        const delta = [...latest.values()].sort((a, b) => a.offset - b.offset)
        return [{ ...head, recovery: 'complete' }, ...delta.map((entry) => this.frame(entry)), live]
      }
      const entries = [...this.state()].map(([key, data]) => ({ key, offset: 1, data }))
      const cut = Math.floor(random() * (entries.length + 1))
      const part = { type: 'snapshot', channel: this.name, epoch: this.epoch, offset: this.offset }
      return [{ ...head, recovery: 'snapshot' }, { ...part, entries: entries.slice(0, cut), more: true }, { ...part, entries: entries.slice(cut), more: false }, live]
    }
    if (since === undefined) return [{ ...head, recovery: 'none' }, live]
    const kept = this.entries.map((entry) => this.frame(entry))
    if (since === 'earliest') return [{ ...head, recovery: 'complete' }, ...kept, live]
    if (!current) {
      const gap = { type: 'gap', channel: this.name, missed: null, reason: 'epoch', position: { epoch: this.epoch, offset: 0 } }
      return [{ ...head, recovery: 'gap' }, gap, ...kept, live]
    }
    const rest = this.entries.filter(({ offset }) => offset > from!.offset).map((entry) => this.frame(entry))
    const oldest = this.entries[0]?.offset ?? this.offset + 1
    const lost = oldest > from!.offset + 1 && this.entries.length === this.retention
    if (!lost) return [{ ...head, recovery: 'complete' }, ...rest, live]
    const gap = { type: 'gap', channel: this.name, missed: null, from: from!.offset + 1, to: oldest - 1, reason: 'retention' }
    return [{ ...head, recovery: 'gap' }, gap, ...rest, live]
  }
}

/** One connection at the gateway: what it has been told is on its way, and may be lost with it. */
interface Peer {
  attempt: number
  opensAt: number
  open: boolean
  toClient: object[]
  subscribed: Set<string>
}

export class World {
  readonly bench: Bench
  readonly random: () => number
  readonly peers = new Map<number, Peer>()
  #epochs = 1

  constructor(seed: number, readonly logs: Log[]) {
    this.random = seeded(seed)
    this.bench = new Bench({ random: seeded(seed + 1) }).put({ type: 'resume' })
  }

  chance(probability: number): boolean {
    return this.random() < probability
  }

  /** Publishes past the client, as a service would. */
  publish(log: Log, data: unknown, key: string | null = null, deleted = false): void {
    const { entry } = log.append({ id: null, key, data, deleted }, 1 + Math.floor(this.random() * 2))
    if (entry) this.#fanOut(log, log.frame(entry))
  }

  /** The log is lost and begins anew; whoever is subscribed is told. */
  newEpoch(log: Log): void {
    log.restart(`e${++this.#epochs}`)
    const position = { epoch: log.epoch, offset: 0 }
    this.#fanOut(log, { type: 'gap', channel: log.name, missed: null, reason: 'epoch', position })
    if (log.kind === 'state') this.#fanOut(log, { type: 'snapshot', channel: log.name, ...position, entries: [], more: false })
  }

  /** A subscriber that fell behind: some messages are left out, and it is told which. */
  overflow(log: Log): void {
    const from = log.offset + 1
    for (let n = 0; n < 3; n++) log.append({ id: null, key: null, data: 'left out', deleted: false }, 1)
    this.#fanOut(log, { type: 'gap', channel: log.name, missed: 3, from, to: log.offset, reason: 'slow' })
  }

  cut(peer: Peer, code = 1006, reason = ''): void {
    this.peers.delete(peer.attempt)
    this.bench.put({ type: 'closed', attempt: peer.attempt, code, reason })
  }

  goAway(peer: Peer): void {
    peer.toClient.push({ type: 'going_away', reason: 'drain', reconnect_after_ms: Math.floor(this.random() * 50), deadline_ms: 10_000, handover: 'H' })
  }

  /** Some time passes; what the client did is taken up, and some of what is on its way to it arrives. */
  step(ms: number): void {
    this.bench.pass(ms)
    this.#takeUp()
    for (const peer of [...this.peers.values()]) {
      if (!peer.open && this.bench.now >= peer.opensAt) {
        peer.open = true
        this.bench.put({ type: 'opened', attempt: peer.attempt })
        peer.toClient.push(WELCOME)
      }
      // A part of a queue, as batches or one by one.
      for (let n = Math.floor(this.random() * 6); n > 0 && peer.toClient.length && this.peers.has(peer.attempt); n--) {
        const frames = peer.toClient.splice(0, this.chance(0.3) ? 3 : 1)
        this.bench.put({ type: 'received', attempt: peer.attempt, text: JSON.stringify(frames.length === 1 ? frames[0] : frames) })
        this.#takeUp()
      }
    }
  }

  #takeUp(): void {
    for (const { attempt } of this.bench.take('open')) {
      const opensAt = this.bench.now + Math.floor(this.random() * 40)
      this.peers.set(attempt, { attempt, opensAt, open: false, toClient: [], subscribed: new Set() })
    }
    for (const { attempt, text } of this.bench.take('send')) {
      const peer = this.peers.get(attempt)
      if (peer) this.#command(peer, JSON.parse(text) as Record<string, any>)
    }
    for (const { attempt } of this.bench.take('close')) this.peers.delete(attempt)
  }

  #command(peer: Peer, frame: Record<string, any>): void {
    const log = this.logs.find(({ name }) => name === frame['channel'])
    if (frame['type'] === 'subscribe') {
      peer.subscribed.add(log!.name)
      peer.toClient.push(...log!.serve(frame['id'], frame['since'], this.random))
    } else if (frame['type'] === 'publish') {
      const { message_id: id, key = null, data, deleted = false } = frame
      const { entry, ...answer } = log!.append({ id, key, data, deleted }, 1)
      if (entry) this.#fanOut(log!, log!.frame(entry))
      peer.toClient.push({ type: 'published', id: frame['id'], epoch: log!.epoch, ...answer })
    }
  }

  #fanOut(log: Log, frame: object): void {
    for (const peer of this.peers.values()) if (peer.subscribed.has(log.name)) peer.toClient.push(frame)
  }
}
