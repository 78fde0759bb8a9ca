/**
 * HTTP/1.1 on bare sockets: what `node:http` does with streams, events and a timer for each request is done here with one
 * object a connection, one a request and one look a second over all.
 */
import type { Socket } from 'node:net'
import type { EdgeOptions } from '../../options.ts'
import type { Connection } from '../../transport/connections.ts'
import type { ProtocolTools } from '../../exchange.ts'
import { endOverdue } from '../../sweep.ts'
import type { Http1Front } from '../front.ts'
import { AnswerHead } from './answer.ts'
import { LeanChannel, type LeanTools } from './channel.ts'

/** How often connections are looked at, if no time that they have is shorter. */
const longestWatchMs = 1_000

export class LeanFront implements Http1Front {
  readonly #tools: LeanTools
  readonly #watchMs: number
  readonly #channels = new Set<LeanChannel>()
  #cancelWatch: (() => void) | undefined

  constructor(options: EdgeOptions, tools: ProtocolTools) {
    const { head, connections } = options
    this.#tools = { ...tools, options, answerHead: new AnswerHead(connections.idleMs, tools.clock) }
    this.#watchMs = Math.min(longestWatchMs, head.timeoutMs, connections.idleMs, connections.stallMs)
  }

  accept(connection: Connection, socket: Socket): void {
    const { counts, intake } = this.#tools
    const channel = new LeanChannel(connection, socket, this.#tools)
    connection.ending = channel
    counts.open['http/1.1']++
    this.#channels.add(channel)
    this.#cancelWatch ??= this.#watchLater()
    // A socket that TLS has wrapped has nobody else to hear of it.
    if (socket !== connection.socket) socket.on('error', () => socket.destroy())
    socket.on('close', () => {
      counts.open['http/1.1']--
      this.#channels.delete(channel)
      intake.closed(socket)
      channel.closed()
    })
  }

  close(): void {
    this.#cancelWatch?.()
  }

  #watchLater(): () => void {
    const { clock } = this.#tools
    const end = (channel: LeanChannel, now: number) => channel.watch(now)
    const done = () => {
      this.#cancelWatch = this.#channels.size > 0 ? this.#watchLater() : undefined
    }
    return clock.after(this.#watchMs, () => endOverdue(this.#channels, end, clock, done))
  }
}
