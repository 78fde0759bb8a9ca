/**
 * One of the two fronts of HTTP/1.1 on a port of its own, as the edge has it, with a pipeline behind it that writes down
 * what it is given and answers as the target says.
 */
import { createHash } from 'node:crypto'
import type { AddressInfo, Socket } from 'node:net'
import { systemClock } from '../../src/core/clock.ts'
import type { Origin } from '../../src/core/origin.ts'
import { refuse, type Refusal } from '../../src/core/refusal.ts'
import { edgeOptions, type EdgeOptions } from '../../src/edge/options.ts'
import type { Exchange } from '../../src/edge/exchange.ts'
import { endWith } from '../../src/edge/http1/by-hand.ts'
import type { Http1Front } from '../../src/edge/http1/front.ts'
import { createHttp1 } from '../../src/edge/http1/fronts.ts'
import { refusalBody } from '../../src/edge/reply.ts'
import { allMethods, noProxy } from '../../src/edge/routes.ts'
import { Connections, type Connection } from '../../src/edge/transport/connections.ts'
import { Intake } from '../../src/edge/transport/intake.ts'
import { Listener } from '../../src/edge/transport/listener.ts'
import { TlsLayer } from '../../src/edge/transport/tls.ts'
import { EdgeCounts } from '../../src/telemetry/edge-counts.ts'

export type FrontKind = EdgeOptions['http1']

/** Limits that heads, bodies and connections of a test stay below, and others that they do not. */
export const limits = {
  usual: {},
  tight: {
    connections: { maxRequests: 6, maxPipelined: 3 },
    head: { maxBytes: 1_024, maxFields: 8 },
    body: { maxUnreadBytes: 1_000 },
  },
} as const
export type LimitsName = keyof typeof limits

/** Time must not decide anything; and nobody is left alone because the test keeps the event loop busy. */
const patience = 3_600_000
const patient = {
  connections: { idleMs: patience, stallMs: patience, maxTurnMs: patience },
  head: { timeoutMs: patience },
  body: { timeoutMs: patience },
}

/** What the pipeline saw of a request. */
export class SeenRequest {
  readonly method: string
  readonly target: string
  readonly host: string
  /** As JSON. */
  readonly headers: string
  /** Code and words of what the front had against it; empty if nothing. */
  readonly flaw: string
  readonly pieces: Uint8Array[] = []
  length = 0
  /** How often the end of the body, its answer's last byte and the client's leaving were told. */
  ended = 0
  closed = 0
  gone = 0
  isAnswered = false

  constructor({ method, target, host, headers }: Exchange, flaw: Refusal | undefined) {
    this.method = method
    this.target = target
    this.host = host
    this.headers = JSON.stringify(headers)
    this.flaw = flaw ? `${flaw.code}: ${flaw.message}` : ''
  }

  get body(): Buffer {
    return Buffer.concat(this.pieces)
  }
}

/** The side of the front of a connection. */
export class ServedConnection {
  readonly socket: Socket
  readonly seen: SeenRequest[] = []
  /** What was not as an exchange must be. */
  readonly problems: string[] = []
  /** Turns of the event loop that answers wait for. */
  waiting = 0
  /** Grows with whatever happens. */
  steps = 0
  isClosed = false
  /** Whether its client has found it: the next one from the same port may be here before it is closed. */
  isFound = false

  constructor(socket: Socket) {
    this.socket = socket
    socket.on('close', () => (this.isClosed = true))
  }
}

export interface TlsFiles {
  readonly cert: string
  readonly key: string
}

export class ServedFront {
  port = 0
  readonly #served = new Map<string, ServedConnection>()
  readonly #byOrigin = new WeakMap<Origin, ServedConnection>()
  readonly #counts = new EdgeCounts()
  readonly #connections: Connections
  readonly #http1: Http1Front
  readonly #listener: Listener
  #tls: TlsLayer | undefined

