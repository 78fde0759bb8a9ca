/**
 * One connection on which HTTP/1.1 is spoken: one request after another, each from its head to the last byte of its
 * answer. What is sent ahead waits as bytes, and when that is much the connection is not read from.
 */
import type { Socket } from 'node:net'
import { isRefusal, type Refusal } from '../../../core/refusal.ts'
import type { EdgeOptions } from '../../options.ts'
import type { Connection, Ending } from '../../transport/connections.ts'
import { endLingering } from '../../transport/linger.ts'
import type { ProtocolTools } from '../../exchange.ts'
import { framingFlaw, headFlaw } from '../../flaws.ts'
import { endWith, headTooLarge, notHttp, tooSlow } from '../by-hand.ts'
import type { Pieces } from '../pieces.ts'
import type { AnswerHead } from './answer.ts'
import { bodyOf } from './body.ts'
import { LeanExchange, type Carrier } from './exchange.ts'
import { Parser } from './parser.ts'
import { send, type Progress } from './send.ts'

export interface LeanTools extends ProtocolTools {
  readonly options: EdgeOptions
  readonly answerHead: AnswerHead
}

const nothing: Buffer = Buffer.alloc(0)
/**
 * From so many bytes on the connection is not read from. To stop for less would cost more; and of a client that hangs up it
 * is heard only where it is read from.
 */
const mostAhead = 65_536

