/**
 * TLS on accepted connections. Certificates are looked at now and then: what is new and whole serves connections to come,
 * what is broken changes nothing, and nobody who is connected notices either. Session tickets are sealed with keys that
 * change with time, and at once with the authorities and revocation lists: a client whose certificate is good no more must
 * not get in by resuming.
 */
import { randomBytes } from 'node:crypto'
import type { Socket } from 'node:net'
import { createServer, type Server, type TLSSocket } from 'node:tls'
import type { Clock } from '../../core/clock.ts'
import type { EdgeCounts } from '../../telemetry/edge-counts.ts'
import type { TlsOptions } from '../options.ts'
import { readCredentials, type Credentials, type FileProblem } from './certificates.ts'
import { ClientTrust } from './client-trust.ts'
import { Clients } from './clients.ts'
import type { Connection } from './connections.ts'
import { HandshakeGate } from './handshakes.ts'
import { Identities } from './identities.ts'
import { peek } from './peek.ts'

export interface TlsTools {
  readonly clock: Clock
  readonly counts: EdgeCounts
  /** Told of files that cannot be used; the ones before stay in use. */
  readonly onProblem: (problem: FileProblem) => void
  readonly onSecure: (connection: Connection, socket: TLSSocket) => void
  /** Told of a client that speaks HTTP without TLS; it is to be ended. */
  readonly onPlain: (socket: Socket) => void
}

interface Handshake {
  readonly connection: Connection
  /** Whose authorities it began with. */
  trust: ClientTrust | undefined
  /** Lets the next one in. */
  leave: () => void
}

export class TlsLayer {
  readonly #options: TlsOptions
  readonly #tools: TlsTools
  readonly #gate: HandshakeGate
  readonly #server: Server
  /** Undefined if no client is asked for a certificate. */
  readonly #clients: Clients | undefined
  /** Those that are not over, by the two ends of their connection. */
  readonly #handshakes = new Map<string, Handshake>()
  #credentials: Credentials
  #identities: Identities
  #ticketKeys: Buffer
  #ticketsFrom: number
  #problem = ''
  #lapse = ''
  #closed = false
  #cancelLook: () => void

