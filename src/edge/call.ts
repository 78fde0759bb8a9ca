/** One request on `node:http`, as the pipeline sees it. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Call, InferRequest } from '../core/call.ts'
import { isRefusal, refuse, type Refusal } from '../core/refusal.ts'
import type { Signature } from '../core/signature.ts'
import { BodyReader, readFraming, type BodyLimits, type Framing } from './body.ts'
import { decodeRaw } from './codecs/raw.ts'
import { decodeRequest } from './codecs/request.ts'

export interface CallFacts {
  readonly requestId: string
  readonly model: string
  readonly version: string | undefined
  readonly deadline: number
  readonly limits: BodyLimits
  /** Whether the client waits for `100 Continue` before it sends the body. */
  readonly awaitsContinue: boolean
  /** Called once, when the answer's last byte is written or the connection gone. */
  readonly onClosed: () => void
}

export class HttpCall implements Call {
  readonly requestId: string
  readonly model: string
  readonly version: string | undefined
  readonly deadline: number
  gone = false
  readonly #request: IncomingMessage
  readonly #response: ServerResponse
  readonly #limits: BodyLimits
  readonly #awaitsContinue: boolean
  #framing: Framing = { jsonBytes: undefined, length: undefined }
  #whenGone: (() => void) | undefined

  constructor(request: IncomingMessage, response: ServerResponse, facts: CallFacts) {
    this.#request = request
    this.#response = response
    this.#limits = facts.limits
    this.#awaitsContinue = facts.awaitsContinue
    this.requestId = facts.requestId
    this.model = facts.model
    this.version = facts.version
    this.deadline = facts.deadline
    response.on('close', () => {
      this.gone = !response.writableFinished
      if (this.gone) this.#whenGone?.()
      facts.onClosed()
    })
  }

  /** One callback at a time: whoever works on the request now. */
  onGone(callback: () => void): void {
    this.#whenGone = callback
  }

  body(): Promise<Uint8Array | Refusal> {
    const framing = readFraming(this.#request.headers, this.#limits.maxBytes)
    if (isRefusal(framing)) return Promise.resolve(framing)
    this.#framing = framing
    const reader = new BodyReader(framing, this.#limits)
    if (this.#awaitsContinue) this.#response.writeContinue()
    return new Promise((resolve) => {
      const end = (body: Uint8Array | Refusal) => {
        reader.release()
        resolve(body)
      }
      this.onGone(() => end(refuse('abandoned', 'the client hung up')))
      reader.read(this.#request, end)
    })
  }

  readonly decode = (body: Uint8Array, contract: Signature): InferRequest | Refusal => {
    const { jsonBytes = body.byteLength } = this.#framing
    if (jsonBytes > body.byteLength) return refuse('invalid', 'the body is shorter than its JSON part should be')
    if (this.#framing.jsonBytes === 0) return decodeRaw(body, contract)
    return decodeRequest(body, jsonBytes, contract)
  }
}
