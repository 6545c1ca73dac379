// A WebSocket whose cable can be pulled: what is open is lost without a goodbye, and nothing new gets through for a while.

const open = new Set<PluggedWebSocket>()
let downUntil = 0

/** Loses every connection now, and refuses new ones for so many milliseconds. */
export function unplug(ms: number): void {
  downUntil = performance.now() + ms
  for (const socket of [...open]) socket.lose()
}

/**
 * To its user it is cut off in an instant, with 1006, as by a dead network. (The real socket under it is closed properly:
 * a browser knows no other way, so the gateway sees a close where a real loss would leave it to its heartbeat.)
 */
export class PluggedWebSocket {
  onopen: ((event: never) => void) | null = null
  onmessage: ((event: never) => void) | null = null
  onclose: ((event: never) => void) | null = null
  onerror: ((event: never) => void) | null = null
  readonly #socket: WebSocket | null = null
  #lost = false

  constructor(url: string, protocols: string[]) {
    open.add(this)
    if (performance.now() < downUntil) {
      setTimeout(() => this.lose(), 50)
      return
    }
    const socket = new WebSocket(url, protocols)
    this.#socket = socket
    socket.onopen = (event) => this.#lost || this.onopen?.(event as never)
    socket.onmessage = (event) => this.#lost || this.onmessage?.(event as never)
    socket.onclose = ({ code, reason }) => this.#close(code, reason)
  }

  get readyState(): number {
    return this.#lost ? WebSocket.CLOSED : (this.#socket?.readyState ?? WebSocket.CONNECTING)
  }

  send(text: string): void {
    this.#socket?.send(text)
  }

  close(code?: number, reason?: string): void {
    this.#socket?.close(code, reason)
  }

  lose(): void {
    this.#close(1006, '')
    this.#socket?.close(1000, 'unplugged')
  }

  #close(code: number, reason: string): void {
    if (this.#lost) return
    this.#lost = true
    open.delete(this)
    this.onclose?.({ code, reason } as never)
  }
}
