/** A caller of the open-loop generator: its connections, what it sends over them when, and what came of it. */
import { onTheWire } from '../requests.ts'
import { OpenConnection } from './connection.ts'
import { Tally, type CallerReport } from './tally.ts'

export interface CallerOrder {
  /** Its own address among those of this machine: 127.0.0.2 and so on. */
  readonly address: string
  readonly connections: number
  /** Whether a request that finds no free connection waits for one; if not, it has failed at once. */
  readonly waits: boolean
}

/** What all callers send. */
export interface RequestOrder {
  readonly port: number
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: Uint8Array
  /** From the time that a request was due. Infinite: there is none, and the server is told none. */
  readonly deadlineMs: number
}

const reconnectMs = 50

export class Caller {
  /** Called after each answer, of which there may be many at once. */
  onAnswer: (now: number) => void = () => {}
  readonly #order: CallerOrder & RequestOrder
  readonly #connections = new Set<OpenConnection>()
  /** The one used last is used first: with little load the others stay idle. */
  #free: OpenConnection[] = []
  /** When those were due that found no free connection; the ones before `#head` are done with. */
  #waiting: number[] = []
  #head = 0
  readonly #requests = new Map<number, Uint8Array>()
  #tally = new Tally()
  #isClosing = false

  constructor(order: CallerOrder & RequestOrder) {
    this.#order = order
  }

  async open(): Promise<void> {
    for (let i = 0; i < this.#order.connections; i++) await this.#connect()
  }

  close(): void {
    this.#isClosing = true
    for (const connection of this.#connections) connection.destroy()
  }

  /** What came of the requests since this was asked last. */
  report(): CallerReport {
    const report = this.#tally.report()
    this.#tally = new Tally()
    return report
  }

  get unsettled(): number {
    return this.#tally.unsettled
  }

  /** Sends a request that is due, or lets it wait for a connection. */
  due(dueAt: number, now: number): void {
    this.#tally.offered++
    const connection = this.#free.pop()
    if (connection) this.#send(connection, dueAt, now)
    else if (this.#order.waits) this.#waiting.push(dueAt)
    else this.#tally.count('notSent')
  }

  /** Gives up those whose deadline passed while they waited for a connection. */
  expire(now: number): void {
    const { deadlineMs } = this.#order
    while (this.#head < this.#waiting.length && now - this.#waiting[this.#head]! >= deadlineMs) {
      this.#head++
      this.#tally.count('notSent')
    }
    if (this.#head < this.#waiting.length || this.#head === 0) return
    this.#waiting = []
    this.#head = 0
  }

  /** Gives up whatever is still in flight. */
  abort(): void {
    const free = new Set(this.#free)
    for (const connection of this.#connections) if (!free.has(connection)) connection.destroy()
  }

  answered(connection: OpenConnection, status: number): void {
    const now = performance.now()
    const ms = now - connection.dueAt
    if (status === 200) this.#tally.served(ms, ms <= this.#order.deadlineMs)
    else if (status === 503) this.#tally.refused(now - connection.sentAt)
    else this.#tally.count(status === 504 ? 'expired' : 'other')
    if (connection.isOpen) this.#reuse(connection, now)
    this.onAnswer(now)
  }

  #reuse(connection: OpenConnection, now: number): void {
    this.expire(now)
    if (this.#head < this.#waiting.length) this.#send(connection, this.#waiting[this.#head++]!, now)
    else this.#free.push(connection)
  }

  /** A connection that the server closes is replaced, as in any client's pool, and not at once. */
  closed(connection: OpenConnection): void {
    if (!this.#connections.delete(connection) || this.#isClosing) return
    this.#free = this.#free.filter((each) => each !== connection)
    this.#tally.reopened++
    setTimeout(() => void this.#connect().catch(() => undefined), reconnectMs)
  }

  async #connect(): Promise<void> {
    const connection = new OpenConnection(this, this.#order)
    await connection.opened
    this.#connections.add(connection)
    this.#free.push(connection)
  }

  #send(connection: OpenConnection, dueAt: number, now: number): void {
    connection.dueAt = dueAt
    connection.sentAt = now
    connection.send(this.#request(dueAt + this.#order.deadlineMs - now))
  }

  /** The bytes of a request that has so much time left; the server is told the whole milliseconds. */
  #request(leftMs: number): Uint8Array {
    const timeoutMs = Math.max(1, Math.floor(leftMs))
    const known = this.#requests.get(timeoutMs)
    if (known) return known
    const { port, headers, ...rest } = this.#order
    const timeout = Number.isFinite(timeoutMs) ? { 'x-request-timeout-ms': String(timeoutMs) } : {}
    const made = onTheWire(`127.0.0.1:${port}`, { ...rest, headers: { ...headers, ...timeout } })
    this.#requests.set(timeoutMs, made)
    return made
  }
}
