/** The same requests over every protocol that the edge speaks, with Node's own clients. */
import { connect as connectHttp2, type ClientHttp2Session, type IncomingHttpHeaders } from 'node:http2'
import { Agent as HttpAgent, request as requestHttp, type IncomingMessage } from 'node:http'
import { Agent as HttpsAgent, request as requestHttps } from 'node:https'
import type { TestContext } from 'node:test'
import { startGateway, type TestGateway } from './gateway.ts'
import { authority, certificateFolder, pairsIn, serverCertificate } from './tls.ts'

export const protocols = ['http', 'https', 'h2c', 'h2'] as const
export type Protocol = (typeof protocols)[number]

export interface Sent {
  readonly method?: string
  readonly path: string
  readonly headers?: Readonly<Record<string, string>>
  /** Pieces are sent one after another, each in a chunk or frame of its own. */
  readonly body?: string | Uint8Array | readonly Uint8Array[]
}

export interface Got {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: Buffer
  /** Undefined if the body is no JSON. */
  readonly json: any
}

/** A connection that is kept open, or as many as one protocol needs for it. */
export interface Client {
  send(sent: Sent): Promise<Got>
  /** The session, of HTTP/2. */
  readonly session: ClientHttp2Session | undefined
}

export interface Everywhere {
  readonly served: Readonly<Record<Protocol, TestGateway>>
  /** Who signed the certificate of those that speak TLS. */
  readonly ca: string
  /** A client with a connection of its own, that ends with the test. */
  open(t: TestContext, protocol: Protocol): Client
}

type Started = Parameters<typeof startGateway>[1]

/** One gateway without TLS and one with it, both over the same store and settings. */
export async function startEverywhere(t: TestContext, { store, settings = {} }: Started = {}): Promise<Everywhere> {
  const by = authority()
  const folder = await certificateFolder(t, { server: serverCertificate(by) })
  const own = settings as { edge?: object }
  const edge = { port: 0, drain: { idleMs: 0, timeoutMs: 5_000 }, http2: { cleartext: true }, ...own.edge }
  const common = store === undefined ? {} : { store }
  const plain = await startGateway(t, { ...common, settings: { ...settings, edge } })
  const tls = { certificates: pairsIn(folder, 'server') }
  const secure = await startGateway(t, { ...common, settings: { ...settings, edge: { ...edge, tls } } })
  const served = { http: plain, https: secure, h2c: plain, h2: secure }
  return {
    served,
    ca: by.cert,
    open: (test, protocol) => openClient(test, protocol, { url: served[protocol].url, ca: by.cert }),
  }
}

export function openClient(t: TestContext, protocol: Protocol, { url, ca }: { url: string; ca: string }): Client {
  return protocol === 'h2' || protocol === 'h2c' ? overHttp2(t, url, ca) : overHttp1(t, url, ca)
}

function overHttp1(t: TestContext, url: string, ca: string): Client {
  const isSecure = url.startsWith('https:')
  const agent = isSecure
    ? new HttpsAgent({ keepAlive: true, maxSockets: 1, ca })
    : new HttpAgent({ keepAlive: true, maxSockets: 1 })
  t.after(() => agent.destroy())
  const send = ({ method, path, headers = {}, body }: Sent): Promise<Got> => {
    const { promise, resolve, reject } = Promise.withResolvers<Got>()
    const pieces = piecesOf(body)
    const length =
      pieces.length === 1 && !('content-length' in headers) ? { 'content-length': String(pieces[0]!.length) } : {}
    const options = {
      method: method ?? (body === undefined ? 'GET' : 'POST'),
      headers: { ...headers, ...length },
      agent,
    }
    const sent = (isSecure ? requestHttps : requestHttp)(url + path, options, (response: IncomingMessage) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('error', reject)
      response.on('end', () => resolve(gotten(response.statusCode!, response.headers, chunks)))
    })
    sent.on('error', reject)
    for (const piece of pieces) sent.write(piece)
    sent.end()
    return promise
  }
  return { send, session: undefined }
}

function overHttp2(t: TestContext, url: string, ca: string): Client {
  const session = connectHttp2(url, { ca })
  session.on('error', () => undefined)
  t.after(() => session.destroy())
  const send = ({ method, path, headers = {}, body }: Sent): Promise<Got> => {
    const { promise, resolve, reject } = Promise.withResolvers<Got>()
    const pieces = piecesOf(body)
    const own = { ':method': method ?? (body === undefined ? 'GET' : 'POST'), ':path': path }
    const stream = session.request({ ...headers, ...own }, { endStream: pieces.length === 0 })
    const chunks: Buffer[] = []
    let head: IncomingHttpHeaders = {}
    stream.on('response', (answer) => (head = answer))
    stream.on('data', (chunk: Buffer) => chunks.push(chunk))
    stream.on('error', reject)
    stream.on('close', () => {
      const status = Number((head as { ':status'?: number })[':status'])
      if (Number.isNaN(status)) reject(new Error(`the stream ended with code ${stream.rstCode} and without an answer`))
      else resolve(gotten(status, head, chunks))
    })
    for (const piece of pieces) stream.write(piece)
    if (pieces.length > 0) stream.end()
    return promise
  }
  return { send, session }
}

function piecesOf(body: Sent['body']): readonly Uint8Array[] {
  if (body === undefined) return []
  if (typeof body === 'string') return [Buffer.from(body)]
  return body instanceof Uint8Array ? [body] : body
}

function gotten(status: number, headers: IncomingHttpHeaders, chunks: readonly Buffer[]): Got {
  const body = Buffer.concat(chunks)
  return { status, headers, body, json: parsed(body) }
}

function parsed(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString())
  } catch {
    return undefined
  }
}