  private constructor(
    options: TlsOptions,
    tools: TlsTools,
    { credentials, identities, ticketKeys }: { credentials: Credentials; identities: Identities; ticketKeys: Buffer },
  ) {
    const { clock } = tools
    this.#options = options
    this.#tools = tools
    this.#credentials = credentials
    this.#identities = identities
    this.#ticketKeys = ticketKeys
    this.#gate = new HandshakeGate(options.maxHandshakes, clock)
    this.#server = createServer({
      ALPNProtocols: ['h2', 'http/1.1'],
      SNICallback: (name, choose) => choose(null, this.#identities.contextFor(name)),
      requestCert: options.clientCa !== undefined,
      // Who may come without one is let in or not by hand.
      rejectUnauthorized: options.clientAuth === 'required',
      handshakeTimeout: options.handshakeMs,
    })
    this.#server.on('secureConnection', (socket) => this.#secured(socket))
    this.#server.on('tlsClientError', (error, socket) => {
      this.#clients?.failed(error, socket)
      socket.destroy()
    })
    const trust = trustIn(credentials)
    if (trust) this.#clients = new Clients(trust, options.clientAuth === 'required', tools)
    this.#reportLapse()
    this.#show(identities)
    this.#ticketsFrom = clock.now()
    this.#cancelLook = clock.after(options.reloadMs, () => void this.#look())
  }

  /** Reads the files; or says what is wrong with one. */
  static async create(options: TlsOptions, tools: TlsTools): Promise<TlsLayer | FileProblem> {
    const credentials = await readCredentials(options)
    if ('message' in credentials) return credentials
    const ticketKeys = newTicketKeys()
    const identities = Identities.create(credentials, options, ticketKeys)
    if ('message' in identities) return identities
    return new TlsLayer(options, tools, { credentials, identities, ticketKeys })
  }

  /** Begins the handshake when the client has, and it is this connection's turn. */
  accept(connection: Connection): void {
    const { socket } = connection
    const { clock, counts } = this.#tools
    const ends = endsOf(socket)
    const handshake: Handshake = { connection, trust: undefined, leave: () => undefined }
    this.#handshakes.set(ends, handshake)
    const cancel = clock.after(this.#options.handshakeMs, () => {
      if (this.#handshakes.has(ends)) socket.destroy()
    })
    socket.on('close', () => {
      cancel()
      handshake.leave()
      if (this.#handshakes.delete(ends)) counts.handshakes.failed++
    })
    // Whoever connects and says nothing must not take a place from those who do.
    let isPlain = false
    const judge = (bytes: Buffer) => {
      isPlain = isHttp(bytes)
      return isPlain || isWholeRecord(bytes) ? 0 : undefined
    }
    peek(socket, judge, { clock, ms: this.#options.handshakeMs }, (isGood) => {
      if (!isGood) socket.destroy()
      else if (isPlain) this.#tools.onPlain(socket)
      else handshake.leave = this.#gate.enter(() => this.#begin(handshake))
    })
  }

  /** Looks at the files no more. */
  close(): void {
    this.#closed = true
    this.#cancelLook()
  }

  #begin(handshake: Handshake): void {
    handshake.trust = this.#clients?.trust
    this.#server.emit('connection', handshake.connection.socket)
  }

  #secured(socket: TLSSocket): void {
    const ends = endsOf(socket)
    const handshake = this.#handshakes.get(ends)
    if (!handshake || this.#clients?.admit(handshake.connection, socket, handshake.trust) === false) {
      socket.destroy()
      return
    }
    this.#handshakes.delete(ends)
    handshake.leave()
    this.#tools.counts.handshakes.ok++
    this.#tools.onSecure(handshake.connection, socket)
  }

  async #look(): Promise<void> {
    const { clock } = this.#tools
    const credentials = await readCredentials(this.#options, this.#credentials)
    if (this.#closed) return
    if ('message' in credentials) this.#report(credentials)
    else this.#update(credentials)
    this.#reportLapse()
    // After a change; and certificates and lists expire.
    this.#clients?.look()
    this.#cancelLook = clock.after(this.#options.reloadMs, () => void this.#look())
  }

  #update(credentials: Credentials): void {
    const { clock } = this.#tools
    const before = this.#credentials
    const isStale = clock.now() - this.#ticketsFrom >= this.#options.ticketMs
    const areOthers = !areSame(credentials.clients, before.clients)
    const needsKeys = isStale || areOthers
    if (!needsKeys && identitiesIn(credentials) === identitiesIn(before)) {
      this.#problem = ''
      return
    }
    const ticketKeys = needsKeys ? newTicketKeys() : this.#ticketKeys
    const identities = Identities.create(credentials, this.#options, ticketKeys)
    if ('message' in identities) {
      this.#report(identities)
      return
    }
    if (needsKeys) this.#ticketsFrom = clock.now()
    this.#ticketKeys = ticketKeys
    this.#credentials = credentials
    this.#problem = ''
    this.#show(identities)
    if (areOthers) this.#clients!.trust = trustIn(credentials)!
  }

  /** Once for each problem, and not at every look. */
  #report(problem: FileProblem): void {
    const text = `${problem.file}: ${problem.message}`
    if (text !== this.#problem) this.#tools.onProblem(problem)
    this.#problem = text
  }

  /** Likewise. Whoever has no revocation list that holds now is kept out by OpenSSL. */
  #reportLapse(): void {
    const { clients } = this.#credentials
    const authority = this.#clients?.trust.unlisted(this.#tools.clock.epoch())
    if (clients?.revoked && authority !== undefined && authority !== this.#lapse) {
      const message = `there is no list of ${authority} that holds now: until there is, its clients do not get in`
      this.#tools.onProblem({ file: clients.revoked.file, message })
    }
    this.#lapse = authority ?? ''
  }

  #show(identities: Identities): void {
    this.#server.setSecureContext(identities.usual)
    this.#identities = identities
    const { certificates } = identities
    this.#tools.counts.certificates = certificates.map(({ file, leaf }) => ({ file, expiresAt: leaf.validToDate }))
  }
}

function newTicketKeys(): Buffer {
  return randomBytes(48)
}

function trustIn({ clients }: Credentials): ClientTrust | undefined {
  return clients && new ClientTrust(clients.certificates, clients.revoked?.lists)
}

function identitiesIn({ certificates }: Credentials): string {
  return certificates.flatMap(({ cert, key }) => [cert, key]).join('\n')
}

function areSame(some: Credentials['clients'], others: Credentials['clients']): boolean {
  return some?.revoked === others?.revoked && some?.pems.join() === others?.pems.join()
}

/** Whether it begins as a method does, and no record of TLS (RFC 8446 section 5.1). */
function isHttp(bytes: Buffer): boolean {
  return bytes[0]! >= 0x41 && bytes[0]! <= 0x5a
}

const recordHead = 5
/** OpenSSL says what is wrong with one that is longer. */
const longestRecord = 16_384

function isWholeRecord(bytes: Buffer): boolean {
  if (bytes[0] !== 0x16) return true
  if (bytes.length < recordHead) return false
  const length = bytes.readUInt16BE(3)
  return length > longestRecord || bytes.length >= recordHead + length
}

/** What no two open connections have in common. */
function endsOf({ localAddress, localPort, remoteAddress, remotePort }: Socket): string {
  return `${localAddress} ${localPort} ${remoteAddress} ${remotePort}`
}
