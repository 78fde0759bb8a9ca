/** The binary tensor extension: little-endian elements without padding; BYTES elements each behind a 32-bit length. */
import { isUtf8 } from 'node:buffer'
import { GrowingBytes, type Lease } from '../../core/arena.ts'
import { numerics } from '../../core/datatype.ts'
import type { Refusal } from '../../core/refusal.ts'
import type { TensorSpec } from '../../core/signature.ts'
import { elementCount, isStrings, stringAt, stringCount, viewOf } from '../../core/tensor.ts'
import type { Strings, TensorData } from '../../core/tensor.ts'
import { badInput, noMemory } from './complaints.ts'
import { sliceBytes } from './decoder.ts'

/** A tensor whose bytes come behind the JSON, copied as they come to where a typed array may look at them. */
export class BinaryTensor {
  readonly spec: TensorSpec
  readonly shape: readonly number[]
  /** Bytes still to come. */
  missing: number
  readonly #memory: GrowingBytes
  readonly #lease: Lease
  #strings: WireStrings | undefined

  /** `size` in bytes, as the request says it. */
  constructor(spec: TensorSpec, shape: readonly number[], size: number, lease: Lease) {
    this.spec = spec
    this.shape = shape
    this.missing = size
    this.#memory = new GrowingBytes(lease)
    this.#lease = lease
  }

  /** Why such a tensor cannot have this size; asked before any byte of it has come. */
  get misfit(): string | undefined {
    const { datatype } = this.spec
    // Each has a length before it.
    if (datatype === 'BYTES' && this.missing < 4 * elementCount(this.shape))
      return `its binary data holds ${this.missing} bytes, which are too few for its shape`
    if (datatype === 'BYTES') return undefined
    const needed = elementCount(this.shape) * numerics[datatype].bytes
    if (this.missing === needed) return undefined
    return `its binary data holds ${this.missing} bytes but its shape needs ${needed}`
  }

  /** Takes bytes, no more than are missing. */
  write(bytes: Uint8Array): Refusal | undefined {
    if (this.spec.datatype === 'BOOL' && !areBits(bytes)) return badInput(this.spec.name, neitherBit)
    this.missing -= bytes.length
    return this.#memory.append(bytes) ? undefined : noMemory()
  }

  finish(): TensorData | Refusal | undefined {
    const { datatype, name } = this.spec
    if (this.missing > 0) return this.tooShort()
    if (!this.#memory.settle(sliceBytes)) return undefined
    if (datatype !== 'BYTES') return viewOf(datatype, this.#memory.bytes)
    if (!this.#strings) {
      const count = elementCount(this.shape)
      const memory = this.#lease.take(4 * (count + 1))
      if (!memory) return noMemory()
      this.#strings = new WireStrings(this.#memory.bytes, new Uint32Array(memory, 0, count + 1))
    }
    const strings = this.#strings.finish()
    return typeof strings === 'string' ? badInput(name, strings) : strings
  }

  tooShort(): Refusal {
    return badInput(this.spec.name, 'the body ends before its binary data')
  }
}

export const neitherBit = 'a BOOL element is neither 0 nor 1'

export function areBits(bytes: Uint8Array): boolean {
  for (let i = 0; i < bytes.length; i++) if (bytes[i]! > 1) return false
  return true
}

/** BYTES elements without the lengths between them, closed up where they lie; a slice at a time, for there may be many. */
class WireStrings {
  readonly #wire: Uint8Array
  readonly #view: DataView
  readonly #offsets: Uint32Array
  #at = 0
  #element = 0

  /** `offsets` has room for one more than there are elements. */
  constructor(wire: Uint8Array, offsets: Uint32Array) {
    this.#wire = wire
    this.#view = new DataView(wire.buffer, wire.byteOffset, wire.byteLength)
    this.#offsets = offsets
    offsets[0] = 0
  }

  /** The elements, or what is wrong with them; undefined if there is more to do. */
  finish(): Strings | string | undefined {
    const wire = this.#wire
    const offsets = this.#offsets
    const count = offsets.length - 1
    const sliceEnd = this.#at + sliceBytes
    for (; this.#element < count; this.#element++) {
      if (this.#at >= sliceEnd) return undefined
      if (this.#at >= wire.length)
        return `its binary data holds ${this.#element} BYTES elements but its shape needs ${count}`
      const length = this.#at + 4 <= wire.length ? this.#view.getUint32(this.#at, true) : Infinity
      const from = this.#at + 4
      if (from + length > wire.length) return `BYTES element ${this.#element} is cut short`
      const to = offsets[this.#element]!
      wire.copyWithin(to, from, from + length)
      offsets[this.#element + 1] = to + length
      this.#at = from + length
    }
    if (this.#at < wire.length) return `its binary data holds more BYTES elements but its shape needs ${count}`
    const strings = { offsets, bytes: wire.subarray(0, offsets[count]) }
    return allFit(strings, 0, count) ? strings : firstProblem(strings)
  }
}

/**
 * Those from one element up to another, all at once; and none may begin inside a character (RFC 3629 section 3), or they
 * would be UTF-8 only together.
 */
function allFit({ offsets, bytes }: Strings, from: number, to: number): boolean {
  if (stringProblem(bytes.subarray(offsets[from], offsets[to]))) return false
  for (let i = from; i < to; i++) if ((bytes[offsets[i]!]! & 0xc0) === 0x80 && offsets[i]! < offsets[to]!) return false
  return true
}

/** By halves: one after the other would take many times as long. */
function firstProblem(strings: Strings): string {
  let from = 0
  let to = stringCount(strings)
  while (to - from > 1) {
    const middle = (from + to) >> 1
    if (allFit(strings, from, middle)) from = middle
    else to = middle
  }
  return `BYTES element ${from} ${stringProblem(stringAt(strings, from))}`
}

/** What keeps bytes from being a string that a model can take. */
export function stringProblem(bytes: Uint8Array): string | undefined {
  if (!isUtf8(bytes)) return 'is not UTF-8, which is all that a model can take'
  return bytes.includes(0) ? 'holds a NUL character, where ONNX Runtime would cut it' : undefined
}

/** How many bytes a tensor has on the wire. */
export function wireSize(data: TensorData): number {
  return isStrings(data) ? 4 * stringCount(data) + data.bytes.byteLength : data.byteLength
}

/** BYTES elements on the wire, each behind its length. */
export function writeStrings(data: Strings, from: number, to: number): Uint8Array {
  const { offsets, bytes } = data
  const start = offsets[from]!
  const wire = new Uint8Array(4 * (to - from) + offsets[to]! - start)
  const view = new DataView(wire.buffer)
  for (let i = from; i < to; i++) {
    const at = 4 * (i - from) + offsets[i]! - start
    const length = offsets[i + 1]! - offsets[i]!
    view.setUint32(at, length, true)
    if (length > 0) wire.set(bytes.subarray(offsets[i], offsets[i + 1]), at + 4)
  }
  return wire
}
