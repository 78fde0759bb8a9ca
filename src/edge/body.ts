/** Reading bodies: how they are framed, how much of them is held, and what becomes of those that nobody reads. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { refuse, type Refusal } from '../core/refusal.ts'

/** What a request's head says about its body. */
export interface Framing {
  /** Bytes of JSON before the binary tensors; undefined if all of it is JSON. */
  readonly jsonBytes: number | undefined
  /** Undefined for a chunked body. */
  readonly length: number | undefined
}

const jsonTypes = /^application\/(json|octet-stream)\s*(;|$)/i

/** `Inference-Header-Content-Length` and the rest of the head, or what is wrong with them. */
export function readFraming(headers: IncomingMessage['headers'], maxBytes: number): Framing | Refusal {
  const type = headers['content-type']
  if (type !== undefined && !jsonTypes.test(type)) {
    return refuse(
      'unsupported_media',
      'send "content-type: application/json" (or application/octet-stream with binary data)',
    )
  }
  const encoding = headers['content-encoding']
  if (encoding !== undefined && encoding.toLowerCase() !== 'identity') {
    return refuse('unsupported_media', 'compressed bodies are not supported: send it without "content-encoding"')
  }
  const length = headers['content-length'] === undefined ? undefined : Number(headers['content-length'])
  if (length !== undefined && length > maxBytes) return tooLarge(maxBytes)
  const jsonLength = headers['inference-header-content-length']
  if (jsonLength === undefined) return { jsonBytes: undefined, length }
  if (typeof jsonLength !== 'string' || !/^\d{1,15}$/.test(jsonLength) || Number(jsonLength) > (length ?? maxBytes)) {
    return refuse('invalid', '"inference-header-content-length" must be the number of JSON bytes in the body')
  }
  return { jsonBytes: Number(jsonLength), length }
}

function tooLarge(maxBytes: number): Refusal {
  return refuse('too_large', `the body is larger than ${maxBytes} bytes`)
}

/** Memory for bodies that are being read or waiting to be decoded, over all requests. */
export class BodyBudget {
  readonly #maxBytes: number
  #held = 0

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  take(bytes: number): boolean {
    if (this.#held + bytes > this.#maxBytes) return false
    this.#held += bytes
    return true
  }

  giveBack(bytes: number): void {
    this.#held -= bytes
  }
}

export interface BodyLimits {
  readonly maxBytes: number
  readonly budget: BodyBudget
}

/** A body that is being collected. */
export class BodyReader {
  /** Bytes taken from the budget. */
  #held = 0
  readonly #framing: Framing
  readonly #limits: BodyLimits
  #whole: Buffer | undefined
  #chunks: Buffer[] = []
  #read = 0

  constructor(framing: Framing, limits: BodyLimits) {
    this.#framing = framing
    this.#limits = limits
  }

  /** Collects the body. `onEnd` is called once, and not at all if the client hangs up. */
  read(request: IncomingMessage, onEnd: (body: Uint8Array | Refusal) => void): void {
    const { length } = this.#framing
    if (length !== undefined && !this.#take(length)) {
      onEnd(fullUp())
      return
    }
    request.on('data', (chunk: Buffer) => {
      const problem = this.#add(chunk)
      if (!problem) return
      request.removeAllListeners('data').removeAllListeners('end')
      onEnd(problem)
    })
    request.on('end', () => onEnd(this.#finish()))
  }

  /** Gives back what was taken from the budget. */
  release(): void {
    this.#limits.budget.giveBack(this.#held)
    this.#held = 0
  }

  #take(bytes: number): boolean {
    if (!this.#limits.budget.take(bytes)) return false
    this.#held += bytes
    return true
  }

  #add(chunk: Buffer): Refusal | undefined {
    const { length, jsonBytes } = this.#framing
    this.#read += chunk.byteLength
    if (length === undefined) {
      if (this.#read > this.#limits.maxBytes) return tooLarge(this.#limits.maxBytes)
      if (!this.#take(chunk.byteLength)) return fullUp()
      this.#chunks.push(chunk)
      return undefined
    }
    if (chunk.byteLength === length) {
      this.#whole = chunk
      return undefined
    }
    // The first tensor behind the JSON starts where a typed array may look at it without a copy.
    const pad = -(jsonBytes ?? 0) & 7
    this.#whole ??= Buffer.allocUnsafeSlow(pad + length).subarray(pad)
    chunk.copy(this.#whole, this.#read - chunk.byteLength)
    return undefined
  }

  #finish(): Uint8Array {
    return this.#whole ?? Buffer.concat(this.#chunks)
  }
}

function fullUp(): Refusal {
  return refuse('overloaded', 'too many large bodies are being read; try again later')
}

/** What is read of a body that nobody wants, before the connection is given up. */
const maxUnreadBytes = 65_536

/**
 * After an early refusal: takes what little is left of the body so that the connection stays usable, and cuts off a
 * client that goes on sending what was refused.
 */
export function discardRest(request: IncomingMessage, response: ServerResponse): void {
  if (request.complete) return
  let discarded = 0
  const cutOff = () => request.socket.destroy()
  request.on('data', (chunk: Buffer) => {
    discarded += chunk.byteLength
    if (discarded <= maxUnreadBytes) return
    if (response.writableFinished) cutOff()
    else response.once('finish', cutOff)
  })
}
