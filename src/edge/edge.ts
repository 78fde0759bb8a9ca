/**
 * The data listener: what clients connect to. Connections come from the listener, through TLS if it is configured, to the
 * version of HTTP that is spoken on them, and their requests to the dispatcher.
 */
import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { refuse } from '../core/refusal.ts'
import type { EdgeOptions } from './options.ts'
import { endWith } from './http1/by-hand.ts'
import type { Http1Front } from './http1/front.ts'
import { createHttp1 } from './http1/fronts.ts'
import { Http2 } from './http2/front.ts'
import { Dispatcher, type Surroundings } from './dispatcher.ts'
import type { FileProblem } from './transport/certificates.ts'
import { Connections, type Connection } from './transport/connections.ts'
import { Intake } from './transport/intake.ts'
import { Listener } from './transport/listener.ts'
import { peek } from './transport/peek.ts'
import { TlsLayer } from './transport/tls.ts'

export class DataEdge {
  readonly #options: EdgeOptions
  readonly #around: Surroundings
  readonly #connections: Connections
  readonly #intake: Intake
  readonly #listener: Listener
  readonly #http1: Http1Front
  readonly #http2: Http2
  #tls: TlsLayer | undefined
  /** Connections that were one too many and are not closed yet. */
  #leaving = 0

  private constructor(options: EdgeOptions, around: Surroundings) {
    const { serving, clock } = around
    const { connections: limits, head } = options
    const { counts } = serving
    this.#options = options
    this.#around = around
    this.#connections = new Connections(limits, clock)
    this.#intake = new Intake(limits.maxTurnMs, clock, counts)
    const dispatcher = new Dispatcher(options, around, {
      isDraining: () => this.#connections.draining,
      intake: this.#intake,
    })
    const tools = { connections: this.#connections, intake: this.#intake, counts, clock, handle: dispatcher.handle }
    this.#http1 = createHttp1(options, tools)
    this.#http2 = new Http2(options, tools)
    this.#listener = new Listener(
      { ...options, shared: limits.shared, headMs: head.timeoutMs },
      this.#connections,
      { onConnection: (connection) => this.#begin(connection), onSurplus: (socket) => this.#turnAway(socket) },
      { clock, counts },
    )
  }

  /** Reads the certificates, if there are to be any; or says what is wrong with a file. */
  static async create(options: EdgeOptions, around: Surroundings): Promise<DataEdge | FileProblem> {
    const edge = new DataEdge(options, around)
    const problem = await edge.#startTls()
    return problem ?? edge
  }

  /** Starts to listen; settles with the port. Rejects with the system's error. */
  listen(): Promise<number> {
    return this.#listener.listen()
  }

  /** Stops without losing a request; settles with whether every connection ended by itself. */
  async drain(): Promise<boolean> {
    this.#intake.close()
    const isClean = await this.#connections.drain(this.#options.drain, () => this.#listener.close())
    this.close()
    return isClean
  }

  /** Lets go of everything, given that nobody is connected. */
  close(): void {
    this.#listener.close()
    this.#tls?.close()
    this.#http1.close()
    this.#http2.close()
  }

  async #startTls(): Promise<FileProblem | undefined> {
    const { tls } = this.#options
    if (!tls) return undefined
    const { clock, serving, onProblem } = this.#around
    const layer = await TlsLayer.create(tls, {
      clock,
      counts: serving.counts,
      onProblem,
      onSecure: (connection, socket) => this.#speakSecurely(connection, socket),
      onPlain: (socket) => endWith(socket, notHttps, { clock, counts: serving.counts }),
    })
    if ('message' in layer) return layer
    this.#tls = layer
    return undefined
  }

  #begin(connection: Connection): void {
    if (this.#tls) this.#tls.accept(connection)
    else if (this.#options.http2.cleartext) this.#sniff(connection)
    else this.#http1.accept(connection, connection.socket)
  }

  /** HTTP/2 without TLS begins with words that HTTP/1.1 does not have (RFC 9113 section 3.4). */
  #sniff(connection: Connection): void {
    let isPreface = false
    const judge = (bytes: Buffer) => {
      const length = Math.min(bytes.length, preface.length)
      isPreface = bytes.compare(preface, 0, length, 0, length) === 0
      return isPreface && length < preface.length ? undefined : 0
    }
    const { socket } = connection
    peek(socket, judge, { clock: this.#around.clock, ms: this.#options.head.timeoutMs }, (isGood) => {
      if (!isGood) socket.destroy()
      else if (isPreface) this.#http2.accept(connection, socket)
      else this.#http1.accept(connection, socket)
    })
  }

  #speakSecurely(connection: Connection, socket: TLSSocket): void {
    if (socket.alpnProtocol === 'h2') this.#http2.accept(connection, socket)
    else this.#http1.accept(connection, socket)
  }

  /** Only who would read HTTP/1.1 is told why, and only so many at once: until they have read it they are connected. */
  #turnAway(socket: Socket): void {
    if (this.#tls || this.#leaving === mostLeaving) {
      socket.destroy()
      return
    }
    const { clock, serving } = this.#around
    this.#leaving++
    socket.on('close', () => this.#leaving--)
    endWith(socket, tooMany, { clock, counts: serving.counts })
  }
}

const mostLeaving = 100
const tooMany = refuse('overloaded', 'there are too many connections')
const notHttps = refuse('invalid', 'this port speaks HTTPS: use https:// in front of its name')
const preface = Buffer.from('PRI * HTTP/2.0\r\n')
