/**
 * Are a model's rows independent? A symbolic first axis does not prove it: a graph with a Softmax over axis 0 answers
 * [1, 1, 1] to a row alone and [.0003, .73, .88] to the same row beside another caller's. So a version whose manifest
 * does not say is tried at load: the same row alone, in company, and in another place must get the same answer.
 */
import { isDeepStrictEqual } from 'node:util'
import { numerics, type NumericArray } from '../core/datatype.ts'
import type { Ran, Work } from '../core/run.ts'
import type { Program, TensorSpec } from '../core/signature.ts'
import { elementCount, isStrings, joinStrings, type Tensor, type TensorData } from '../core/tensor.ts'

export interface Independence {
  readonly independent: boolean
  readonly why: string
}

type Run = (program: Program, works: readonly Work[]) => Promise<Ran>

/** Sizes tried for dimensions other than the rows: what runs at 4 may need a multiple of 8 or just 1. */
const sizes = [4, 8, 1]
const rounds = 3

export async function probeRows(program: Program, run: Run): Promise<Independence> {
  for (const size of sizes) {
    let seen: Independence | undefined
    for (let round = 0; round < rounds; round++) {
      const verdict = await probeOnce(program, run, makeRows(program, size, round))
      if (verdict && !verdict.independent) return verdict
      seen ??= verdict
    }
    if (seen) return seen
  }
  return { independent: false, why: 'probe: the model takes no input that could be made up' }
}

/** Undefined when the rows could not be run at all, so that nothing was learnt. */
async function probeOnce(program: Program, run: Run, [a, b, c]: readonly Work[]): Promise<Independence | undefined> {
  const alone = await run({ ...program, batched: false }, [a!])
  if (alone.kind !== 'done') return undefined
  for (const [place, company] of [
    [a!, b!, c!],
    [c!, a!, b!],
    [b!, a!],
  ].entries()) {
    const together = await run(program, company)
    if (together.kind !== 'done') return { independent: false, why: 'probe: several rows cannot run together' }
    const own = together.outputs[company.indexOf(a!)]!
    if (!agree(alone.outputs[0]!, own)) {
      const where = place === 0 ? 'beside others' : 'in another place'
      return { independent: false, why: `probe: a row gets another answer ${where}` }
    }
  }
  return { independent: true, why: 'probe: a row gets the same answer alone, beside others and in another place' }
}

function makeRows(program: Program, size: number, round: number): Work[] {
  const next = pseudoRandom(size * 1_000 + round)
  // Small whole numbers first: token ids and categories rarely go beyond them.
  const spread = [2, 10, 1][round]!
  return Array.from({ length: 3 }, () => {
    const inputs = program.inputs.map(({ spec }) => makeTensor(spec, size, () => next() * spread))
    return { inputs, rows: 1, key: '' }
  })
}

function makeTensor(spec: TensorSpec, size: number, next: () => number): Tensor {
  const shape = spec.shape.map((dim, axis) => (axis === 0 ? 1 : typeof dim === 'number' ? dim : size))
  return { ...spec, shape, data: makeData(spec, elementCount(shape), next) }
}

function makeData({ datatype }: TensorSpec, count: number, next: () => number): TensorData {
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

/** Kernels may sum in another order for another number of rows; that is rounding, not influence. */
function agree(a: readonly Tensor[], b: readonly Tensor[]): boolean {
  return a.every((tensor, i) => {
    const other = b[i]!.data
    if (tensor.datatype === 'FP32' || tensor.datatype === 'FP64')
      return close(tensor.data as Float64Array, other as Float64Array)
    if (isStrings(tensor.data) || tensor.datatype !== 'FP16') return isDeepStrictEqual(tensor.data, other)
    // Neighbouring FP16 numbers have neighbouring bits.
    return (tensor.data as Uint16Array).every((bits, j) => Math.abs(bits - (other as Uint16Array)[j]!) <= 4)
  })
}

function close(a: Float64Array, b: Float64Array): boolean {
  const largest = a.reduce((most, x) => Math.max(most, Math.abs(x)), 0)
  return a.every((x, i) => Object.is(x, b[i]) || Math.abs(x - b[i]!) <= 1e-6 * largest + 1e-4 * Math.abs(x))
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
