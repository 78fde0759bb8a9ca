/** What the two listeners beside that for clients have in common: a few paths to look at, for few who look. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { isRefusal, refuse, type Refusal } from '../core/refusal.ts'
import { refusalBody } from './reply.ts'
import { listenOn } from './transport/listener.ts'

export interface Shown {
  readonly status: number
  readonly type: string
  readonly body: string
}

export type Show = (path: string) => Promise<Shown | Refusal> | Shown | Refusal

const mostConnections = 256
const requestMs = 10_000

export class SideServer {
  readonly #server: Server

  /** `admit` says why a request is not answered, whatever it asks for. */
  constructor(show: Show, admit: (request: IncomingMessage) => Refusal | undefined = () => undefined) {
    this.#server = createServer({ requestTimeout: requestMs, headersTimeout: requestMs }, (request, response) => {
      handle(request, response, { show, admit }).catch(() => response.destroy())
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

interface Ways {
  readonly show: Show
  readonly admit: (request: IncomingMessage) => Refusal | undefined
}

async function handle(request: IncomingMessage, response: ServerResponse, { show, admit }: Ways): Promise<void> {
  const found = admit(request) ?? (await show(request.url!.replace(/\?.*$/, '')))
  const isRead = request.method === 'GET' || request.method === 'HEAD'
  if (!isRead) response.setHeader('allow', 'GET, HEAD')
  const shown = isRead || isRefusal(found) ? found : refuse('method_not_allowed', 'this path takes GET, HEAD')
  const { status, type, body } = 'body' in shown ? shown : shownRefusal(shown)
  response.writeHead(status, { 'content-type': type, 'content-length': String(Buffer.byteLength(body)) })
  response.end(body)
}

function shownRefusal(refusal: Refusal): Shown {
  return { status: refusal.status, type: 'application/json', body: refusalBody(refusal, '') }
}

export function nothingElse(paths: object): Refusal {
  return refuse('not_found', `there are ${Object.keys(paths).join(', ')}`)
}

export function json(value: unknown, status = 200): Shown {
  return { status, type: 'application/json', body: JSON.stringify(value) }
}
