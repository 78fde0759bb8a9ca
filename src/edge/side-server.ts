/** What the two listeners beside that for clients have in common: a few paths, for few who come. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { Headers, Origin } from '../core/origin.ts'
import { isRefusal, refuse, Refusal } from '../core/refusal.ts'
import { proofFlaw } from './flaws.ts'
import { refusalBody } from './reply.ts'
import { listenOn } from './transport/listener.ts'

export interface Shown {
  readonly status: number
  readonly type: string
  readonly body: string
  /** Names and values, in turn, of further header fields. */
  readonly head?: readonly string[]
}

export interface SideRequest {
  readonly method: string
  /** Without a query. */
  readonly path: string
  readonly headers: Headers
  readonly origin: Origin
  /** The body as JSON. */
  read(): Promise<unknown>
}

export type Answer = (request: SideRequest) => Promise<Shown | Refusal> | Shown | Refusal

const mostConnections = 256
const requestMs = 10_000
const mostBytes = 65_536

export class SideServer {
  readonly #server: Server

  constructor(answer: Answer) {
    this.#server = createServer({ requestTimeout: requestMs, headersTimeout: requestMs }, (request, response) => {
      handle(request, response, answer).catch(() => response.destroy())
    })
    this.#server.maxConnections = mostConnections
  }

  /** Starts to listen; settles with the port. Rejects with the system's error. */
  listen(options: { readonly host: string; readonly port: number }): Promise<number> {
    return listenOn(this.#server, options)
  }

  close(): void {
    this.#server.close()
    this.#server.closeAllConnections()
  }
}

async function handle(request: IncomingMessage, response: ServerResponse, answer: Answer): Promise<void> {
  const { method = '', url = '', headers, socket } = request
  const origin = { address: socket.remoteAddress ?? '', certificate: undefined }
  const path = url.replace(/\?.*$/, '')
  const flaw = proofFlaw(headers.authorization, request.rawHeaders)
  const found = flaw ?? (await answer({ method, path, headers, origin, read: () => readJson(request) }))
  const { status, type, body } = isRefusal(found) ? shownRefusal(found) : found
  const { head = [] } = found
  if (isRefusal(found) && found.retryAfterS !== undefined) response.setHeader('retry-after', found.retryAfterS)
  for (let i = 0; i < head.length; i += 2) response.setHeader(head[i]!, head[i + 1]!)
  response.writeHead(status, { 'content-type': type, 'content-length': String(Buffer.byteLength(body)) })
  response.end(body)
}

async function readJson(request: IncomingMessage): Promise<unknown> {
  const pieces: Buffer[] = []
  let length = 0
  for await (const piece of request as AsyncIterable<Buffer>) {
    length += piece.length
    if (length > mostBytes) return refuse('too_large', `the body may have ${mostBytes} bytes`)
    pieces.push(piece)
  }
  try {
    return JSON.parse(Buffer.concat(pieces).toString())
  } catch {
    return refuse('invalid', 'the body is not JSON')
  }
}

function shownRefusal(refusal: Refusal): Shown {
  return { status: refusal.status, type: 'application/json', body: refusalBody(refusal, '') }
}

export function nothingElse(paths: object): Refusal {
  return refuse('not_found', `there are ${Object.keys(paths).join(', ')}`)
}

export function isRead(method: string): boolean {
  return method === 'GET' || method === 'HEAD'
}

export function onlyTakes(allow: string): Refusal {
  return new Refusal('method_not_allowed', `this path takes ${allow}`, undefined, ['allow', allow])
}

export function json(value: unknown, status = 200, head: readonly string[] = []): Shown {
  return { status, type: 'application/json', body: JSON.stringify(value), head }
}
