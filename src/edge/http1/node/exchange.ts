/** One request on `node:http`, to be answered. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Origin } from '../../../core/origin.ts'
import type { BodySink, Exchange } from '../../exchange.ts'
import { isShort, writeInBits, type Pieces } from '../pieces.ts'
import type { NodeChannel } from './channel.ts'

export class NodeExchange implements Exchange {
  gone = false
  awaitsContinue = false
  readonly #channel: NodeChannel
  readonly #request: IncomingMessage
  readonly #response: ServerResponse
  #sink: BodySink | undefined
  #whenGone: (() => void) | undefined
  #whenClosed: (() => void) | undefined

  constructor(channel: NodeChannel, request: IncomingMessage, response: ServerResponse) {
    this.#channel = channel
    this.#request = request
    this.#response = response
    const { connection } = channel
    connection.begun()
    // Node would forget what came behind the offer of another protocol in the same piece.
    if (request.headers.upgrade !== undefined) connection.closing = true
    response.on('close', () => {
      this.gone = !response.writableFinished
      if (this.gone) this.#whenGone?.()
      this.#whenClosed?.()
      channel.answered()
    })
  }

  get method(): string {
    return this.#request.method!
  }

  get target(): string {
    return this.#request.url!
  }

  get host(): string {
    return this.#request.headers.host ?? ''
  }

  get headers(): IncomingMessage['headers'] {
    return this.#request.headers
  }

  get peer(): string {
    return this.#channel.connection.peer
  }

  get origin(): Origin {
    return this.#channel.connection.origin
  }

  get secure(): boolean {
    return 'encrypted' in this.#request.socket
  }

  onGone(callback: () => void): void {
    this.#whenGone = callback
  }

  onClosed(callback: () => void): void {
    this.#whenClosed = callback
  }

  read(sink: BodySink): void {
    if (this.awaitsContinue) this.#response.writeContinue()
    this.awaitsContinue = false
    this.#flowTo(sink)
  }

  pause(): void {
    this.#request.pause()
  }

  resume(): void {
    this.#request.resume()
  }

  answer(status: number, fields: string[], pieces: readonly (string | Uint8Array)[]): void {
    const channel = this.#channel
    const response = this.#response
    if (response.headersSent) return
    channel.isAnswering = true
    // Without the leave that was asked for, Node ends the connection itself.
    const isCut = this.awaitsContinue || this.#endsByItself(status) || (!this.#request.complete && this.#restIsLong())
    if (isCut) channel.cut()
    if (isCut || channel.isLast()) response.shouldKeepAlive = false
    response.writeHead(status, fields)
    if (this.method === 'HEAD') response.end()
    else this.#write(pieces)
    if (!this.#request.complete) this.#readPast()
    // All that fits into the kernel's buffers is there by now.
    if (response.socket && response.socket.writableLength > 0) channel.moved()
  }

  #write(pieces: Pieces): void {
    const response = this.#response
    if (!isShort(pieces)) {
      const write = (bit: Uint8Array, taken: () => void, isLast: boolean) =>
        isLast ? response.end(bit) : response.write(bit, taken)
      writeInBits(pieces, write, { moved: () => this.#channel.moved(), written: () => undefined })
      return
    }
    for (let i = 0; i < pieces.length - 1; i++) response.write(pieces[i])
    response.end(pieces.at(-1))
  }

  #flowTo(sink: BodySink): void {
    const isNew = this.#sink === undefined
    this.#sink = sink
    if (!isNew) return
    this.#request.on('data', (chunk: Buffer) => this.#sink!.data(chunk))
    this.#request.on('end', () => this.#sink!.end())
  }

  /** Node would say so, and begin what is behind it all the same: to HTTP/1.0 it marks the end even of no content. */
  #endsByItself(status: number): boolean {
    return status === 204 && this.#request.httpVersion === '1.0'
  }

  /** Whether what is left of the body is too much to read past. */
  #restIsLong(): boolean {
    const { 'content-length': length, 'transfer-encoding': encoding } = this.#request.headers
    return encoding !== undefined || Number(length ?? 0) > this.#channel.options.body.maxUnreadBytes
  }

  /** Takes what little is left of a body that nobody wants, so that the connection stays usable. */
  #readPast(): void {
    let left = this.#channel.options.body.maxUnreadBytes
    const data = (chunk: Uint8Array) => {
      left -= chunk.length
      if (left < 0) this.#request.pause()
    }
    this.#flowTo({ data, end: () => undefined })
    this.#request.resume()
  }
}
