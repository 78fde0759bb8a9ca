/**
 * The connections of one server, and how to end them without losing a request. Node's own `server.close()` also drops
 * connections that were accepted and have not sent their first request yet, so this is done by hand: readiness turns
 * false and every answer says `connection: close`; connections and the listener stay open for `idleMs` so that whoever
 * was about to send, can; then the listener closes, and each connection as soon as nothing is in flight on it.
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { Server as NetServer, type Socket } from 'node:net'
import type { Clock } from '../core/clock.ts'

export interface DrainOptions {
  readonly idleMs: number
  readonly timeoutMs: number
}

export class Connections {
  draining = false
  readonly #server: Server
  /** Requests in flight on each open connection. */
  readonly #inFlight = new Map<Socket, number>()
  #closeIdle = false
  #whenEmpty: (() => void) | undefined

  constructor(server: Server) {
    this.#server = server
    server.on('connection', (socket) => this.#opened(socket))
    const begun = (request: IncomingMessage, response: ServerResponse) => this.#begun(request.socket, response)
    server.on('request', begun)
    server.on('checkContinue', begun)
  }

  #opened(socket: Socket): void {
    this.#inFlight.set(socket, 0)
    socket.on('close', () => {
      this.#inFlight.delete(socket)
      if (this.#inFlight.size === 0) this.#whenEmpty?.()
    })
  }

  #begun(socket: Socket, response: ServerResponse): void {
    this.#inFlight.set(socket, (this.#inFlight.get(socket) ?? 0) + 1)
    response.on('close', () => {
      const left = (this.#inFlight.get(socket) ?? 1) - 1
      if (this.#inFlight.has(socket)) this.#inFlight.set(socket, left)
      if (this.#closeIdle && left === 0) socket.end()
    })
  }

  /** Settles with whether every connection ended by itself within the time. */
  async drain({ idleMs, timeoutMs }: DrainOptions, clock: Clock): Promise<boolean> {
    this.draining = true
    const giveUpAt = clock.now() + timeoutMs
    await new Promise<void>((resolve) => void clock.after(Math.min(idleMs, timeoutMs), resolve))
    // The plain TCP server's close: it stops listening and touches no connection.
    NetServer.prototype.close.call(this.#server)
    this.#closeIdle = true
    for (const [socket, requests] of this.#inFlight) if (requests === 0) socket.end()
    if (this.#inFlight.size === 0) return true
    return new Promise((resolve) => {
      const cancel = clock.after(giveUpAt - clock.now(), () => {
        for (const socket of this.#inFlight.keys()) socket.destroy()
        resolve(false)
      })
      this.#whenEmpty = () => {
        cancel()
        resolve(true)
      }
    })
  }
}
