/**
 * The load generator, in a process of its own: closed-loop, each connection sends its next request when the answer to the
 * last is complete, and never before. It shares the machine with what it measures, so it does as little as it can: of
 * HTTP/1.1 it speaks just what it needs, over sockets that read into one buffer.
 */
import { connect as connectHttp2, type ClientHttp2Session } from 'node:http2'
import { connect, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { onTheWire } from './requests.ts'

export type Wire = 'http' | 'https' | 'h2'

export interface OpenOrder {
  readonly kind: 'open'
  readonly wire: Wire
  readonly port: number
  readonly connections: number
  /** Requests at once on each connection; more than one over HTTP/2 only. */
  readonly streams: number
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: Uint8Array
  /** Who signed the server's certificate. */
  readonly ca?: string | undefined
}

export type LoadOrder =
  | OpenOrder
  | { readonly kind: 'slice'; readonly pool: number; readonly ms: number }
  | { readonly kind: 'close'; readonly pool: number }

export interface LoadSlice {
  readonly requests: number
  /** Answers that were not 200, or did not come. */
  readonly bad: number
  readonly p50Ms: number
  readonly p99Ms: number
}

/** Sends requests one at a time. */
interface Lane {
  send(now: number): void
  close(): void
}

interface Answers {
  answered(lane: Lane, good: boolean, sentAt: number): void
}

const bufferBytes = 65_536

class Http1Lane implements Lane {
  readonly #answers: Answers
  readonly #socket: Socket
  readonly #request: Uint8Array
  #sentAt = 0
  #waiting = false
  /** Bytes of an answer's body that are still to come. */
  #due = 0
  /** The beginning of a head that came in pieces. */
  #partial = ''

  constructor(answers: Answers, order: OpenOrder, onOpen: () => void) {
    this.#answers = answers
    const { wire, port, ca } = order
    this.#request = onTheWire(`${wire === 'https' ? 'localhost' : '127.0.0.1'}:${port}`, order)
    if (wire === 'https') {
      this.#socket = connectTls({ port, host: 'localhost', ca, ALPNProtocols: ['http/1.1'] }, onOpen)
      this.#socket.setNoDelay(true)
      this.#socket.on('data', (chunk: Buffer) => this.#read(chunk.length, chunk))
    } else {
      const onread = { buffer: Buffer.allocUnsafeSlow(bufferBytes), callback: this.#read }
      this.#socket = connect({ port, host: '127.0.0.1', noDelay: true, onread }, onOpen)
    }
    this.#socket.on('error', () => this.#lost())
    this.#socket.on('close', () => this.#lost())
  }

  send(now: number): void {
    this.#sentAt = now
    if (this.#socket.destroyed) {
      this.#answers.answered(this, false, now)
      return
    }
    this.#waiting = true
    this.#socket.write(this.#request)
  }

  close(): void {
    this.#waiting = false
    this.#socket.destroy()
  }

  #lost(): void {
    if (this.#waiting) this.#done(false)
  }

  readonly #read = (bytes: number, buffer: Uint8Array): boolean => {
    if (this.#due > 0) {
      this.#due -= bytes
      if (this.#due === 0) this.#done(true)
      return true
    }
    const text = this.#partial + (buffer as Buffer).toString('latin1', 0, bytes)
    const headEnd = text.indexOf('\r\n\r\n')
    if (headEnd < 0) {
      this.#partial = text
      return true
    }
    this.#partial = ''
    const length = /\r\ncontent-length: (\d+)/i.exec(text)
    this.#due = Number(length?.[1]) - (text.length - headEnd - 4)
    const good = text.startsWith('HTTP/1.1 200 ') && this.#due >= 0
    if (!good) this.#socket.destroy()
    if (!good || this.#due === 0) this.#done(good)
    return true
  }

  #done(good: boolean): void {
    this.#waiting = false
    this.#answers.answered(this, good, this.#sentAt)
  }
}

class Http2Lane implements Lane {
  readonly #answers: Answers
  readonly #session: ClientHttp2Session
  readonly #headers: Readonly<Record<string, string>>
  readonly #body: Uint8Array

  constructor(answers: Answers, session: ClientHttp2Session, { path, headers, body }: OpenOrder) {
    this.#answers = answers
    this.#session = session
    this.#headers = { ...headers, ':method': 'POST', ':path': path, 'content-length': String(body.byteLength) }
    this.#body = body
  }

  send(now: number): void {
    if (this.#session.destroyed || this.#session.closed) {
      this.#answers.answered(this, false, now)
      return
    }
    const stream = this.#session.request(this.#headers)
    let isGood = false
    stream.on('response', (head) => (isGood = head[':status'] === 200))
    stream.on('data', () => undefined)
    stream.on('error', () => (isGood = false))
    stream.on('close', () => this.#answers.answered(this, isGood, now))
    stream.end(this.#body)
  }

  close(): void {
    this.#session.destroy()
  }
}

class Pool implements Answers {
  readonly #lanes: readonly Lane[]
  readonly opened: Promise<unknown>
  #endAt = 0
  #bad = 0
  #busy = 0
  #latencies: number[] = []
  #onEnd: (slice: LoadSlice) => void = () => {}

  constructor(order: OpenOrder) {
    const opened: Promise<void>[] = []
    const onOpen = () => {
      const { promise, resolve } = Promise.withResolvers<void>()
      opened.push(promise)
      return resolve
    }
    this.#lanes = Array.from({ length: order.connections }, () => {
      if (order.wire !== 'h2') return [new Http1Lane(this, order, onOpen())]
      const isOpen = onOpen()
      const session = connectHttp2(`https://localhost:${order.port}`, { ca: order.ca }, () => isOpen())
      session.on('error', () => undefined)
      return Array.from({ length: order.streams }, () => new Http2Lane(this, session, order))
    }).flat()
    this.opened = Promise.all(opened)
  }

  slice(ms: number): Promise<LoadSlice> {
    const now = performance.now()
    this.#endAt = now + ms
    this.#bad = 0
    this.#latencies = []
    this.#busy = this.#lanes.length
    return new Promise((resolve) => {
      this.#onEnd = resolve
      for (const lane of this.#lanes) lane.send(now)
    })
  }

  answered(lane: Lane, good: boolean, sentAt: number): void {
    const now = performance.now()
    this.#latencies.push(now - sentAt)
    if (!good) this.#bad++
    if (good && now < this.#endAt) lane.send(now)
    else if (--this.#busy === 0) this.#end()
  }

  #end(): void {
    const sorted = Float64Array.from(this.#latencies).toSorted()
    const at = (share: number) => sorted[Math.floor(share * (sorted.length - 1))]!
    this.#onEnd({ requests: sorted.length, bad: this.#bad, p50Ms: at(0.5), p99Ms: at(0.99) })
  }

  close(): void {
    for (const lane of this.#lanes) lane.close()
  }
}

const pools: Pool[] = []

async function obey(order: LoadOrder): Promise<unknown> {
  if (order.kind === 'open') {
    const pool = new Pool(order)
    await pool.opened
    return pools.push(pool) - 1
  }
  if (order.kind === 'slice') return pools[order.pool]!.slice(order.ms)
  pools[order.pool]!.close()
  return true
}

process.on('message', (order) => {
  void obey(order as LoadOrder).then((reply) => process.send!(reply))
})
