/**
 * The HTTP/1.1 edge on `node:http`: it turns a request's head into a Call, runs the pipeline, and writes the answer. It
 * knows the protocol and no policy.
 */
import { createServer, STATUS_CODES, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Clock } from '../core/clock.ts'
import { isRefusal, refuse, type Refusal } from '../core/refusal.ts'
import { infer } from '../pipeline.ts'
import type { Journal } from '../telemetry/journal.ts'
import { BodyBudget, discardRest, type BodyLimits } from './body.ts'
import { HttpCall } from './call.ts'
import { encodeAnswer } from './codecs/response.ts'
import { Connections } from './connections.ts'
import { listenOn } from './listen.ts'
import { inform } from './metadata.ts'
import type { EdgeOptions } from './options.ts'
import { refusalBody, writeBody, writeJson, writeRefusal } from './respond.ts'
import { match, type Operation } from './routes.ts'
import type { Serving } from './serving.ts'

export interface Surroundings {
  readonly serving: Serving
  readonly clock: Clock
  /** Told of defects: errors that should have been refusals. */
  readonly onDefect: (error: unknown, requestId: string) => void
}

type InferOperation = Extract<Operation, { model: string }>

export class HttpEdge {
  readonly #options: EdgeOptions
  readonly #around: Surroundings
  readonly #limits: BodyLimits
  readonly #server: Server
  readonly #connections: Connections
  #requests = 0

  constructor(options: EdgeOptions, around: Surroundings) {
    this.#options = options
    this.#around = around
    this.#limits = { maxBytes: options.maxBodyBytes, budget: new BodyBudget(options.maxBufferedBytes) }
    this.#server = createServer({
      maxHeaderSize: options.maxHeaderBytes,
      headersTimeout: Math.min(options.headTimeoutMs, options.requestTimeoutMs),
      requestTimeout: options.requestTimeoutMs,
      keepAliveTimeout: options.idleTimeoutMs,
      connectionsCheckingInterval: 1_000,
      noDelay: true,
    })
    this.#connections = new Connections(this.#server)
    this.#server.on('request', (request, response) => this.#handle(request, response, false))
    this.#server.on('checkContinue', (request, response) => this.#handle(request, response, true))
    this.#server.on('clientError', (error, socket) => this.#refuseHead(error, socket as Socket))
  }

  /** Starts to listen; settles with the port. Rejects with the system's error. */
  listen(): Promise<number> {
    return listenOn(this.#server, this.#options)
  }

  /** Stops without losing a request; settles with whether every connection ended by itself. */
  drain(): Promise<boolean> {
    return this.#connections.drain(this.#options.drain, this.#around.clock)
  }

  #handle(request: IncomingMessage, response: ServerResponse, awaitsContinue: boolean): void {
    const operation = match(request.method!, request.url!)
    if (operation.kind === 'infer') {
      void this.#infer(request, response, operation, awaitsContinue)
      return
    }
    discardRest(request, response)
    this.#announceDrain(response)
    if (operation.kind === 'astray') {
      if (operation.allow) response.setHeader('allow', operation.allow)
      writeRefusal(response, operation.refusal, this.#requestId())
      return
    }
    const said = inform(operation, this.#around.serving, this.#connections.draining)
    if (isRefusal(said)) writeRefusal(response, said, this.#requestId())
    else writeJson(response, said.status, said.body)
  }

  /** The head did not parse, or did not come in time: there is no request to answer, only a connection to end. */
  #refuseHead({ code }: NodeJS.ErrnoException, socket: Socket): void {
    if (!socket.writable || code === 'ECONNRESET') {
      socket.destroy()
      return
    }
    // What is written now would be taken for the answer to a request before this one.
    if (!this.#connections.mayAnswerByHand(socket)) {
      this.#connections.endWhenAnswered(socket)
      return
    }
    const refusal = brokenHead(code)
    const body = refusalBody(refusal, '')
    socket.end(
      `HTTP/1.1 ${refusal.status} ${STATUS_CODES[refusal.status]}\r\nconnection: close\r\n` +
        `content-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
    )
  }

  /** Asked when an answer is written and not when its request comes: the drain may begin between the two. */
  #announceDrain(response: ServerResponse): void {
    if (this.#connections.draining) response.shouldKeepAlive = false
  }

  #requestId(): string {
    return `${processTag}-${(this.#requests++).toString(36)}`
  }

  async #infer(
    request: IncomingMessage,
    response: ServerResponse,
    { model, version }: InferOperation,
    awaitsContinue: boolean,
  ): Promise<void> {
    const { serving, onDefect } = this.#around
    const journal = serving.open()
    const call = new HttpCall(request, response, {
      requestId: this.#requestId(),
      model,
      version,
      deadline: journal.arrivedAt + this.#options.deadlineMs,
      limits: this.#limits,
      awaitsContinue,
      onClosed: () => journal.close(),
    })
    const answer = await infer(call, serving.steps, journal).catch((error: unknown) => {
      onDefect(error, call.requestId)
      return refuse('internal', 'a defect of the gateway; its log says more')
    })
    this.#answer(call, response, { answer, journal })
    if (isRefusal(answer)) discardRest(request, response)
  }

  #answer(
    { requestId, gone }: HttpCall,
    response: ServerResponse,
    { answer, journal }: { answer: Awaited<ReturnType<typeof infer>>; journal: Journal },
  ): void {
    const payload = isRefusal(answer) ? answer : encodeAnswer(answer)
    journal.settle(isRefusal(payload) ? payload.code : 'ok')
    if (gone) return
    this.#announceDrain(response)
    if (isRefusal(payload)) writeRefusal(response, payload, requestId)
    else writeBody(response, payload, requestId)
  }
}

/** Tells this process's requests from another's in a log that holds both. */
const processTag = Math.floor(performance.timeOrigin).toString(36)

function brokenHead(code: string | undefined): Refusal {
  if (code === 'HPE_HEADER_OVERFLOW') return refuse('header_too_large', 'the request head is over the limit')
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') return refuse('too_slow', 'the request did not arrive in time')
  return refuse('invalid', 'this is not HTTP/1.1')
}
