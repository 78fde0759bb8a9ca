/**
 * HTTP/1.1 on bare sockets: what `node:http` does with streams, events and a timer for each request is done here with one
 * object a connection, one a request and one look a second over all.
 */
import type { Socket } from 'node:net'
import type { EdgeOptions } from '../../options.ts'
import type { Connection } from '../../transport/connections.ts'
import type { ProtocolTools } from '../../exchange.ts'
import { endedAtOnce } from '../../sweep.ts'
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
    return clock.after(this.#watchMs, () => this.#look())
  }

  #look(): void {
    const { clock } = this.#tools
    const now = clock.now()
    let ended = 0
    for (const channel of this.#channels) {
      if (!channel.watch(now) || ++ended < endedAtOnce) continue
      clock.soon(() => this.#look())
      return
    }
    this.#cancelWatch = this.#channels.size > 0 ? this.#watchLater() : undefined
  }
}
