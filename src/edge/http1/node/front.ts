/** HTTP/1.1 on `node:http`: the same rules, over the machinery that everybody knows. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Refusal } from '../../../core/refusal.ts'
import type { EdgeOptions } from '../../options.ts'
import { allMethods, noProxy } from '../../routes.ts'
import type { Connection } from '../../transport/connections.ts'
import type { ProtocolTools } from '../../exchange.ts'
import { framingFlaw, headFlaw, type Head } from '../../flaws.ts'
import { endWith, extensionsTooLarge, headTooLarge, notHttp, tooSlow } from '../by-hand.ts'
import type { Http1Front } from '../front.ts'
import { NodeChannel } from './channel.ts'
import { NodeExchange } from './exchange.ts'

export class NodeFront implements Http1Front {
  readonly #options: EdgeOptions
  readonly #tools: ProtocolTools
  readonly #server: Server
  readonly #channels = new WeakMap<Socket, NodeChannel>()

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
    this.#server.on('checkExpectation', (request, response) => this.#begun(request, response, false))
    this.#server.on('connect', (_, socket) => this.#end(socket as Socket, noProxy(), `allow: ${allMethods}\r\n`))
    this.#server.on('clientError', (error, socket) => this.#refuseHead(error, socket as Socket))
    // It keeps watch over its timeouts only while it believes that it listens.
    this.#server.emit('listening')
  }

  /** Speaks HTTP/1.1 on a connection; `socket` is the one to speak on, which TLS may have wrapped. */
  accept(connection: Connection, socket: Socket): void {
    const { counts } = this.#tools
    const channel = new NodeChannel(connection, socket, { options: this.#options, tools: this.#tools })
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
      const exchange = new NodeExchange(channel, request, response)
      exchange.awaitsContinue = awaitsContinue
      const head = headOf(request)
      const flaw = framingFlaw(head)
      if (flaw) channel.cut()
      this.#tools.handle(exchange, flaw ?? headFlaw(head, this.#options.head.maxFields))
    })
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
    if (channel.mayAnswerByHand()) endWith(socket, refusal, this.#tools, fields)
    else channel.breakOff()
  }
}

function headOf({ httpVersion, headers, rawHeaders }: IncomingMessage): Head {
  return { version: httpVersion, headers, fields: rawHeaders }
}

/** Undefined for what is no fault in the head: the connection broke. */
function brokenHead(code: string): Refusal | undefined {
  if (code === 'HPE_HEADER_OVERFLOW') return headTooLarge()
  if (code === 'HPE_CHUNK_EXTENSIONS_OVERFLOW') return extensionsTooLarge()
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') return tooSlow()
  return code.startsWith('HPE_') ? notHttp() : undefined
}
