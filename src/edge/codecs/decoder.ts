/** What turns a body into something, as its bytes arrive: a request, if nothing else is said. */
import type { Lease } from '../../core/arena.ts'
import type { InferRequest } from '../../core/call.ts'
import type { Refusal } from '../../core/refusal.ts'

export interface Decoder<T = InferRequest> {
  /** Takes the next bytes, which are not looked at again later. Returns why the rest is not worth reading. */
  write(chunk: Uint8Array): Refusal | undefined
  /** Behind the last byte. Undefined if there is more to do: call again, once others have had their turn. */
  end(): T | Refusal | undefined
}

export interface TensorLimits {
  readonly maxRows: number
  /** Of one tensor. */
  readonly maxElements: number
  /** Of one tensor of BYTES: each becomes an object in the worker, whatever its length. */
  readonly maxStrings: number
  readonly maxRank: number
}

export interface JsonLimits {
  readonly maxDepth: number
  /** Keys and values, tensor data aside. */
  readonly maxValues: number
}

/** How bodies are decoded, whoever sends them. */
export interface DecodeOptions {
  readonly json: JsonLimits
  readonly tensors: TensorLimits
  /** Whether JSON may hold NaN, Infinity and -Infinity. */
  readonly nonFinite: boolean
}

/** What is known of a body before its first byte, and where its tensors go. */
export interface BodyPlan {
  /** Bytes of JSON before the binary tensors; undefined if all of it is JSON. */
  readonly jsonBytes: number | undefined
  /** Of the whole body; undefined if only its end will tell. */
  readonly length: number | undefined
  readonly options: DecodeOptions
  readonly lease: Lease
}

/** A part of a body that may say something else where the rest is the same: its bytes from one place to another. */
export interface Hole {
  readonly from: number
  readonly to: number
  /** The tensor whose data it is, by its place in `inputs`; undefined for the text of the document's id. */
  readonly input: number | undefined
}

/** How much is done at once of what does not wait for bytes. */
export const sliceBytes = 65_536
