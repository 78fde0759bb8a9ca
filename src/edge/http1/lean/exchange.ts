/** One request on a connection of the lean front, to be answered. */
import type { IncomingHttpHeaders } from 'node:http'
import type { Origin } from '../../../core/origin.ts'
import { isContinue } from '../../flaws.ts'
import type { BodySink, Exchange } from '../../exchange.ts'
import type { Connection } from '../../transport/connections.ts'
import type { Pieces } from '../pieces.ts'
import type { Body } from './body.ts'
import type { RequestHead } from './parser.ts'

/** The connection that an exchange came on. */
export interface Carrier {
  readonly connection: Connection
  readonly secure: boolean
  /** The exchange has said where its body goes. */
  deliver(exchange: LeanExchange): void
  /** Works through what came, as far as that can be done at the moment. */
  pump(): void
  /** Reads on, or pauses. */
  flow(): void
  answer(exchange: LeanExchange, status: number, fields: readonly string[], pieces: Pieces): void
}

const discard: BodySink = { data: () => undefined, end: () => undefined }

export class LeanExchange implements Exchange {
  readonly method: string
  readonly target: string
  readonly headers: IncomingHttpHeaders
  gone = false
  /** Whether its answer is under way, or written. */
  isAnswered = false
  /** Whether the last byte of its answer is with the kernel. */
  isWritten = false
  /** Whether the client waits for leave to send the body. */
  awaitsContinue: boolean
  isPaused = false
  /** Where the body goes; undefined as long as nobody has asked for it. */
  sink: BodySink | undefined
  readonly body: Body
  readonly #carrier: Carrier
  #whenGone: (() => void) | undefined
  #whenClosed: (() => void) | undefined

  constructor(carrier: Carrier, { method, target, version, headers }: RequestHead, body: Body) {
    this.#carrier = carrier
    this.method = method
    this.target = target
    this.headers = headers
    this.body = body
    this.awaitsContinue = headers.expect !== undefined && version !== '1.0' && isContinue(headers.expect)
  }

  get host(): string {
    return this.headers.host ?? ''
  }

  get peer(): string {
    return this.#carrier.connection.peer
  }

  get origin(): Origin {
    return this.#carrier.connection.origin
  }

  get secure(): boolean {
    return this.#carrier.secure
  }

  get isWriting(): boolean {
    return this.isAnswered && !this.isWritten
  }

  onGone(callback: () => void): void {
    this.#whenGone = callback
  }

  onClosed(callback: () => void): void {
    this.#whenClosed = callback
  }

  read(sink: BodySink): void {
    if (this.gone || this.isAnswered) return
    this.sink = sink
    this.#carrier.deliver(this)
  }

  pause(): void {
    if (this.isAnswered) return
    this.isPaused = true
    this.#carrier.flow()
  }

  resume(): void {
    if (!this.isPaused) return
    this.isPaused = false
    this.#carrier.pump()
  }

  answer(status: number, fields: string[], pieces: Pieces): void {
    if (this.isAnswered || this.gone) return
    this.#carrier.answer(this, status, fields, pieces)
    // What is left of the body is read past.
    this.isPaused = false
    this.sink = discard
    this.#carrier.pump()
  }

  /** The last byte of the answer is with the kernel. */
  written(): void {
    this.isWritten = true
    this.#whenClosed?.()
  }

  /** Nothing more is taken or written. */
  close(): void {
    this.body.end()
    if (this.isWritten) return
    this.gone = true
    this.#whenGone?.()
    this.#whenClosed?.()
  }
}
