/**
 * TLS on accepted connections. Certificates are looked at now and then: what is new and whole serves connections to come,
 * what is broken changes nothing, and nobody who is connected notices either. Session tickets are sealed with keys that
 * change with time, and at once with the authorities: a client whose authority is gone must not get in by resuming.
 */
import { randomBytes } from 'node:crypto'
import type { Socket } from 'node:net'
import { createSecureContext, createServer, type SecureContext, type SecureContextOptions } from 'node:tls'
import type { Server, TLSSocket } from 'node:tls'
import type { Clock } from '../../core/clock.ts'
import type { EdgeCounts } from '../../telemetry/edge-counts.ts'
import type { TlsOptions } from '../options.ts'
import { readCredentials, type Certificate, type Credentials, type FileProblem } from './certificates.ts'
import type { Connection } from './connections.ts'
import { HandshakeGate } from './handshakes.ts'

export interface TlsTools {
  readonly clock: Clock
  readonly counts: EdgeCounts
  /** Told of files that cannot be used; the ones before stay in use. */
  readonly onProblem: (problem: FileProblem) => void
  readonly onSecure: (connection: Connection, socket: TLSSocket) => void
  /** Told of a client that speaks HTTP without TLS; it is to be ended. */
  readonly onPlain: (socket: Socket) => void
}

interface Identity {
  readonly certificate: Certificate
  readonly context: SecureContext
}

/** Clients make names up, so only so many are remembered. */
const mostNames = 1_000

export class TlsLayer {
  readonly #options: TlsOptions
  readonly #tools: TlsTools
  readonly #gate: HandshakeGate
  readonly #server: Server
  /** Connections in their handshake, by their two ends. */
  readonly #shaking = new Map<string, Connection>()
  readonly #byName = new Map<string, SecureContext>()
  #credentials: Credentials
  #identities: readonly Identity[] = []
  #ticketKeys = randomBytes(48)
  #ticketsFrom: number
  #problem = ''
  #closed = false
  #cancelLook: () => void

