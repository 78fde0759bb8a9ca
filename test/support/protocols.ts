/** The same requests over every protocol that the edge speaks and over both of its fronts, with Node's own clients. */
import { connect as connectHttp2, type ClientHttp2Session, type IncomingHttpHeaders } from 'node:http2'
import { Agent as HttpAgent, request as requestHttp, type IncomingMessage } from 'node:http'
import { Agent as HttpsAgent, request as requestHttps } from 'node:https'
import { test, type TestContext } from 'node:test'
import { startGateway, type TestGateway } from './gateway.ts'
import { authority, certificateFolder, pairsIn, serverCertificate } from './tls.ts'

/** HTTP/1.1, over the front that is the default and over that of Node. */
export const http1Protocols = ['http', 'https', 'http on node', 'https on node'] as const
export type Http1 = (typeof http1Protocols)[number]

export const protocols = [...http1Protocols, 'h2c', 'h2'] as const
export type Protocol = (typeof protocols)[number]

export function isHttp2(protocol: Protocol): protocol is 'h2c' | 'h2' {
  return protocol === 'h2c' || protocol === 'h2'
}

export function isOverTls(protocol: Protocol): boolean {
  return protocol === 'h2' || protocol.startsWith('https')
}

export function isOnNode(protocol: Protocol): boolean {
  return protocol.endsWith(' on node')
}

/** One test for each way to speak HTTP/1.1. */
export function overHttp1(what: string, run: (t: TestContext, protocol: Http1) => Promise<void>): void {
  for (const protocol of http1Protocols) test(`${what}, over ${protocol}`, (t) => run(t, protocol))
}

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

export interface Everywhere<P extends Protocol = Protocol> {
  readonly served: Readonly<Record<P, TestGateway>>
  /** Who signed the certificate of those that speak TLS. */
  readonly ca: string
  /** A client with a connection of its own, that ends with the test. */
  open(t: TestContext, protocol: P): Client
}

interface Started<P> extends NonNullable<Parameters<typeof startGateway>[1]> {
  /** What is spoken; a test that needs fewer gateways starts sooner. */
  readonly over?: readonly P[]
}

/** Gateways over the same store and settings: with TLS and without, on one front and on the other. */
export async function startEverywhere<P extends Protocol = Protocol>(
  t: TestContext,
  { store, settings = {}, over = protocols as readonly Protocol[] as readonly P[] }: Started<P> = {},
): Promise<Everywhere<P>> {
  const by = authority()
  const folder = await certificateFolder({ server: serverCertificate(by) })
  const tls = { certificates: pairsIn(folder, 'server') }
  const own = settings as { edge?: object }
  const edge = { port: 0, drain: { idleMs: 0, timeoutMs: 5_000 }, http2: { cleartext: true }, ...own.edge }
  const gateways = new Map<string, TestGateway>()
  const served: Partial<Record<Protocol, TestGateway>> = {}
  for (const protocol of over) {
    const at = { ...edge, ...(isOverTls(protocol) && { tls }), ...(isOnNode(protocol) && { http1: 'node' }) }
    const key = `${isOverTls(protocol)} ${isOnNode(protocol)}`
    const gateway =
      gateways.get(key) ?? (await startGateway(t, { ...(store && { store }), settings: { ...settings, edge: at } }))
    gateways.set(key, gateway)
    served[protocol] = gateway
  }
  const all = served as Record<P, TestGateway>
  return {
    served: all,
    ca: by.cert,
    open: (each, protocol) => openClient(each, protocol, { url: all[protocol].url, ca: by.cert }),
  }
}

export function openClient(t: TestContext, protocol: Protocol, { url, ca }: { url: string; ca: string }): Client {
  return isHttp2(protocol) ? overSession(t, url, ca) : overAgent(t, url, ca)
}

function overAgent(t: TestContext, url: string, ca: string): Client {
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

function overSession(t: TestContext, url: string, ca: string): Client {
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
