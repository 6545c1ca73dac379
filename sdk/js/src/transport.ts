// One WebSocket: addressed, opened, and listened to. Nothing of it is left to guess by the machine.

/** The part of a WebSocket class that is used: browsers', Node's own, and the `ws` package's fit. */
export type WebSocketConstructor = new (url: string, protocols: string[]) => {
  onopen: ((event: never) => void) | null
  onmessage: ((event: never) => void) | null
  onclose: ((event: never) => void) | null
  onerror: ((event: never) => void) | null
  readonly readyState: number
  send(text: string): void
  close(code?: number, reason?: string): void
}

export interface Socket {
  send(text: string): void
  close(code: number, reason: string): void
}

export interface SocketEvents {
  opened(): void
  received(text: string): void
  closed(code: number, reason: string): void
}

const SUBPROTOCOL = 'tidegate.v1.json'
const OPEN = 1

/** The class to make sockets of. */
export function webSocketClass(given: WebSocketConstructor | undefined): WebSocketConstructor {
  const found = given ?? (globalThis as { WebSocket?: WebSocketConstructor }).WebSocket
  if (!found) throw new TypeError('there is no global WebSocket: give one in the options')
  return found
}

/** Opens a socket. One that can't even be made is reported as closed, later, like any other. */
export function openSocket(
  Class: WebSocketConstructor,
  url: string,
  events: SocketEvents,
): Socket | null {
  let socket: InstanceType<WebSocketConstructor>
  try {
    socket = new Class(url, [SUBPROTOCOL])
  } catch (error) {
    queueMicrotask(() => events.closed(1006, String(error)))
    return null
  }
  socket.onopen = () => events.opened()
  // A binary message is no frame of this encoding; as text it is malformed, and treated so.
  socket.onmessage = ({ data }: { data: unknown }) => events.received(typeof data === 'string' ? data : '')
  socket.onclose = ({ code, reason }: { code: number; reason: string }) => events.closed(code, reason)
  // Always followed by `close`, which says more. Without a listener the `ws` package would throw.
  socket.onerror = () => {}
  return {
    // While it is closing, `closed` is on its way, and what must not be lost is sent again then.
    send: (text) => {
      if (socket.readyState === OPEN) socket.send(text)
    },
    close: (code, reason) => socket.close(code, reason),
  }
}

/** The address with its query; `http` becomes `ws`. Throws a TypeError if it is none. */
export function socketAddress(url: string, query: Readonly<Record<string, string>> = {}): string {
  const { location } = globalThis as { location?: Location }
  const whole = new URL(url, location?.href)
  whole.protocol = whole.protocol.replace('http', 'ws')
  for (const [name, value] of Object.entries(query)) whole.searchParams.set(name, value)
  return whole.href
}
