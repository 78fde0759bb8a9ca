/** Reads bodies that say again what one before has said, and hands the others on to who reads them in full. */
import type { Lease } from '../../core/arena.ts'
import type { InferRequest } from '../../core/call.ts'
import { isRefusal, type Refusal } from '../../core/refusal.ts'
import type { Signature } from '../../core/signature.ts'
import type { BodyPlan, DecodeOptions, Decoder } from './decoder.ts'
import { Envelope, type Said } from './envelope.ts'
import { RequestDecoder } from './request.ts'

/** Of a body: in a larger one it hardly counts what is around the elements. */
const mostBytes = 16_384
/** So many different envelopes are known of a contract at once. */
const mostKnown = 4
/** Where there are more, one in so many is taken up, in the place of another. */
const seldom = 16

/** What is known of the bodies for one contract. */
class Envelopes {
  readonly #known: Envelope[] = []
  #misses = 0

  /** The request in a body, in memory of the lease; undefined if the body is like none that is known. */
  open(body: Uint8Array, options: DecodeOptions, lease: Lease): InferRequest | undefined {
    for (const envelope of this.#known) {
      const request = envelope.open(body, options, lease)
      if (request) return request
    }
    return undefined
  }

  /** Takes in what a body has said that was read in full. */
  learn(body: Uint8Array, said: Said): void {
    const known = this.#known
    const turn = this.#misses++
    if (known.length === mostKnown && turn % seldom > 0) return
    const envelope = Envelope.of(body, said)
    if (!envelope) return
    if (known.length < mostKnown) known.push(envelope)
    else known[(turn / seldom) % mostKnown] = envelope
  }
}

const byContract = new WeakMap<Signature, Envelopes>()

function envelopesOf(contract: Signature): Envelopes {
  let envelopes = byContract.get(contract)
  if (!envelopes) byContract.set(contract, (envelopes = new Envelopes()))
  return envelopes
}

export class FamiliarDecoder implements Decoder {
  readonly #plan: BodyPlan
  readonly #contract: Signature
  #request: InferRequest | undefined
  /** Reads what is not familiar. */
  #full: RequestDecoder | undefined

  constructor(plan: BodyPlan, contract: Signature) {
    this.#plan = plan
    this.#contract = contract
  }

  write(chunk: Uint8Array): Refusal | undefined {
    return !this.#full && this.#isWhole(chunk) ? this.#readWhole(chunk) : this.#inFull.write(chunk)
  }

  end(): InferRequest | Refusal | undefined {
    return this.#request ?? this.#inFull.end()
  }

  get #inFull(): RequestDecoder {
    this.#full ??= new RequestDecoder(this.#plan, this.#contract)
    return this.#full
  }

  /** Whether a chunk is all of a small body of JSON. */
  #isWhole({ length }: Uint8Array): boolean {
    const { jsonBytes, length: bodyBytes } = this.#plan
    return length === bodyBytes && jsonBytes === undefined && length <= mostBytes
  }

  #readWhole(body: Uint8Array): Refusal | undefined {
    const { options, lease } = this.#plan
    const envelopes = envelopesOf(this.#contract)
    this.#request = envelopes.open(body, options, lease)
    if (this.#request) return undefined
    const decoder = this.#inFull
    const request = decoder.write(body) ?? decoder.end()
    if (!request || isRefusal(request)) return request
    this.#request = request
    envelopes.learn(body, decoder.said(request))
    return undefined
  }
}