  /** Throws what OpenSSL says if it cannot use the credentials. */
  private constructor(options: TlsOptions, credentials: Credentials, tools: TlsTools) {
    const { clock } = tools
    this.#options = options
    this.#tools = tools
    this.#credentials = credentials
    this.#gate = new HandshakeGate(options.maxHandshakes, clock)
    this.#server = createServer({
      ALPNProtocols: ['h2', 'http/1.1'],
      SNICallback: (name, choose) => choose(null, this.#contextFor(name)),
      requestCert: options.clientCa !== undefined,
      rejectUnauthorized: true,
      handshakeTimeout: options.handshakeMs,
    })
    this.#server.on('secureConnection', (socket) => this.#secured(socket))
    this.#server.on('tlsClientError', (error, socket) => this.#failed(error, socket))
    this.#use(credentials)
    this.#ticketsFrom = clock.now()
    this.#cancelLook = clock.after(options.reloadMs, () => void this.#look())
  }

  /** Reads the files; or says what is wrong with one. */
  static async create(options: TlsOptions, tools: TlsTools): Promise<TlsLayer | FileProblem> {
    const credentials = await readCredentials(options)
    if ('message' in credentials) return credentials
    try {
      return new TlsLayer(options, credentials, tools)
    } catch (error) {
      return unusable(options, error)
    }
  }

  /** Begins the handshake when it is this connection's turn. */
  accept(connection: Connection): void {
    const { socket } = connection
    const { clock, counts } = this.#tools
    const ends = endsOf(socket)
    let isRunning = false
    const leaveLine = this.#gate.enter(() => {
      isRunning = true
      this.#shaking.set(ends, connection)
      this.#server.emit('connection', socket)
    })
    const cancel = clock.after(this.#options.handshakeMs, () => {
      if (!isRunning || this.#shaking.has(ends)) socket.destroy()
    })
    socket.on('close', () => {
      cancel()
      leaveLine()
      if (!this.#shaking.delete(ends)) return
      counts.handshakes.failed++
      this.#gate.leave()
    })
  }

  /** Looks at the files no more. */
  close(): void {
    this.#closed = true
    this.#cancelLook()
  }

  #secured(socket: TLSSocket): void {
    const ends = endsOf(socket)
    const connection = this.#shaking.get(ends)
    if (!connection) {
      socket.destroy()
      return
    }
    this.#shaking.delete(ends)
    this.#gate.leave()
    this.#tools.counts.handshakes.ok++
    this.#tools.onSecure(connection, socket)
  }

  #failed({ code }: NodeJS.ErrnoException, socket: TLSSocket): void {
    const connection = this.#shaking.get(endsOf(socket))
    if (code === 'ERR_SSL_HTTP_REQUEST' && connection) this.#tools.onPlain(connection.socket)
    else socket.destroy()
  }

  #contextFor(name: string): SecureContext | undefined {
    const known = this.#byName.get(name)
    if (known) return known
    const found = this.#identities.find(({ certificate }) => certificate.leaf.checkHost(name) !== undefined)
    if (found && this.#byName.size < mostNames) this.#byName.set(name, found.context)
    return found?.context
  }

  async #look(): Promise<void> {
    const { clock } = this.#tools
    const credentials = await readCredentials(this.#options)
    if (this.#closed) return
    if ('message' in credentials) this.#report(credentials)
    else this.#update(credentials)
    this.#cancelLook = clock.after(this.#options.reloadMs, () => void this.#look())
  }

  #update(credentials: Credentials): void {
    const { clock } = this.#tools
    const before = this.#credentials
    const isStale = clock.now() - this.#ticketsFrom >= this.#options.ticketMs
    const isOtherTrust = credentials.clientCa !== before.clientCa
    if (!isStale && !isOtherTrust && fingerprint(credentials) === fingerprint(before)) {
      this.#problem = ''
      return
    }
    if (isStale || isOtherTrust) {
      this.#ticketKeys = randomBytes(48)
      this.#ticketsFrom = clock.now()
    }
    try {
      this.#use(credentials)
      this.#credentials = credentials
      this.#problem = ''
    } catch (error) {
      this.#report(unusable(this.#options, error))
    }
  }

  /** Once for each problem, and not at every look. */
  #report(problem: FileProblem): void {
    const text = `${problem.file}: ${problem.message}`
    if (text !== this.#problem) this.#tools.onProblem(problem)
    this.#problem = text
  }

  #use({ certificates, clientCa }: Credentials): void {
    const identities = certificates.map((certificate) => {
      return { certificate, context: createSecureContext(this.#contextOptions(certificate, clientCa)) }
    })
    this.#server.setSecureContext(this.#contextOptions(certificates[0]!, clientCa))
    this.#identities = identities
    this.#byName.clear()
    this.#tools.counts.certificates = certificates.map(({ file, leaf }) => ({ file, expiresAt: leaf.validToDate }))
  }

  #contextOptions({ cert, key }: Certificate, clientCa: string | undefined): SecureContextOptions {
    const { minVersion, ciphers, ticketMs } = this.#options
    return {
      cert,
      key,
      ...(clientCa !== undefined && { ca: clientCa }),
      minVersion: `TLSv${minVersion}`,
      ciphers,
      honorCipherOrder: true,
      ticketKeys: this.#ticketKeys,
      sessionTimeout: Math.ceil(ticketMs / 1_000),
    }
  }
}

function fingerprint({ certificates, clientCa }: Credentials): string {
  return [...certificates.flatMap(({ cert, key }) => [cert, key]), clientCa].join('\n')
}

function unusable({ certificates }: TlsOptions, error: unknown): FileProblem {
  const why = error instanceof Error ? error.message : String(error)
  return { file: certificates[0]!.cert, message: `cannot be used with \`edge.tls\` as it is: ${why}` }
}

/** What no two open connections have in common. */
function endsOf({ localAddress, localPort, remoteAddress, remotePort }: Socket): string {
  return `${localAddress} ${localPort} ${remoteAddress} ${remotePort}`
}
