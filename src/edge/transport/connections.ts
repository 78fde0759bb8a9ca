/**
 * The connections of the data listener: how many there may be, and how to end them without losing a request. Node's own
 * `server.close()` also drops connections that were accepted and have not sent their first request yet, so that is done
 * by hand: readiness turns false, and in HTTP/1.1 every answer says that it is the last; connections and the listener stay
 * open for `idleMs` so that whoever was about to send, can; then the listener closes, and each connection as soon as
 * nothing is in flight on it.
 */
import type { Socket } from 'node:net'
import type { Clock } from '../../core/clock.ts'
import { ConnectionOrigin } from './origin.ts'

export interface DrainOptions {
  readonly idleMs: number
  readonly timeoutMs: number
}

export interface ConnectionLimits {
  readonly max: number
  readonly maxPerAddress: number
}

/** How the protocol that is spoken on a connection brings it to an end. */
export interface Ending {
  /** Ends the connection once nothing is in flight; what was written still goes out. May be called again. */
  end(): void
}

export class Connection {
  readonly socket: Socket
  readonly openedAt: number
  readonly origin: ConnectionOrigin
  /** Whose connection it is: the client's, if a balancer in front has said. */
  peer = ''
  /** The same, if the address is counted. */
  address = ''
  /** Requests so far, and those of them that are not answered. */
  requests = 0
  inFlight = 0
  /** Whether it ends once nothing is in flight. */
  closing = false
  /** Undefined as long as nobody has said which protocol is spoken. */
  ending: Ending | undefined

  constructor(socket: Socket, openedAt: number) {
    this.socket = socket
    this.openedAt = openedAt
    this.origin = new ConnectionOrigin(socket.remoteAddress ?? '')
  }

  begun(): void {
    this.requests++
    this.inFlight++
  }

  answered(): void {
    this.inFlight--
    if (this.closing) this.end()
  }

  end(): void {
    this.closing = true
    if (this.ending) this.ending.end()
    else this.socket.destroy()
  }
}

export class Connections {
  draining = false
  readonly #limits: ConnectionLimits
  readonly #clock: Clock
  readonly #open = new Set<Connection>()
  readonly #byAddress = new Map<string, number>()
  #whenEmpty: (() => void) | undefined

  constructor(limits: ConnectionLimits, clock: Clock) {
    this.#limits = limits
    this.#clock = clock
  }

  get size(): number {
    return this.#open.size
  }

  /** Takes up a connection that was accepted; undefined if there are too many. */
  open(socket: Socket): Connection | undefined {
    if (this.#open.size >= this.#limits.max) return undefined
    const connection = new Connection(socket, this.#clock.now())
    this.#open.add(connection)
    socket.on('close', () => this.#closed(connection))
    return connection
  }

  /** Says whose a connection is, and whether the address may have one more. */
  claim(connection: Connection, address: string, isShared: boolean): boolean {
    connection.peer = address
    if (isShared) return true
    const count = this.#byAddress.get(address) ?? 0
    if (count >= this.#limits.maxPerAddress) return false
    this.#byAddress.set(address, count + 1)
    connection.address = address
    return true
  }

  #closed(connection: Connection): void {
    this.#open.delete(connection)
    const { address } = connection
    if (address !== '') {
      const left = this.#byAddress.get(address)! - 1
      if (left === 0) this.#byAddress.delete(address)
      else this.#byAddress.set(address, left)
    }
    if (this.#open.size === 0) this.#whenEmpty?.()
  }

  /** `stopListening` is called when no more are accepted. Settles with whether every connection ended by itself in time. */
  async drain({ idleMs, timeoutMs }: DrainOptions, stopListening: () => void): Promise<boolean> {
    this.draining = true
    const giveUpAt = this.#clock.now() + timeoutMs
    await this.#pass(Math.min(idleMs, timeoutMs))
    stopListening()
    for (const connection of this.#open) this.#end(connection, idleMs)
    if (this.#open.size === 0) return true
    return new Promise((resolve) => {
      const cancel = this.#clock.after(Math.max(0, giveUpAt - this.#clock.now()), () => {
        for (const { socket } of this.#open) socket.destroy()
        resolve(false)
      })
      this.#whenEmpty = () => {
        cancel()
        resolve(true)
      }
    })
  }

  /** A connection that has just been opened has as long to send its first request as others had to send their next. */
  #end(connection: Connection, idleMs: number): void {
    const left = connection.openedAt + idleMs - this.#clock.now()
    if (connection.requests > 0 || left <= 0) connection.end()
    else this.#clock.after(left, () => connection.end())
  }

  #pass(ms: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#clock.after(ms, resolve)
    return promise
  }
}
