/** HTTP/1.1 on `node:http`, over connections that somebody else has accepted. */
import { createServer, STATUS_CODES, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Clock } from '../../core/clock.ts'
import type { Origin } from '../../core/origin.ts'
import { refuse, type Refusal } from '../../core/refusal.ts'
import type { EdgeOptions } from '../options.ts'
import { refusalBody } from '../reply.ts'
import { allMethods, noProxy } from '../routes.ts'
import type { Connection } from '../transport/connections.ts'
import { endLingering } from '../transport/linger.ts'
import type { BodySink, Exchange, ProtocolTools } from './exchange.ts'
import { hostFlaw, proofFlaw, unexpected } from './flaws.ts'
import { Channel } from './http1-channel.ts'

export class Http1 {
  readonly #options: EdgeOptions
  readonly #tools: ProtocolTools
  readonly #server: Server
  readonly #channels = new WeakMap<Socket, Channel>()

  constructor(options: EdgeOptions, tools: ProtocolTools) {
    const { head, body, connections } = options
    this.#options = options
    this.#tools = tools
    this.#server = createServer({
      maxHeaderSize: head.maxBytes,
      headersTimeout: head.timeoutMs,
      // Bodies that are read have a timer of their own; this one is for those that are read past.
      requestTimeout: head.timeoutMs + body.timeoutMs,
      keepAliveTimeout: connections.idleMs,
      connectionsCheckingInterval: 1_000,
      // Looked at here, for an answer of the usual form.
      requireHostHeader: false,
    })
    this.#server.maxHeadersCount = head.maxFields + 1
    this.#server.on('request', (request, response) => this.#begun(request, response, false))
    this.#server.on('checkContinue', (request, response) => this.#begun(request, response, true))
    this.#server.on('checkExpectation', (request, response) => this.#refuse(request, response, unexpected()))
    this.#server.on('connect', (_, socket) => this.#end(socket as Socket, noProxy(), `allow: ${allMethods}\r\n`))
    this.#server.on('clientError', (error, socket) => this.#refuseHead(error, socket as Socket))
    // It keeps watch over its timeouts only while it believes that it listens.
    this.#server.emit('listening')
  }

  /** Speaks HTTP/1.1 on a connection; `socket` is the one to speak on, which TLS may have wrapped. */
  accept(connection: Connection, socket: Socket): void {
    const { counts } = this.#tools
    const channel = new Channel(connection, socket, { options: this.#options, tools: this.#tools })
    connection.ending = channel
    this.#channels.set(socket, channel)
    counts.open['http/1.1']++
    socket.on('close', () => {
      counts.open['http/1.1']--
      this.#tools.intake.closed(socket)
    })
    this.#server.emit('connection', socket)
  }

  /** Stops watching over timeouts. */
  close(): void {
    this.#server.close()
  }

  #begun(request: IncomingMessage, response: ServerResponse, awaitsContinue: boolean): void {
    const channel = this.#channels.get(request.socket)!
    this.#tools.intake.begun()
    channel.take(request, () => {
      const exchange = new Http1Exchange(channel, request, response)
      exchange.awaitsContinue = awaitsContinue
      this.#tools.handle(exchange, flawOf(request, this.#options.head.maxFields))
    })
  }

  #refuse(request: IncomingMessage, response: ServerResponse, flaw: Refusal): void {
    const channel = this.#channels.get(request.socket)!
    channel.take(request, () => this.#tools.handle(new Http1Exchange(channel, request, response), flaw))
  }

  /** The head did not parse, or did not come in time: there is no request to answer, only a connection to end. */
  #refuseHead({ code = '' }: NodeJS.ErrnoException, socket: Socket): void {
    const refusal = brokenHead(code)
    // What comes behind the fault is none of its own.
    if (socket.writableEnded) return
    if (refusal && socket.writable) this.#end(socket, refusal)
    else socket.destroy()
  }

  /** Answers by hand, if that would not be taken for the answer to a request before. */
  #end(socket: Socket, refusal: Refusal, fields = ''): void {
    const channel = this.#channels.get(socket)!
    if (channel.mayAnswerByHand()) endWith(socket, refusal, this.#tools.clock, fields)
    else channel.breakOff()
  }
}

/** What the parser lets through and the protocol does not (RFC 9112 section 3.2), or the limits do not. */
function flawOf({ rawHeaders, headers, httpVersion }: IncomingMessage, maxFields: number): Refusal | undefined {
  if (rawHeaders.length > 2 * maxFields) return refuse('header_too_large', `${maxFields} header fields are the most`)
  let hosts = 0
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]!
    if (name.length === 4 && name.toLowerCase() === 'host') hosts++
  }
  if (hosts === 1) return hostFlaw(headers.host!) ?? proofFlaw(headers.authorization, rawHeaders)
  if (hosts === 0 && httpVersion === '1.0') return undefined
  return refuse('invalid', `the request has ${hosts} "host" fields where there must be one`)
}

/** Undefined for what is no fault in the head: the connection broke. */
function brokenHead(code: string): Refusal | undefined {
  if (code === 'HPE_HEADER_OVERFLOW') return refuse('header_too_large', 'the request head is over the limit')
  if (code === 'HPE_CHUNK_EXTENSIONS_OVERFLOW') return refuse('too_large', 'the chunk extensions are over the limit')
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') return refuse('too_slow', 'the request did not arrive in time')
  return code.startsWith('HPE_') ? refuse('invalid', 'this is not HTTP/1.1') : undefined
}

/** Answers without a request, and ends the connection. */
export function endWith(socket: Socket, refusal: Refusal, clock: Clock, fields = ''): void {
  const body = refusalBody(refusal, '')
  socket.write(
    `HTTP/1.1 ${refusal.status} ${STATUS_CODES[refusal.status]}\r\nconnection: close\r\n${fields}` +
      `content-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  )
  endLingering(socket, clock)
}

class Http1Exchange implements Exchange {
  gone = false
  awaitsContinue = false
  readonly #channel: Channel
  readonly #request: IncomingMessage
  readonly #response: ServerResponse
  #sink: BodySink | undefined
  #whenGone: (() => void) | undefined
  #whenClosed: (() => void) | undefined

  constructor(channel: Channel, request: IncomingMessage, response: ServerResponse) {
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
      channel.answered()
      this.#whenClosed?.()
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

  answer(status: number, head: string[], pieces: readonly (string | Uint8Array)[]): void {
    const channel = this.#channel
    const response = this.#response
    if (response.headersSent) return
    const isCut = !this.#request.complete && this.#restIsLong()
    if (isCut) channel.linger()
    if (isCut || channel.isLast()) response.shouldKeepAlive = false
    response.writeHead(status, head)
    for (let i = 0; i < pieces.length - 1; i++) response.write(pieces[i])
    response.end(pieces.at(-1))
    if (!this.#request.complete) this.#readPast()
    // All that fits into the kernel's buffers is there by now.
    const { socket } = response
    if (socket && socket.writableLength > 0) socket.setTimeout(channel.options.connections.stallMs)
  }

  #flowTo(sink: BodySink): void {
    const isNew = this.#sink === undefined
    this.#sink = sink
    if (!isNew) return
    this.#request.on('data', (chunk: Buffer) => this.#sink!.data(chunk))
    this.#request.on('end', () => this.#sink!.end())
  }

  /**
   * Whether what is left of the body is too much to read past. A client that still waits for leave to send it may never
   * do so, and then its next request would be taken for it.
   */
  #restIsLong(): boolean {
    if (this.awaitsContinue) return true
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
