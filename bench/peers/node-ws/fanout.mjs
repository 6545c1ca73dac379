// A plain fan-out server on Node's `ws`: one ping timer for all, slow clients are closed beyond 1 MiB, POST /publish sends to all who
// subscribed, which any message but "ping?" does. `node fanout.mjs PORT [CERTIFICATE KEY]`; with the latter it speaks TLS.

import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { WebSocketServer } from 'ws'

const MAX_BUFFERED = 1024 * 1024
const subscribers = new Set()

const [port, certificate, key] = process.argv.slice(2)

function answer(request, response) {
  const chunks = []
  request.on('data', (chunk) => chunks.push(chunk))
  request.on('end', () => {
    const body = Buffer.concat(chunks)
    for (const socket of subscribers) {
      if (socket.bufferedAmount > MAX_BUFFERED) socket.close(1013, 'too slow')
      else socket.send(body, { binary: false })
    }
    response.end('{}')
  })
}

const server = certificate
  ? createTlsServer({ cert: readFileSync(certificate), key: readFileSync(key) }, answer)
  : createServer(answer)

const sockets = new WebSocketServer({ server, path: '/ws', perMessageDeflate: false, maxPayload: 64 * 1024 })
sockets.on('connection', (socket) => {
  socket.isAlive = true
  socket.on('pong', () => (socket.isAlive = true))
  socket.on('message', (said) => {
    if (said.toString() === 'ping?') return socket.send('pong!')
    subscribers.add(socket)
    socket.send('live')
  })
  socket.on('close', () => subscribers.delete(socket))
  socket.on('error', () => socket.terminate())
})

setInterval(() => {
  for (const socket of sockets.clients) {
    if (!socket.isAlive) socket.terminate()
    socket.isAlive = false
    socket.ping()
  }
}, 25_000)

process.on('SIGTERM', () => {
  server.close(() => process.exit(0))
  sockets.close()
  for (const socket of sockets.clients) socket.close(1001, 'server shutting down')
  server.closeIdleConnections()
  setTimeout(() => process.exit(1), 10_000).unref()
})

server.listen(Number(port ?? 9000), '127.0.0.1')