export class LeanChannel implements Ending, Carrier {
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
  /** What is still taken from the client; of what is not, it is thrown away. */
  #takes: 'all' | 'what has come' | 'nothing' = 'all'
  #isPumping = false
  /** Whether the request in hand is the last one. */
  #isLast = false
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
    if (this.#takes === 'all') this.#takes = 'what has come'
    if (this.#isEnding || this.#exchange || this.#ahead.length > 0) return
    // Who was told so, or is about to send a request, may still send; who is not hears it from the connection.
    const isSending = this.#isLast || this.#parser !== undefined
    this.#isEnding = true
    this.#deafen()
    if (isSending) endLingering(this.#socket, this.#tools.clock)
    else this.#socket.destroySoon()
  }

  /** The connection is closed. */
  closed(): void {
    this.#isEnding = true
    this.#deafen()
    if (this.#exchange) this.#finish()
  }

  /** Looked at now and then: ends it if the client takes too long, and says whether it did. */
  watch(now: number): boolean {
    if (this.#isEnding || now - this.#since <= this.#patience) return false
    if (this.#exchange) this.#socket.destroy()
    else if (this.#isIdle) this.end()
    else this.#breakOff(tooSlow())
    return true
  }

  /** How long the client may take for what it is waited for. */
  get #patience(): number {
    const { head, body, connections } = this.#tools.options
    const exchange = this.#exchange
    if (!exchange) return this.#isIdle ? connections.idleMs : head.timeoutMs
    if (exchange.isWriting) return connections.stallMs
    // A body that is wanted has a time of its own.
    return exchange.isAnswered ? head.timeoutMs + body.timeoutMs : Infinity
  }

  /** Whether it may be left alone by its client, who has nothing begun. */
  get #isIdle(): boolean {
    return !this.#parser && this.connection.requests > 0
  }

  deliver(exchange: LeanExchange): void {
    if (exchange.awaitsContinue) this.#socket.write('HTTP/1.1 100 Continue\r\n\r\n', 'latin1')
    exchange.awaitsContinue = false
    if (exchange.body.isWhole) exchange.sink!.end()
    else this.pump()
  }

  pump(): void {
    if (this.#isPumping) return
    this.#isPumping = true
    while (this.#ahead.length > 0 && this.#step());
    this.#isPumping = false
    this.flow()
  }

  flow(): void {
    const isPaused = this.#ahead.length >= mostAhead || this.#exchange?.isPaused === true
    if (isPaused === this.#socket.isPaused()) return
    if (isPaused) this.#socket.pause()
    else this.#socket.resume()
  }

  answer(exchange: LeanExchange, status: number, fields: readonly string[], pieces: Pieces): void {
    const { options, answerHead, clock } = this.#tools
    const { body } = exchange
    const isCut = !body.isWhole && (exchange.awaitsContinue || body.left > options.body.maxUnreadBytes)
    this.#isLast ||= isCut || this.#endsWith(exchange)
    const head = answerHead.write(status, fields, this.#isLast)
    if (this.#isLast) this.#deafen()
    exchange.isAnswered = true
    this.#since = clock.now()
    send(this.#socket, head, exchange.method === 'HEAD' ? [] : pieces, this.#progress)
  }

  readonly #progress: Progress = {
    moved: () => {
      this.#since = this.#tools.clock.now()
    },
    // A connection that breaks closes, and that is heard.
    written: (error) => {
      if (!error && this.#exchange?.isWriting) this.#written(this.#exchange)
    },
  }

  #written(exchange: LeanExchange): void {
    this.#since = this.#tools.clock.now()
    exchange.written()
    if (this.#takes === 'nothing' || exchange.body.isWhole) this.#finish()
  }

  /** Whether no answer may follow that to this one. */
  #endsWith({ body }: LeanExchange): boolean {
    const { connection } = this
    const { options, connections } = this.#tools
    if (connection.requests >= options.connections.maxRequests) return true
    // Requests that were sent ahead of the answers are still answered.
    return (connection.closing || connections.draining) && !(body.isWhole && hasHead(this.#ahead))
  }

  #receive(chunk: Buffer): void {
    if (this.#takes === 'nothing') return
    if (this.#takes === 'what has come' && this.#exchange?.body.isWhole !== false) return
    this.#ahead = this.#ahead.length > 0 ? Buffer.concat([this.#ahead, chunk]) : chunk
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
    if (outcome === 'broken') this.#breakOff(notHttp())
    else if (outcome === 'whole') this.#begin(parser)
    else if (this.#headBytes === maxBytes) this.#breakOff(headTooLarge())
  }

  #begin(parser: Parser): void {
    const { options, intake, handle } = this.#tools
    const head = parser.head()
    this.#parser = undefined
    this.#headBytes = 0
    const exchange = new LeanExchange(this, head, bodyOf(head.headers, parser, options.head))
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
    // What is behind it may have come only now.
    if (this.#takes !== 'all') this.#ahead = nothing
    exchange.sink!.end()
    if (exchange.isWritten) this.#finish()
  }

  #drop(count: number): void {
    if (count > 0) this.#ahead = count >= this.#ahead.length ? nothing : this.#ahead.subarray(count)
  }

  /** The exchange is over: its answer is written, or nobody takes it. */
  #finish(): void {
    const { clock, intake } = this.#tools
    const exchange = this.#exchange!
    this.#exchange = undefined
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
    // It may have been less than a request.
    if (this.#exchange || this.#isEnding) return
    if (this.connection.closing) this.connection.end()
    else this.#tools.intake.answered(this.#socket)
  }

  /** What comes is no request, or none in time: answers that if it would not be taken for another answer, and ends. */
  #breakOff(refusal: Refusal): void {
    this.#deafen()
    this.#isLast = true
    if (this.#exchange?.isWriting) return
    if (this.#exchange?.isAnswered) {
      this.#finish()
      return
    }
    this.#isEnding = true
    if (this.#exchange) this.#finish()
    endWith(this.#socket, refusal, this.#tools)
  }

  /** Takes nothing more. */
  #deafen(): void {
    this.#takes = 'nothing'
    this.#ahead = nothing
    this.#parser?.giveBack()
    this.#parser = undefined
  }
}

/** Whether there is a whole head in what came, as it seems. */
function hasHead(bytes: Buffer): boolean {
  return bytes.includes('\r\n\r\n', lineEndsIn(bytes), 'latin1')
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
