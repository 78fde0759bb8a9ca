/**
 * One connection on which HTTP/1.1 is spoken: one request after another, each from its head to the last byte of its
 * answer. What is sent ahead waits as bytes, and when that is much the connection is not read from.
 */
import type { Socket } from 'node:net'
import { isRefusal, refuse, type Refusal } from '../../../core/refusal.ts'
import type { EdgeOptions } from '../../options.ts'
import type { Connection, Ending } from '../../transport/connections.ts'
import { endLingering } from '../../transport/linger.ts'
import type { ProtocolTools } from '../../exchange.ts'
import { framingFlaw, headFlaw } from '../../flaws.ts'
import { endWith } from '../by-hand.ts'
import type { Pieces } from '../pieces.ts'
import type { AnswerHead } from './answer.ts'
import { bodyOf } from './body.ts'
import { LeanExchange } from './exchange.ts'
import { Parser } from './parser.ts'
import { send, type Progress } from './send.ts'

export interface LeanTools extends ProtocolTools {
  readonly options: EdgeOptions
  readonly answerHead: AnswerHead
}

const nothing: Buffer = Buffer.alloc(0)

export class LeanChannel implements Ending {
  readonly connection: Connection
  readonly #socket: Socket
  readonly #tools: LeanTools
  /** What came and is not taken yet. */
  #ahead = nothing
  /** Of a head that has begun. */
  #parser: Parser | undefined
  #headBytes = 0
  #exchange: LeanExchange | undefined
  /** Since when the client is waited for: to send a head, the rest of one, that of a body nobody wants; to take its answer. */
  #since: number
  #isPumping = false
  /** Whether so much came ahead that the connection is not read from. */
  #isFull = false
  #isPaused = false
  #isWriting = false
  /** Whether the request in hand is the last one that is taken. */
  #isLast = false
  /** Whether only what has come already is still taken for requests. */
  #isClosing = false
  /** Whether what comes is thrown away. */
  #isDeaf = false
  #isEnding = false

