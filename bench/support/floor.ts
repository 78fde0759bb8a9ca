/**
 * The floor under every server on Node's own HTTP that speaks JSON: it reads a body, parses it, and answers the same bytes
 * each time. Nothing on these servers that looks at what it was sent can cost less.
 */
import { createServer, type RequestListener } from 'node:http'
import { createSecureServer, type ServerHttp2Stream } from 'node:http2'
import { createServer as createHttpsServer } from 'node:https'
import type { AddressInfo, Server } from 'node:net'
import type { Wire } from './generator.ts'

export interface FloorOrder {
  readonly wire: Wire
  readonly answer: string
  /** In PEM, for those that speak TLS. */
  readonly cert: string
  readonly key: string
}

function listener(answer: string): RequestListener {
  const head = ['content-type', 'application/json', 'content-length', String(Buffer.byteLength(answer))]
  return (request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      parse(chunks)
      response.writeHead(200, head)
      response.end(answer)
    })
  }
}

function parse(chunks: readonly Buffer[]): void {
  JSON.parse((chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks)).toString())
}

function serve({ wire, answer, cert, key }: FloorOrder): Server {
  const options = { keepAliveTimeout: 600_000 }
  if (wire === 'http') return createServer(options, listener(answer))
  if (wire === 'https') return createHttpsServer({ ...options, cert, key }, listener(answer))
  const server = createSecureServer({ cert, key })
  const head = [
    ':status',
    '200',
    'content-type',
    'application/json',
    'content-length',
    String(Buffer.byteLength(answer)),
  ]
  server.on('stream', (stream: ServerHttp2Stream) => {
    const chunks: Buffer[] = []
    stream.on('data', (chunk: Buffer) => chunks.push(chunk))
    stream.on('end', () => {
      parse(chunks)
      stream.respond(head)
      stream.end(answer)
    })
  })
  return server
}

process.on('message', (order) => {
  const server = serve(order as FloorOrder)
  server.listen(0, () => process.send!((server.address() as AddressInfo).port))
})
