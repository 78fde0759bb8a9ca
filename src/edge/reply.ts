/** Writing the answer to one request: its head, and the words of a refusal. */
import type { Answer } from '../core/call.ts'
import type { Refusal } from '../core/refusal.ts'
import type { Payload } from './codecs/response.ts'
import { fallbackField } from './negotiation.ts'
import { acceptedEncodings, type AnswerEncoding } from './compression.ts'
import type { Exchange } from './exchange.ts'

export class Reply {
  readonly requestId: string
  /** What a model answers, for what goes into the head of it. */
  answer: Pick<Answer, 'head' | 'fallback'> | undefined
  readonly #exchange: Exchange
  /** Names and values that every answer to this request carries. */
  readonly #extra: readonly string[]

  constructor(exchange: Exchange, requestId: string, extra: readonly string[]) {
    this.#exchange = exchange
    this.requestId = requestId
    this.#extra = extra
  }

  json(status: number, value: unknown): void {
    this.#text(status, JSON.stringify(value), [])
  }

  /** Without a body. */
  empty(status: number, head: readonly string[]): void {
    this.#exchange.answer(status, ['x-request-id', this.requestId, ...head, ...this.#extra], [])
  }

  refusal(refusal: Refusal, head: readonly string[] = []): void {
    const fields = [...head, ...refusal.head]
    if (refusal.retryAfterS !== undefined) fields.push('retry-after', String(refusal.retryAfterS))
    if (refusal.code === 'unsupported_media') fields.push('accept-encoding', acceptedEncodings)
    this.#text(refusal.status, refusalBody(refusal, this.requestId), fields)
  }

  /** If the payload is compressed, `jsonBytes` counts what was there before. */
  payload({ pieces, jsonBytes }: Payload, encoding?: AnswerEncoding): void {
    const head = this.#head(typeOf(jsonBytes), pieces.reduce(addLength, 0))
    if (jsonBytes !== undefined) head.push('inference-header-content-length', String(jsonBytes))
    if (this.answer?.head) head.push(...this.answer.head)
    if (this.answer?.fallback) head.push(fallbackField, this.answer.fallback)
    if (encoding) head.push('content-encoding', encoding, 'vary', 'accept-encoding')
    this.#exchange.answer(200, head, pieces)
  }

  #text(status: number, body: string, fields: readonly string[]): void {
    const head = this.#head('application/json', Buffer.byteLength(body))
    this.#exchange.answer(status, [...head, ...fields], [body])
  }

  #head(type: string, length: number): string[] {
    const head = ['content-type', type, 'content-length', String(length), 'x-request-id', this.requestId]
    return this.#extra.length === 0 ? head : [...head, ...this.#extra]
  }
}

function typeOf(jsonBytes: number | undefined): string {
  return jsonBytes === undefined ? 'application/json' : 'application/octet-stream'
}

/** Text is ASCII here. */
function addLength(sum: number, piece: string | Uint8Array): number {
  return sum + piece.length
}

/** The body of every refusal. Clients of the protocol read `error`; the other keys are ours. */
export function refusalBody({ message, code }: Refusal, requestId: string): string {
  return JSON.stringify({ error: message, code, ...(requestId && { request_id: requestId }) })
}