  constructor(connection: Connection, socket: Socket, tools: LeanTools) {
    this.connection = connection
    this.#socket = socket
    this.#tools = tools
    this.#since = tools.clock.now()
    socket.on('data', (chunk: Buffer) => this.#receive(chunk))
  }

  get secure(): boolean {
    return 'encrypted' in this.#socket
  }

  end(): void {
    this.#isClosing = true
    if (this.#isEnding || this.#exchange || this.#ahead.length > 0) return
    this.#isEnding = this.#isDeaf = true
    // Who was told so may still send what it had begun; who was not hears it from the connection.
    if (this.#isLast) endLingering(this.#socket, this.#tools.clock)
    else this.#socket.destroySoon()
  }

  /** The connection is closed. */
  closed(): void {
    this.#isEnding = this.#isDeaf = true
    this.#ahead = nothing
    this.#dropHead()
    if (this.#exchange) this.#finish()
  }

  /** Looked at now and then: ends what takes the client too long. */
  watch(now: number): void {
    const { head, body, connections } = this.#tools.options
    const waited = now - this.#since
    if (this.#isEnding) return
    if (this.#isWriting) {
      if (waited > connections.stallMs) this.#socket.destroy()
    } else if (this.#exchange) {
      if (this.#exchange.isAnswered && waited > head.timeoutMs + body.timeoutMs) this.#socket.destroy()
    } else if (this.#parser || this.connection.requests === 0) {
      if (waited > head.timeoutMs) this.#breakOff(refuse('too_slow', 'the request did not arrive in time'))
    } else if (waited > connections.idleMs) this.end()
  }

  /** The exchange has said where its body goes. */
  deliver(exchange: LeanExchange): void {
    if (exchange.awaitsContinue) this.#socket.write('HTTP/1.1 100 Continue\r\n\r\n', 'latin1')
    exchange.awaitsContinue = false
    if (exchange.body.isWhole) exchange.sink!.end()
    else this.pump()
  }

  /** Works through what came, as far as that can be done at the moment. */
  pump(): void {
    if (this.#isPumping) return
    this.#isPumping = true
    while (this.#ahead.length > 0 && this.#step());
    this.#isPumping = false
    if (this.#ahead.length === 0) this.#isFull = false
    this.flow()
  }

  /**
   * Reads from the socket while there is use for what comes. One piece may wait all the same: to stop for it would cost
   * more, and a client that hangs up meanwhile would not be noticed.
   */
  flow(): void {
    const isPaused = !this.#isDeaf && (this.#isFull || this.#exchange?.isPaused === true)
    if (isPaused === this.#isPaused) return
    this.#isPaused = isPaused
    if (isPaused) this.#socket.pause()
    else this.#socket.resume()
  }

  answer(exchange: LeanExchange, status: number, fields: readonly string[], pieces: Pieces): void {
    const { options, answerHead, clock } = this.#tools
    const { body } = exchange
    const isCut = !body.isWhole && (exchange.awaitsContinue || body.left > options.body.maxUnreadBytes)
    this.#isLast ||= isCut || this.#endsHere()
    const head = answerHead.write(status, fields, this.#isLast)
    if (this.#isLast) this.#deafen()
    this.#isWriting = true
    this.#since = clock.now()
    send(this.#socket, head, exchange.method === 'HEAD' ? [] : pieces, this.#progress)
  }

  readonly #progress: Progress = {
    moved: () => {
      this.#since = this.#tools.clock.now()
    },
    // A connection that breaks closes, and that is heard.
    written: (error) => {
      if (!error && this.#isWriting) this.#written(this.#exchange!)
    },
  }

  #written(exchange: LeanExchange): void {
    this.#isWriting = false
    this.#since = this.#tools.clock.now()
    exchange.written()
    if (this.#isDeaf || exchange.body.isWhole) this.#finish()
  }

  /** Whether no answer may follow the one that is about to be written. */
  #endsHere(): boolean {
    const { connection } = this
    const { options, connections } = this.#tools
    if (connection.requests >= options.connections.maxRequests) return true
    // What was sent ahead of the answers is still answered.
    return (connection.closing || connections.draining) && this.#ahead.length === 0
  }

  #receive(chunk: Buffer): void {
    if (this.#isDeaf || (this.#isClosing && this.#exchange?.body.isWhole !== false)) return
    this.#isFull = this.#ahead.length > 0
    this.#ahead = this.#isFull ? Buffer.concat([this.#ahead, chunk]) : chunk
    this.pump()
  }

  /** Takes some of what came; says whether to go on. */
  #step(): boolean {
    const exchange = this.#exchange
    if (!exchange) this.#readHead()
    else if (exchange.body.isWhole || !exchange.sink || exchange.isPaused) return false
    else this.#readBody(exchange)
    return true
  }

  #readHead(): void {
    const { maxBytes } = this.#tools.options.head
    if (!this.#parser) {
      // Empty lines before a request begin none (RFC 9112 section 2.2).
      this.#drop(lineEndsIn(this.#ahead))
      if (this.#ahead.length === 0) return
      this.#since = this.#tools.clock.now()
    }
    const parser = (this.#parser ??= Parser.lend())
    const outcome = parser.readHead(firstOf(this.#ahead, maxBytes - this.#headBytes))
    this.#headBytes += parser.taken
    this.#drop(parser.taken)
    if (outcome === 'broken') this.#breakOff(refuse('invalid', 'this is not HTTP/1.1'))
    else if (outcome === 'whole') this.#begin(parser)
    else if (this.#headBytes === maxBytes) {
      this.#breakOff(refuse('header_too_large', 'the request head is over the limit'))
    }
  }

  #begin(parser: Parser): void {
    const { options, intake, handle } = this.#tools
    const head = parser.head()
    this.#parser = undefined
    this.#headBytes = 0
    const exchange = new LeanExchange(this, head, bodyOf(head.headers, parser, options.head.maxBytes))
    this.#exchange = exchange
    intake.begun()
    this.connection.begun()
    const flaw = framingFlaw(head)
    this.#isLast = flaw !== undefined || !head.keepsAlive || head.method === 'CONNECT'
    handle(exchange, flaw ?? headFlaw(head, options.head.maxFields))
  }

  #readBody(exchange: LeanExchange): void {
    const { body } = exchange
    const taken = body.take(this.#ahead, (data) => exchange.sink!.data(data))
    if (isRefusal(taken)) {
      this.#breakOff(taken)
      return
    }
    this.#drop(taken)
    if (!body.isWhole) return
    // What came behind it did so after the end was decided.
    if (this.#isClosing) this.#ahead = nothing
    exchange.sink!.end()
    if (exchange.isAnswered && !this.#isWriting) this.#finish()
  }

  #drop(count: number): void {
    if (count > 0) this.#ahead = count >= this.#ahead.length ? nothing : this.#ahead.subarray(count)
  }

  /** The exchange is over: its answer is written, or nobody takes it. */
  #finish(): void {
    const { clock, intake } = this.#tools
    const exchange = this.#exchange!
    this.#exchange = undefined
    this.#isWriting = false
    this.#since = clock.now()
    exchange.close()
    if (this.#isLast) this.connection.closing = true
    this.connection.answered()
    if (this.#isEnding) return
    // Others have their turn before what this one has sent ahead.
    if (this.#ahead.length > 0) clock.soon(() => this.#goOn())
    else intake.answered(this.#socket)
  }

  #goOn(): void {
    this.pump()
    if (this.connection.closing && !this.#exchange) this.connection.end()
  }

  /** What comes is no request, or none in time: answers that if it would not be taken for another answer, and ends. */
  #breakOff(refusal: Refusal): void {
    this.#deafen()
    this.#isLast = true
    if (this.#isWriting) return
    if (this.#exchange?.isAnswered) {
      this.#finish()
      return
    }
    this.#isEnding = true
    if (this.#exchange) this.#finish()
    endWith(this.#socket, refusal, this.#tools.clock)
  }

  #deafen(): void {
    this.#isDeaf = true
    this.#ahead = nothing
    this.#dropHead()
  }

  #dropHead(): void {
    this.#parser?.giveBack()
    this.#parser = undefined
  }
}

/** How many bytes it begins with that are line ends. */
function lineEndsIn(bytes: Buffer): number {
  let count = 0
  while (bytes[count] === 0x0d || bytes[count] === 0x0a) count++
  return count
}

function firstOf(bytes: Buffer, count: number): Buffer {
  return bytes.length > count ? bytes.subarray(0, count) : bytes
}
