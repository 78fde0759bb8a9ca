/**
 * The load generator, in a process of its own: closed-loop, each connection sends its next request when the answer to the
 * last is complete, and never before. It shares the machine with what it measures, so it does as little as it can: raw
 * sockets that read into one buffer, one prepared request, and of an answer only the status and the length.
 */
import { connect, type Socket } from 'node:net'

export type LoadOrder =
  | { readonly kind: 'open'; readonly port: number; readonly connections: number; readonly request: Uint8Array }
  | { readonly kind: 'slice'; readonly pool: number; readonly ms: number }
  | { readonly kind: 'close'; readonly pool: number }

export interface LoadSlice {
  readonly requests: number
  /** Answers that were not 200, or did not come. */
  readonly bad: number
  readonly p50Ms: number
  readonly p99Ms: number
}

const bufferBytes = 65_536

class Connection {
  readonly #pool: Pool
  readonly #socket: Socket
  #sentAt = 0
  #waiting = false
  /** Bytes of an answer's body that are still to come. */
  #due = 0
  /** The beginning of a head that came in pieces. */
  #partial = ''

  constructor(pool: Pool, port: number, onOpen: () => void) {
    this.#pool = pool
    const onread = { buffer: Buffer.allocUnsafeSlow(bufferBytes), callback: this.#read }
    this.#socket = connect({ port, host: '127.0.0.1', noDelay: true, onread }, onOpen)
    this.#socket.on('error', () => this.#lost())
    this.#socket.on('close', () => this.#lost())
  }

  send(now: number): void {
    if (this.#socket.destroyed) {
      this.#pool.answered(this, false, 0)
      return
    }
    this.#sentAt = now
    this.#waiting = true
    this.#socket.write(this.#pool.request)
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
    const now = performance.now()
    this.#pool.answered(this, good, now - this.#sentAt)
  }
}

class Pool {
  readonly request: Uint8Array
  readonly #connections: readonly Connection[]
  readonly opened: Promise<unknown>
  #endAt = 0
  #bad = 0
  #busy = 0
  #latencies: number[] = []
  #onEnd: (slice: LoadSlice) => void = () => {}

  constructor(port: number, connections: number, request: Uint8Array) {
    this.request = request
    const opened: Promise<void>[] = []
    this.#connections = Array.from({ length: connections }, () => {
      const { promise, resolve } = Promise.withResolvers<void>()
      opened.push(promise)
      return new Connection(this, port, resolve)
    })
    this.opened = Promise.all(opened)
  }

  slice(ms: number): Promise<LoadSlice> {
    const now = performance.now()
    this.#endAt = now + ms
    this.#bad = 0
    this.#latencies = []
    this.#busy = this.#connections.length
    return new Promise((resolve) => {
      this.#onEnd = resolve
      for (const connection of this.#connections) connection.send(now)
    })
  }

  answered(connection: Connection, good: boolean, latencyMs: number): void {
    this.#latencies.push(latencyMs)
    if (!good) this.#bad++
    const now = performance.now()
    if (good && now < this.#endAt) connection.send(now)
    else if (--this.#busy === 0) this.#end()
  }

  #end(): void {
    const sorted = Float64Array.from(this.#latencies).toSorted()
    const at = (share: number) => sorted[Math.floor(share * (sorted.length - 1))]!
    this.#onEnd({ requests: sorted.length, bad: this.#bad, p50Ms: at(0.5), p99Ms: at(0.99) })
  }

  close(): void {
    for (const connection of this.#connections) connection.close()
  }
}

const pools: Pool[] = []

async function obey(order: LoadOrder): Promise<unknown> {
  if (order.kind === 'open') {
    const pool = new Pool(order.port, order.connections, order.request)
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
