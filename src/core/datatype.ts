/**
 * The tensor datatypes of the Open Inference Protocol that ONNX Runtime can run, and what may be turned into what.
 * FP16 travels as its raw 16 bits: JavaScript need not understand it to move it. BF16 is left out because ONNX Runtime's
 * Node binding refuses it.
 */
export type NumericArray =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | BigUint64Array
  | BigInt64Array
  | Float32Array
  | Float64Array

interface NumericArrayConstructor {
  readonly BYTES_PER_ELEMENT: number
  new (length: number): NumericArray
  new (buffer: ArrayBufferLike, byteOffset?: number, length?: number): NumericArray
}

/**
 * Whole numbers between `min` and `max` are held exactly; for floats that is the range in which every whole number has
 * a form of its own (2 to the power of the significand's width).
 */
interface Numeric {
  readonly bytes: 1 | 2 | 4 | 8
  readonly array: NumericArrayConstructor
  readonly min: bigint
  readonly max: bigint
  readonly float: boolean
  /** Whether the protocol lets JSON carry it. */
  readonly json: boolean
}

function whole(array: NumericArrayConstructor, min: bigint, max: bigint): Numeric {
  return { bytes: array.BYTES_PER_ELEMENT as Numeric['bytes'], array, min, max, float: false, json: true }
}

function float(array: NumericArrayConstructor, significandBits: bigint, json: boolean): Numeric {
  const exact = 2n ** significandBits
  return { bytes: array.BYTES_PER_ELEMENT as Numeric['bytes'], array, min: -exact, max: exact, float: true, json }
}

export const numerics = {
  BOOL: whole(Uint8Array, 0n, 1n),
  UINT8: whole(Uint8Array, 0n, 255n),
  UINT16: whole(Uint16Array, 0n, 65_535n),
  UINT32: whole(Uint32Array, 0n, 2n ** 32n - 1n),
  UINT64: whole(BigUint64Array, 0n, 2n ** 64n - 1n),
  INT8: whole(Int8Array, -128n, 127n),
  INT16: whole(Int16Array, -32_768n, 32_767n),
  INT32: whole(Int32Array, -(2n ** 31n), 2n ** 31n - 1n),
  INT64: whole(BigInt64Array, -(2n ** 63n), 2n ** 63n - 1n),
  FP16: float(Uint16Array, 11n, false),
  FP32: float(Float32Array, 24n, true),
  FP64: float(Float64Array, 53n, true),
} as const satisfies Record<string, Numeric>

export type NumericDatatype = keyof typeof numerics
export type Datatype = NumericDatatype | 'BYTES'

/** In a fixed order: the position is the number that stands for the datatype in shared memory. */
export const datatypes = [...(Object.keys(numerics) as NumericDatatype[]), 'BYTES'] as const satisfies Datatype[]

/** True when every value of `from` has the same value in `to`, so that a gateway may convert it without telling. */
export function widens(from: Datatype, to: Datatype): boolean {
  if (from === to) return true
  if (from === 'BYTES' || to === 'BYTES' || from === 'FP16' || to === 'FP16') return false
  const source = numerics[from]
  const target = numerics[to]
  if (source.float && !target.float) return false
  return source.min >= target.min && source.max <= target.max
}
