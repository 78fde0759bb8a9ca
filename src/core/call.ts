/**
 * A request and its answer, free of any protocol. An edge makes the Call from a request's head before the body is read;
 * everything behind the edge sees only this.
 */
import type { Refusal } from './refusal.ts'
import type { Signature } from './signature.ts'
import type { Tensor } from './tensor.ts'

/** What a client asks to be run, decoded and checked against the model's contract. */
export interface InferRequest {
  readonly id: string | undefined
  /** In the order of the contract. */
  readonly inputs: readonly Tensor[]
  /** Rows counted by the first axis; 1 for a model without a row axis. */
  readonly rows: number
  /** Equal for requests whose rows may share a run. */
  readonly key: string
  /** Names of the outputs to return, in the order they were asked for. */
  readonly wanted: readonly WantedOutput[]
}

export interface WantedOutput {
  readonly name: string
  readonly binary: boolean
}

/** Turns a body into an InferRequest. Chosen by the edge from the head; run only once the model is known. */
type Decode = (body: Uint8Array, contract: Signature) => InferRequest | Refusal

export interface Call {
  /** The request's own number: in logs, in refusals, in the response head. */
  readonly requestId: string
  readonly model: string
  /** Undefined when the client leaves the choice to the gateway. */
  readonly version: string | undefined
  /** On the clock's monotonic scale, milliseconds. */
  readonly deadline: number
  /** True once the client has hung up. */
  readonly gone: boolean
  readonly decode: Decode
  /** Reads the body once, up to the edge's limit. */
  body(): Promise<Uint8Array | Refusal>
  /** Calls back at most once, when the client hangs up before its answer is written. */
  onGone(callback: () => void): void
}

export interface Answer {
  readonly model: string
  readonly version: string
  readonly id: string | undefined
  readonly outputs: readonly Tensor[]
  readonly wanted: readonly WantedOutput[]
}
