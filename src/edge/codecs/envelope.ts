/**
 * Bodies that say again what one before has said. Of the requests that a program sends to a model only the elements of the
 * tensors differ, and the id; what is around them is the same to the byte. So that is remembered, with what it means, and
 * compared, which costs a tenth of reading it. Whatever is not the same to the byte is read in full.
 */
import type { Lease } from '../../core/arena.ts'
import type { InferRequest } from '../../core/call.ts'
import type { TensorSpec } from '../../core/signature.ts'
import type { Tensor } from '../../core/tensor.ts'
import type { DecodeOptions, Hole } from './decoder.ts'
import { ElementReader } from './elements.ts'
import { textOf } from './numbers.ts'
import { quote } from './strings.ts'
import { Window } from './window.ts'

/** What was read of a body. */
export interface Said {
  readonly options: DecodeOptions
  /** In the order of the body. */
  readonly holes: readonly Hole[]
  /** In the order of the request's list. */
  readonly specs: readonly TensorSpec[]
  readonly request: InferRequest
}

interface Described {
  readonly spec: TensorSpec
  readonly shape: readonly number[]
}

/** Of the bytes around the elements. */
const mostAround = 2_048
const longestId = 128

export class Envelope {
  readonly #options: DecodeOptions
  /** The bytes before each hole, and those behind the last. */
  readonly #parts: readonly Uint8Array[]
  /** What each hole holds: the place of an input in the contract; undefined for the id. */
  readonly #holes: readonly (number | undefined)[]
  /** In the order of the contract. */
  readonly #inputs: readonly Described[]
  readonly #request: InferRequest

  private constructor({ options, holes, specs, request }: Said, parts: readonly Uint8Array[]) {
    const { inputs } = request
    this.#options = options
    // What is read next may lie in the same memory; and `slice` of a Buffer is no copy.
    this.#parts = parts.map((part) => new Uint8Array(part))
    const placeOf = (input: number) => inputs.findIndex(({ name }) => name === specs[input]!.name)
    this.#holes = holes.map(({ input }) => (input === undefined ? undefined : placeOf(input)))
    this.#inputs = inputs.map(({ name, shape }) => ({ spec: specs.find((spec) => spec.name === name)!, shape }))
    this.#request = { ...request, inputs: [] }
  }

  /** What is around the holes of a body; undefined if that is not worth remembering. */
  static of(body: Uint8Array, said: Said): Envelope | undefined {
    const { holes, request } = said
    const { id } = request
    // An id with escapes in it.
    if (holes.some(({ input, from, to }) => input === undefined && to - from !== id?.length)) return undefined
    const parts = [...holes, { from: body.length }].map(({ from }, i) => body.subarray(holes[i - 1]?.to ?? 0, from))
    const around = parts.reduce((sum, part) => sum + part.length, 0)
    return around > mostAround ? undefined : new Envelope(said, parts)
  }

  /** The request in a whole body, in memory of the lease; undefined if the body has to be read in full. */
  open(body: Uint8Array, options: DecodeOptions, lease: Lease): InferRequest | undefined {
    const parts = this.#parts
    const end = body.length - parts.at(-1)!.length
    if (options !== this.#options || !isAt(parts.at(-1)!, body, end)) return undefined
    const request = this.#fill(body, end, lease)
    // Nothing else of the request lies in it yet.
    if (!request) lease.release()
    return request
  }

  /** `end` is where the last of the holes should end. */
  #fill(body: Uint8Array, end: number, lease: Lease): InferRequest | undefined {
    const parts = this.#parts
    const window = new Window(lease)
    window.push(body)
    const inputs: Tensor[] = []
    let { id } = this.#request
    for (let i = 0; i < this.#holes.length; i++) {
      if (!isAt(parts[i]!, body, window.at)) return undefined
      window.at += parts[i]!.length
      const place = this.#holes[i]
      if (place === undefined) id = readId(window)
      else {
        const tensor = this.#read(this.#inputs[place]!, window, lease)
        if (!tensor) return undefined
        inputs[place] = tensor
      }
    }
    return window.at === end ? { ...this.#request, id, inputs } : undefined
  }

  #read({ spec, shape }: Described, window: Window, lease: Lease): Tensor | undefined {
    const reader = new ElementReader(spec, { shape, nonFinite: this.#options.nonFinite }, lease)
    const data = reader.read(window) === 'done' ? reader.finish() : undefined
    return data && { name: spec.name, datatype: spec.datatype, shape, data }
  }
}

function isAt(part: Uint8Array, bytes: Uint8Array, at: number): boolean {
  let i = 0
  while (i < part.length && part[i] === bytes[at + i]) i++
  return i === part.length
}

/** Reads on as far as what stands there is its own text. If that is not up to the quote, what is behind it is not found. */
function readId(window: Window): string {
  const { bytes, at } = window
  let p = at
  while (p - at < longestId && isPlain(bytes[p])) p++
  window.at = p
  return textOf(bytes, at, p)
}

function isPlain(byte: number | undefined): boolean {
  return byte !== undefined && byte >= 0x20 && byte < 0x7f && byte !== quote && byte !== 0x5c
}
