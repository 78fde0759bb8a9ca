/** The order of requests on a connection of HTTP/1.1, and how it ends. */
import type { IncomingMessage } from 'node:http'
import { Socket } from 'node:net'
import type { EdgeOptions } from '../../options.ts'
import type { Connection, Ending } from '../../transport/connections.ts'
import { endLingering } from '../../transport/linger.ts'
import type { ProtocolTools } from '../../exchange.ts'

/**
 * What is known of the connection that a request came on. Requests that are sent ahead of the answers before them wait for
 * their turn: Node would begin all of them at once, and a client that sends as fast as it can would have the process.
 */
export class NodeChannel implements Ending {
  readonly connection: Connection
  readonly options: EdgeOptions
  readonly #waiting: (() => void)[] = []
  #latest: IncomingMessage | undefined
  #isDeaf = false
  #isEnding = false
  /** Whether an answer is on its way. */
  isAnswering = false
  #cancelStall: () => void = () => undefined
  readonly #socket: Socket
  readonly #tools: ProtocolTools

  constructor(
    connection: Connection,
    socket: Socket,
    { options, tools }: { readonly options: EdgeOptions; readonly tools: ProtocolTools },
  ) {
    this.connection = connection
    this.options = options
    this.#socket = socket
    this.#tools = tools
    // Node calls it behind the last answer, and for each that is not written any more.
    socket.destroySoon = () => {
      if (!this.#isEnding) endLingering(socket, tools.clock)
      this.#isEnding = true
    }
  }

  /** Begins a request when it is its turn. */
  take(request: IncomingMessage, begin: () => void): void {
    const { connection, options } = this
    const isNext = connection.inFlight === 0
    // Whoever sends ahead sends again what is not answered before the connection ends (RFC 9112 section 9.3.2).
    const isTaken = !connection.closing && (isNext || this.#waiting.length < options.connections.maxPipelined)
    if (isTaken) this.#latest = request
    else this.#endWhenAnswered()
    if (!isTaken) return
    if (isNext) begin()
    else this.#waiting.push(begin)
  }

  /** Some of an answer was taken, or is now there to be: more of it has to be within the time for that. */
  moved(): void {
    const { clock } = this.#tools
    this.#cancelStall()
    this.#cancelStall = clock.after(this.options.connections.stallMs, () => this.#socket.destroy())
  }

  answered(): void {
    this.#cancelStall()
    if (this.#socket.destroyed) this.#waiting.length = 0
    this.isAnswering = false
    this.connection.answered()
    const next = this.#waiting.shift()
    if (next) next()
    else if (!this.connection.closing) this.#tools.intake.answered(this.#socket)
  }

  end(): void {
    if (this.#unanswered > 0 || this.#isEnding) return
    this.#isEnding = true
    if (this.#isDeaf) endLingering(this.#socket, this.#tools.clock)
    else Socket.prototype.destroySoon.call(this.#socket)
  }

  get #unanswered(): number {
    return this.connection.inFlight + this.#waiting.length
  }

  /** Whether the answer that is about to be written is the last one. */
  isLast(): boolean {
    const { connection, options } = this
    if (connection.requests >= options.connections.maxRequests) this.#waiting.length = 0
    else if (!connection.closing && !this.#tools.connections.draining) return false
    connection.closing = true
    return this.#waiting.length === 0
  }

  /** Whether an answer written by hand would be taken for that to the request which broke the protocol, and no other. */
  mayAnswerByHand(): boolean {
    return !this.isAnswering && this.#unanswered === (this.#latest && !this.#latest.complete ? 1 : 0)
  }

  /** What comes is no request: lets those that came whole be answered, and reads no more. */
  breakOff(): void {
    if (this.#latest?.complete === false) this.#waiting.pop()
    this.#endWhenAnswered()
  }

  #endWhenAnswered(): void {
    if (!this.#isDeaf) deafen(this.#socket)
    this.#isDeaf = true
    this.connection.end()
  }

  /** Makes the request in hand the last one, whatever was sent behind it. */
  cut(): void {
    this.connection.closing = true
    this.#waiting.length = 0
  }
}

/**
 * Throws away what comes. Node's parser would read on through a pause; it leaves the socket to others once they listen. For
 * every request that it has read beyond, it makes an error when the connection closes: with a trace each, hundreds of
 * them would take longer than everything before.
 */
function deafen(socket: Socket): void {
  const ignore = () => undefined
  socket.on('data', ignore)
  for (const each of socket.listeners('data')) if (each !== ignore) socket.off('data', each as () => void)
  const { stackTraceLimit } = Error
  socket.prependListener('close', () => (Error.stackTraceLimit = 0))
  socket.on('close', () => (Error.stackTraceLimit = stackTraceLimit))
}
