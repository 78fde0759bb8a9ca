/** One inference request, as the pipeline sees it. */
import { Lease, type Arena } from '../core/arena.ts'
import type { Call, InferRequest } from '../core/call.ts'
import type { Headers, Origin } from '../core/origin.ts'
import type { Priority } from '../core/priority.ts'
import { isRefusal, refuse, type Refusal } from '../core/refusal.ts'
import type { Signature } from '../core/signature.ts'
import { readBody, type BodyTools } from './body.ts'
import type { DecodeOptions } from './codecs/decoder.ts'
import { DocumentDecoder } from './codecs/document.ts'
import { FamiliarDecoder } from './codecs/familiar.ts'
import { RawDecoder } from './codecs/raw.ts'
import { readContent, tooLarge } from './content.ts'
import type { Exchange } from './exchange.ts'
import type { Address } from './routes.ts'

export interface CallFacts {
  readonly requestId: string
  readonly address: Address
  /** Whose request it is. */
  readonly peer: string
  readonly arrivedAt: number
  readonly deadline: number
  readonly priority: Priority | undefined
  /** Until when the body has to be there, if the deadline is not sooner. */
  readonly bodyDeadline: number
}

export interface CallTools extends BodyTools {
  readonly arena: Arena
  readonly decoding: DecodeOptions
}

export class HttpCall implements Call {
  readonly requestId: string
  readonly host: string
  readonly path: string
  readonly version: string | undefined
  readonly peer: string
  readonly headers: Headers
  readonly origin: Origin
  readonly arrivedAt: number
  readonly deadline: number
  readonly priority: Priority | undefined
  readonly #exchange: Exchange
  readonly #tools: CallTools
  readonly #bodyDeadline: number
  readonly #lease: Lease

  constructor(exchange: Exchange, facts: CallFacts, tools: CallTools) {
    const { requestId, address, peer, arrivedAt, deadline, bodyDeadline, priority } = facts
    this.requestId = requestId
    this.host = address.host
    this.path = address.path
    this.version = address.version
    this.peer = peer
    this.headers = exchange.headers
    this.origin = exchange.origin
    this.arrivedAt = arrivedAt
    this.deadline = deadline
    this.priority = priority
    this.#bodyDeadline = bodyDeadline
    this.#exchange = exchange
    this.#tools = tools
    this.#lease = new Lease(tools.arena)
  }

  get gone(): boolean {
    return this.#exchange.gone
  }

  onGone(callback: () => void): void {
    this.#exchange.onGone(callback)
  }

  read(contract: Signature, deadline: number): InferRequest | Refusal | Promise<InferRequest | Refusal> {
    const { limits, decoding: options } = this.#tools
    const content = readContent(this.#exchange.headers, limits)
    if (isRefusal(content)) return content
    const plan = { ...content, options, lease: this.#lease }
    const decoder = content.jsonBytes === 0 ? new RawDecoder(plan, contract) : new FamiliarDecoder(plan, contract)
    const { encoding } = content
    const isSooner = deadline < this.#bodyDeadline
    const expiresAt = isSooner ? deadline : this.#bodyDeadline
    return readBody(
      this.#exchange,
      { decoder, encoding, expiresAt, expired: isSooner ? expired : tooSlow },
      this.#tools,
    )
  }

  /** Gives the memory of the tensors back. */
  release(): void {
    this.#lease.release()
  }
}

/** Of feedback. */
const mostDocumentBytes = 262_144

/** A body that is one small JSON document. */
export async function readDocument(
  exchange: Exchange,
  expiresAt: number,
  tools: CallTools,
): Promise<{ readonly document: unknown } | Refusal> {
  const content = readContent(exchange.headers, tools.limits)
  if (isRefusal(content)) return content
  const isBinary = /^application\/octet-stream/i.test(exchange.headers['content-type'] ?? '')
  if (isBinary || content.jsonBytes !== undefined)
    return refuse('unsupported_media', 'send "content-type: application/json", and nothing in binary behind it')
  if (content.length !== undefined && content.length > mostDocumentBytes) return tooLarge(mostDocumentBytes)
  const decoder = new DocumentDecoder(mostDocumentBytes)
  return readBody(exchange, { decoder, encoding: content.encoding, expiresAt, expired: tooSlow }, tools)
}

function expired(): Refusal {
  return refuse('expired', 'the deadline passed before the body was there')
}

function tooSlow(): Refusal {
  return refuse('too_slow', 'the body did not arrive in time')
}
