/**
 * A request and its answer, free of any protocol. An edge makes the Call from a request's head before the body is read;
 * everything behind the edge sees only this.
 */
import type { Headers, Origin } from './origin.ts'
import type { Priority } from './priority.ts'
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
  /** What the body asks for; undefined if it leaves that to others. Milliseconds from arrival to answer. */
  readonly timeoutMs: number | undefined
  readonly priority: Priority | undefined
}

export interface WantedOutput {
  readonly name: string
  readonly binary: boolean
}

export interface Call {
  /** The request's own number: in logs, in refusals, in the response head. */
  readonly requestId: string
  /** What the client addressed: the host in lower case without a port, and the path without the protocol's own words. */
  readonly host: string
  readonly path: string
  /** Undefined when the client leaves the choice to the gateway. */
  readonly version: string | undefined
  /** Who is at the other end: an address, or a network that is one client's; whom a trusted proxy names, if one does. */
  readonly peer: string
  /** Of the head; without those that claim what only a trusted proxy may say, unless it does. */
  readonly headers: Headers
  readonly origin: Origin
  /** On the clock's monotonic scale, milliseconds. The deadline is the client's, if that is sooner than the edge's. */
  readonly arrivedAt: number
  readonly deadline: number
  /** How urgent the client says it is, if it says. */
  readonly priority: Priority | undefined
  /** True once the client has hung up. */
  readonly gone: boolean
  /**
   * Reads the body, once, until `deadline` at the latest, and decodes it as it comes. The tensors lie in memory that the edge takes back when the answer
   * is known. At once, if all of the body is there.
   */
  read(contract: Signature, deadline: number): InferRequest | Refusal | Promise<InferRequest | Refusal>
  /** Calls back at most once, when the client hangs up before its answer is written. */
  onGone(callback: () => void): void
}

export interface Answer {
  readonly model: string
  readonly version: string
  /** The arm of the model's split that the request was assigned to, if it has one. */
  readonly arm: string | undefined
  readonly id: string | undefined
  readonly outputs: readonly Tensor[]
  readonly wanted: readonly WantedOutput[]
  /** Names and values, in turn, of header fields that go with it. */
  readonly head?: readonly string[]
  /** Undefined if the version answers that was asked; else what answers in its place. */
  readonly fallback?: FallbackKind | undefined
}

/** What answers a request; in one place and one form, because what is read so often is faster to read then. */
export function answerTo(
  { id, wanted }: Pick<InferRequest, 'id' | 'wanted'>,
  { model, version, arm }: Pick<Answer, 'model' | 'version' | 'arm'>,
  { head, outputs, fallback }: Pick<Answer, 'outputs' | 'fallback'> & { readonly head: readonly string[] },
): Answer {
  return { model, version, arm, id, outputs, wanted, head, fallback }
}

/** What may answer when the version that was asked cannot in time; `rescue` is the stable one, for one on trial. */
export type FallbackKind = 'version' | 'constant' | 'rescue'
