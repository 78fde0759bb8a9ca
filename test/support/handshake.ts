/** Clients that shake hands over TLS: whole visits with Node's own clients, and handshakes that are begun and left. */
import { once } from 'node:events'
import { rename, writeFile } from 'node:fs/promises'
import { connect as connectHttp2, type SecureClientSessionOptions } from 'node:http2'
import { request, type RequestOptions } from 'node:https'
import { connect as connectTcp } from 'node:net'
import { duplexPair } from 'node:stream'
import type { TestContext } from 'node:test'
import { connect, type ConnectionOptions, type TLSSocket } from 'node:tls'
import type { Issued } from '../../src/cli/certificate.ts'
import { edgeWith } from './client.ts'
import { startGateway, type TestGateway } from './gateway.ts'
import { identity } from './onnx.ts'

export const tlsVersions = ['TLSv1.2', 'TLSv1.3'] as const

/** A small gateway with these settings of `edge.tls`, and of `edge` beside it. */
export function serveTls(t: TestContext, tls: object, edge: object = {}): Promise<TestGateway> {
  const settings = { runtime: { executors: 1 }, ...edgeWith({ tls, ...edge }) }
  return startGateway(t, { store: { 'echo.onnx': identity('FP32', ['n', 1]) }, settings })
}

interface At {
  readonly url: string
}

export interface Visit {
  readonly status: number
  readonly version: string | null
  /** The common name in the server's certificate. */
  readonly shown: string | undefined
  readonly resumed: boolean
  /** To resume with. */
  readonly session: Buffer
  /** The name of the key that the session's ticket is sealed with. */
  readonly ticketKey: string
  /** Whether it came on a connection that an earlier visit has opened. */
  readonly onOpenConnection: boolean
}

export interface VisitOptions extends RequestOptions, Pick<ConnectionOptions, 'session'> {
  /** Told of what there is to resume with, also if there is no answer. */
  readonly onSession?: (session: Buffer) => void
}

/** A request over HTTP/1.1, on a connection of its own if `options` bring no agent. Rejects with what the client is told. */
export function visit({ url }: At, options: VisitOptions): Promise<Visit> {
  const { hostname, port } = new URL(url)
  const { promise, resolve, reject } = Promise.withResolvers<Visit>()
  let session = options.session ?? Buffer.of()
  const sent = request({ hostname, port, path: '/v2', agent: false, ...options }, (response) => {
    const socket = response.socket as TLSSocket
    const agreed = {
      version: socket.getProtocol(),
      shown: socket.getPeerX509Certificate()?.subject.replace(/^CN=/, ''),
      resumed: socket.isSessionReused(),
      ticketKey: socket.getTLSTicket()?.toString('hex', 0, 16) ?? '',
      onOpenConnection: sent.reusedSocket,
    }
    response.on('end', () => socket.off('session', keep))
    response.on('end', () => resolve({ status: response.statusCode!, session, ...agreed }))
    response.on('error', reject)
    response.resume()
  })
  const keep = (latest: Buffer) => {
    session = latest
    options.onSession?.(latest)
  }
  sent.on('socket', (socket) => socket.on('session', keep))
  sent.on('error', reject)
  sent.end()
  return promise
}

/** The status of a request over HTTP/2; rejects if it gets none. */
export function visitHttp2(t: TestContext, { url }: At, options: SecureClientSessionOptions): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>()
  const session = connectHttp2(url, options)
  t.after(() => session.destroy())
  session.on('error', reject)
  session.on('close', () => reject(new Error('the session ended without an answer')))
  const stream = session.request({ ':path': '/v2' })
  stream.on('error', reject)
  stream.on('close', () => reject(new Error('the stream ended without an answer')))
  stream.on('response', ({ ':status': status }) => resolve(status!))
  return promise
}

/**
 * Whether an error is what clients are told who are not let in. In TLS 1.3 they learn of it when they read, because their
 * own part of the handshake is over by then.
 */
export function isRefused({ code = '', message }: NodeJS.ErrnoException): boolean {
  return /ECONNRESET|EPIPE|alert|ended without an answer|disconnected/i.test(`${code} ${message}`)
}

/** Whether a client is let in. */
export async function isLetIn(at: At, options: VisitOptions): Promise<boolean> {
  try {
    return (await visit(at, options)).status === 200
  } catch (error) {
    if (isRefused(error as Error)) return false
    throw error
  }
}

/** What is agreed upon in a handshake; rejects with what the client is told. */
export async function agree(t: TestContext, { url }: At, options: ConnectionOptions) {
  const { hostname, port } = new URL(url)
  const socket = connect({ host: hostname, port: Number(port), ...options })
  t.after(() => socket.destroy())
  await once(socket, 'secureConnect')
  return { alpn: socket.alpnProtocol, cipher: socket.getCipher().name, version: socket.getProtocol(), socket }
}

/** A client that says so much of a handshake and no more. */
export async function stall(t: TestContext, { url }: At, said: Uint8Array = Buffer.of()) {
  const { hostname, port } = new URL(url)
  const socket = connectTcp(Number(port), hostname)
  t.after(() => socket.destroy())
  // A test that waits for what does not come must fail, not hang.
  let isStuck = false
  socket.setTimeout(20_000, () => {
    isStuck = true
    socket.destroy()
  })
  socket.on('error', () => undefined)
  /** Settles when the connection ends, with whether somebody ended it. */
  const gone = new Promise<boolean>((resolve) => socket.on('close', () => resolve(!isStuck)))
  /** Settles with whether the gateway said anything. */
  const answered = new Promise<boolean>((resolve) => {
    socket.on('data', () => resolve(true))
    socket.on('close', () => resolve(false))
  })
  await once(socket, 'connect')
  socket.write(said)
  return { socket, gone, answered }
}

/** What a client says first. */
export async function clientHello(): Promise<Buffer> {
  const [near, far] = duplexPair()
  const socket = connect({ socket: near })
  socket.on('error', () => undefined)
  const [hello] = (await once(far, 'data')) as [Buffer]
  socket.destroy()
  return hello
}

/** Puts a certificate and its key into a folder under a name, in the place of those that were there. */
export async function put(folder: string, name: string, { cert, key }: Issued): Promise<void> {
  await replace(`${folder}/${name}-key.pem`, key)
  await replace(`${folder}/${name}.pem`, cert)
}

/** Writes a file so that nobody sees half of it. */
export async function replace(file: string, content: string): Promise<void> {
  await writeFile(`${file}.new`, content)
  await rename(`${file}.new`, file)
}
