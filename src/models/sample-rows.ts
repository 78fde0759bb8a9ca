/** Rows that are made up, to try a model with before anybody asks it. */
import { numerics, type NumericArray } from '../core/datatype.ts'
import { bucketOf, shapeKey } from '../core/padding.ts'
import type { Work } from '../core/run.ts'
import { varies, type Program, type TensorSpec } from '../core/signature.ts'
import { elementCount, joinStrings, type Tensor, type TensorData } from '../core/tensor.ts'

/** Sizes tried for dimensions that vary, other than the rows: what runs at 4 may need a multiple of 8 or just 1. */
export const trialSizes = [4, 8, 1]
/** How large numbers are. Small whole ones first: token ids and categories rarely go beyond them. */
export const spreads = [2, 10, 1]

export interface Recipe {
  /** Of dimensions that vary, by name. */
  readonly sizeOf: (dim: string) => number
  readonly spread: number
  readonly seed: number
}

/** So many works of one row each. */
export function sampleRows({ inputs }: Pick<Program, 'inputs'>, count: number, recipe: Recipe): Work[] {
  const next = pseudoRandom(recipe.seed)
  const manyShapes = inputs.some(({ spec }) => spec.shape.slice(1).some(varies))
  return Array.from({ length: count }, () => {
    const tensors = inputs.map(({ spec }) => sampleTensor(spec, recipe.sizeOf, () => next() * recipe.spread))
    return { inputs: tensors, rows: 1, key: manyShapes ? shapeKey(tensors.map(({ shape }) => shape)) : '' }
  })
}

/** One size for every dimension; where requests are filled up, the bucket that holds it. */
export function evenSize({ padding }: Pick<Program, 'padding'>, size: number): Recipe['sizeOf'] {
  return (dim) => {
    const padded = padding.get(dim)
    return padded ? bucketOf(padded, size) : size
  }
}

/** The same with ones in it; not for strings. */
export function ones(tensor: Tensor): Tensor {
  const data = tensor.data as NumericArray
  const isBig = data instanceof BigInt64Array || data instanceof BigUint64Array
  const one = isBig ? 1n : tensor.datatype === 'FP16' ? 0x3c00 : 1
  return { ...tensor, data: data.slice().fill(one as never) }
}

function sampleTensor(spec: TensorSpec, sizeOf: Recipe['sizeOf'], next: () => number): Tensor {
  const shape = spec.shape.map((dim, axis) => (axis === 0 ? 1 : typeof dim === 'number' ? dim : sizeOf(dim)))
  return { ...spec, shape, data: sampleData(spec, elementCount(shape), next) }
}

function sampleData({ datatype }: TensorSpec, count: number, next: () => number): TensorData {
  if (datatype === 'BYTES') {
    return joinStrings(Array.from({ length: count }, () => new TextEncoder().encode(String(Math.floor(next())))))
  }
  const { array, float } = numerics[datatype]
  const data: NumericArray = new array(count)
  for (let i = 0; i < count; i++) {
    if (data instanceof BigInt64Array || data instanceof BigUint64Array) data[i] = BigInt(Math.floor(next()))
    // The bits of FP16 numbers from 1 to 2: sign 0, exponent 15, any fraction.
    else if (datatype === 'FP16') data[i] = 0x3c00 + Math.floor((next() * 512) % 1024)
    else data[i] = float ? next() : Math.floor(next()) % (datatype === 'BOOL' ? 2 : 128)
  }
  return data
}

/** Mulberry32: small, seeded, good enough to make up numbers. */
function pseudoRandom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}