  private constructor(options: EdgeOptions) {
    const clock = systemClock
    const counts = this.#counts
    this.#connections = new Connections(options.connections, clock)
    const intake = new Intake(options.connections.maxTurnMs, clock, counts)
    const tools = { connections: this.#connections, intake, counts, clock }
    this.#http1 = createHttp1(options, { ...tools, handle: (exchange, flaw) => this.#handle(exchange, flaw) })
    this.#listener = new Listener(
      { host: '127.0.0.1', port: 0, proxyProtocol: [], shared: [], headMs: patience },
      this.#connections,
      {
        onConnection: (connection) => this.#begin(connection),
        onSurplus: (socket) =>
          endWith(socket, refuse('overloaded', 'there are too many connections'), { clock, counts }),
      },
      { clock, counts },
    )
  }

  static async start(kind: FrontKind, name: LimitsName, files?: TlsFiles): Promise<ServedFront> {
    const own: { readonly [part: string]: object } = limits[name]
    const parts = Object.entries({ ...patient }).map(([part, values]) => [part, { ...values, ...own[part] }])
    const front = new ServedFront(edgeOptions.parse({ ...Object.fromEntries(parts), http1: kind }))
    if (files) await front.#startTls(files)
    front.port = await front.#listener.listen()
    return front
  }

  async #startTls(files: TlsFiles): Promise<void> {
    const { tls } = edgeOptions.parse({ tls: { certificates: [files] } })
    const layer = await TlsLayer.create(tls!, {
      clock: systemClock,
      counts: this.#counts,
      onProblem: () => undefined,
      onSecure: (connection, socket) => this.#http1.accept(connection, socket),
      onPlain: (socket) => socket.destroy(),
    })
    if ('message' in layer) throw new Error(layer.message)
    this.#tls = layer
  }

  /** The other side of a client's connection, once it is accepted. */
  find(client: AddressInfo): ServedConnection | undefined {
    const served = this.#served.get(`${client.address}:${client.port}`)
    if (!served || served.isFound) return undefined
    served.isFound = true
    return served
  }

  /** Connections that are not closed. */
  get left(): number {
    return Math.max(this.#connections.size, this.#counts.open['http/1.1'], this.#served.size)
  }

  close(): void {
    this.#listener.close()
    this.#tls?.close()
    this.#http1.close()
  }

  #begin(connection: Connection): void {
    const { socket } = connection
    const served = new ServedConnection(socket)
    const key = `${socket.remoteAddress}:${socket.remotePort}`
    this.#served.set(key, served)
    this.#byOrigin.set(connection.origin, served)
    // Who comes from the same port may be here already.
    socket.on('close', () => this.#served.get(key) === served && this.#served.delete(key))
    if (this.#tls) this.#tls.accept(connection)
    else this.#http1.accept(connection, socket)
  }

  #handle(exchange: Exchange, flaw: Refusal | undefined): void {
    const served = this.#byOrigin.get(exchange.origin)!
    new Call(exchange, served, flaw).begin(flaw)
  }
}

/** A request on its way through the pipeline. */
class Call {
  readonly #exchange: Exchange
  readonly #served: ServedConnection
  readonly #seen: SeenRequest
  readonly #index: number

  constructor(exchange: Exchange, served: ServedConnection, flaw: Refusal | undefined) {
    this.#exchange = exchange
    this.#served = served
    this.#seen = new SeenRequest(exchange, flaw)
    if (served.seen.some(({ isAnswered, gone }) => !isAnswered && gone === 0))
      this.#complain('begun before the one before was answered')
    if (exchange.gone) this.#complain('gone from the beginning')
    this.#index = served.seen.push(this.#seen) - 1
    served.steps++
  }

