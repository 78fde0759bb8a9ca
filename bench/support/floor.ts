/**
 * The floor under every HTTP server on `node:http` that speaks JSON: it reads a body, parses it, and answers the same
 * bytes each time. Nothing on Node's own server that looks at what it was sent can cost less.
 */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface FloorOrder {
  readonly answer: string
}

process.once('message', ({ answer }: FloorOrder) => {
  const head = ['content-type', 'application/json', 'content-length', String(Buffer.byteLength(answer))]
  const server = createServer({ keepAliveTimeout: 75_000 }, (request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const whole = chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks)
      JSON.parse(whole.toString())
      response.writeHead(200, head)
      response.end(answer)
    })
  })
  server.listen(0, '127.0.0.1', () => process.send!((server.address() as AddressInfo).port))
})
