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

interface Connection {
  /** Requests whose answers are not written yet. */
  inFlight: number
  latest: IncomingMessage | undefined
  /** Whether it ends once nothing is in flight. */
  ending: boolean
}

export class Connections {
  draining = false
  readonly #server: Server
  readonly #open = new Map<Socket, Connection>()
  #closeIdle = false
  #whenEmpty: (() => void) | undefined

  constructor(server: Server) {
    this.#server = server
    server.on('connection', (socket) => this.#opened(socket))
    const begun = (request: IncomingMessage, response: ServerResponse) => this.#begun(request, response)
    server.on('request', begun)
    server.on('checkContinue', begun)
  }

  /** Whether an answer written by hand would be taken for that to the request which broke the protocol, and no other. */
  mayAnswerByHand(socket: Socket): boolean {
    const { inFlight, latest } = this.#open.get(socket) ?? { inFlight: 0, latest: undefined }
    return inFlight === (latest && !latest.complete ? 1 : 0)
  }

  /** Lets the requests that came whole be answered, and reads no more. */
  endWhenAnswered(socket: Socket): void {
    const connection = this.#open.get(socket)
    if (!connection || connection.inFlight === 0) socket.destroy()
    else {
      socket.pause()
      connection.ending = true
    }
  }

  #opened(socket: Socket): void {
    this.#open.set(socket, { inFlight: 0, latest: undefined, ending: false })
    socket.on('close', () => {
      this.#open.delete(socket)
      if (this.#open.size === 0) this.#whenEmpty?.()
    })
  }

  #begun(request: IncomingMessage, response: ServerResponse): void {
    const { socket } = request
    const connection = this.#open.get(socket)
    if (!connection) return
    connection.inFlight++
    connection.latest = request
    response.on('close', () => {
      connection.inFlight--
      if ((this.#closeIdle || connection.ending) && connection.inFlight === 0) socket.destroySoon()
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
    for (const [socket, { inFlight }] of this.#open) if (inFlight === 0) socket.destroySoon()
    if (this.#open.size === 0) return true
    return new Promise((resolve) => {
      const cancel = clock.after(giveUpAt - clock.now(), () => {
        for (const socket of this.#open.keys()) socket.destroy()
        resolve(false)
      })
      this.#whenEmpty = () => {
        cancel()
        resolve(true)
      }
    })
  }
}