  begin(flaw: Refusal | undefined): void {
    const exchange = this.#exchange
    exchange.onGone(() => this.#told('gone'))
    exchange.onClosed(() => this.#told('closed'))
    if (flaw) this.answer(flaw.status, [refusalBody(flaw, '')])
    else this.#act(wordOf(exchange.target))
  }

  #act(word: string): void {
    const { method } = this.#exchange
    if (method === 'CONNECT') this.answer(405, [refusalBody(noProxy(), '')], ['allow', allMethods])
    else if (word === 'now') this.answer()
    else if (word === 'wait') this.#after(3, () => this.answer())
    else if (word === 'twice') this.#read(() => [this.answer(), this.answer(500, ['again'])])
    else if (word === 'late') this.#read(() => this.#after(3, () => this.answer(200, [this.#digest()])))
    else if (word === 'defer') this.#after(2, () => this.#read(() => this.answer(200, [this.#digest()])))
    else if (word === 'early') this.#readSome(0)
    else if (word === 'enough') this.#readSome(1_000)
    else if (word === 'pause') this.#readSlowly()
    else if (word === 'large') this.#read(() => this.answer(200, large))
    else if (word === 'empty') this.#read(() => this.answer(204, [], ['allow', method]))
    else if (word === 'bytes') this.#read(() => this.answer(200, [new Uint8Array(this.#seen.body)]))
    else if (word !== 'never') this.#read(() => this.answer(200, [this.#digest()]))
  }

  answer(status = 200, pieces: readonly (string | Uint8Array)[] = ['ok\n'], fields: readonly string[] = []): void {
    const length = pieces.reduce((sum, piece) => sum + Buffer.byteLength(piece), 0)
    const about = status === 204 ? [] : ['content-type', 'text/plain', 'content-length', String(length)]
    const head = [...about, 'x-number', String(this.#index), ...fields, 'vary', 'a', 'vary', 'b']
    if (this.#exchange.method === 'HEAD') head.push('x-method', 'HEAD')
    this.#seen.isAnswered = true
    this.#served.steps++
    this.#exchange.answer(status, head, pieces)
  }

  #digest(): string {
    const { body, method } = this.#seen
    return `${method} ${body.length} ${createHash('sha1').update(body).digest('hex')} \u00fc\u20ac`
  }

  #read(ended: () => void, came: () => void = () => undefined): void {
    const seen = this.#seen
    this.#exchange.read({
      data: (chunk) => {
        this.#served.steps++
        if (seen.ended > 0 || seen.gone > 0) this.#complain('data behind the end')
        if (seen.isAnswered) return
        seen.pieces.push(chunk)
        seen.length += chunk.length
        came()
      },
      end: () => {
        this.#served.steps++
        if (seen.closed > 0) this.#complain('an end behind the end')
        if (seen.isAnswered) return
        if (++seen.ended > 1) this.#complain('two ends of a body')
        ended()
      },
    })
  }

  #readSome(most: number): void {
    const seen = this.#seen
    const came = () => {
      if (seen.length > most) this.answer(413)
    }
    this.#read(() => this.answer(), came)
  }

  #readSlowly(): void {
    let [isPaused, isQuiet] = [false, false]
    this.#read(
      () => this.answer(200, [this.#digest()]),
      () => {
        if (isQuiet) this.#complain('data in a pause')
        isPaused = true
        this.#exchange.pause()
        // What has come with it may still be passed on.
        this.#after(1, () => (isQuiet = isPaused))
        this.#after(2, () => {
          isPaused = isQuiet = false
          this.#exchange.resume()
        })
      },
    )
  }

  #after(turns: number, then: () => void): void {
    this.#served.waiting++
    let left = turns
    const turn = (): void => {
      if (--left > 0) {
        setImmediate(turn)
        return
      }
      this.#served.waiting--
      then()
    }
    setImmediate(turn)
  }

  #told(what: 'gone' | 'closed'): void {
    const seen = this.#seen
    this.#served.steps++
    if (++seen[what] > 1) this.#complain(`told twice that it is ${what}`)
    if (what === 'gone' && seen.closed > 0) this.#complain('gone behind its end')
    if (this.#exchange.gone !== seen.gone > 0) this.#complain('is gone and was not told so, or the other way round')
  }

  #complain(text: string): void {
    this.#served.problems.push(text)
  }
}

/** What to do, which the path of a target ends with. */
function wordOf(target: string): string {
  return /\/([a-z]+)(\?|$)/.exec(target)?.[1] ?? ''
}

/** 300 KB of text and of bytes. */
const large: readonly (string | Uint8Array)[] = [
  'plain '.repeat(10_000),
  'h\u00e9h\u00e9 \u20ac \u{1f600} '.repeat(5_000),
  Uint8Array.from({ length: 90_000 }, (_, i) => (i * 7) & 0xff),
  '',
  'more '.repeat(14_000),
  new Uint8Array(3),
]
