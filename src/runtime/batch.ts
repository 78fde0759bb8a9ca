/**
 * From requests to one batch and back: where each request's rows go in a slot, and which part of the outputs is whose.
 */
import { numerics, type Datatype, type NumericArray } from '../core/datatype.ts'
import type { Work } from '../core/run.ts'
import type { GraphPort, Program, TensorSpec } from '../core/signature.ts'
import { bytesOf, concatStrings, elementCount, isStrings, sliceData } from '../core/tensor.ts'
import type { Strings, Tensor, TensorData } from '../core/tensor.ts'
import { align, frameHeadBytes, type Frame, type Placed } from './slab.ts'

/** An output that did not fit a slot because its size was not known; it came by message instead. */
export interface Mailed {
  readonly output: number
  readonly shape: readonly number[]
  readonly data: TensorData
}

export interface Batch {
  readonly program: Program
  readonly works: readonly Work[]
  readonly rows: number
  readonly frame: Frame
  readonly bytes: number
  /** String inputs, joined; undefined where the input is numeric. */
  readonly strings: readonly (Strings | undefined)[]
}

/** Lays a batch out. All works have the same shapes but for their rows. */
export function layOut(program: Program, works: readonly Work[]): Batch {
  const rows = works.reduce((sum, work) => sum + work.rows, 0)
  const strings = program.inputs.map(({ graph }, i) =>
    graph.datatype === 'BYTES' ? concatStrings(works.map((work) => work.inputs[i]!.data as Strings)) : undefined,
  )
  let end = frameHeadBytes(program.inputs.length + program.outputs.length)
  const place = ({ index, datatype }: GraphPort, shape: readonly number[], bytes: number): Placed => {
    const offset = end
    end = align(end + bytes)
    return { port: index, datatype, shape, offset, bytes }
  }
  const inputs = program.inputs.map(({ graph }, i) => {
    const own = works[0]!.inputs[i]!.shape
    const shape = program.batched ? [rows, ...own.slice(1)] : own
    return place(graph, shape, bytesNeeded(graph.datatype, shape, strings[i]))
  })
  const sizes = namedSizes(program, inputs)
  const outputs = program.outputs.map(({ spec, graph }): Placed => {
    const shape = graph.datatype === 'BYTES' ? undefined : knownShape(spec, sizes, program.batched ? rows : undefined)
    if (!shape) return { port: graph.index, datatype: graph.datatype, shape: [], offset: -1, bytes: 0 }
    return place(graph, shape, bytesNeeded(graph.datatype, shape, undefined))
  })
  return { program, works, rows, frame: { session: program.session, inputs, outputs }, bytes: end, strings }
}

function bytesNeeded(datatype: Datatype, shape: readonly number[], strings: Strings | undefined): number {
  if (datatype !== 'BYTES') return elementCount(shape) * numerics[datatype].bytes
  return strings!.offsets.byteLength + strings!.bytes.byteLength
}

/** What each named dimension is in this batch. */
function namedSizes(program: Program, inputs: readonly Placed[]): Map<string, number> {
  const sizes = new Map<string, number>()
  program.inputs.forEach(({ spec }, i) => {
    spec.shape.forEach((dim, axis) => {
      if (typeof dim === 'string' && dim !== '') sizes.set(dim, inputs[i]!.shape[axis]!)
    })
  })
  return sizes
}

/** An output's shape, if the inputs' shapes already tell it. */
function knownShape(spec: TensorSpec, sizes: Map<string, number>, rows: number | undefined): number[] | undefined {
  const shape: number[] = []
  for (const [axis, dim] of spec.shape.entries()) {
    const size = axis === 0 && rows !== undefined ? rows : typeof dim === 'number' ? dim : sizes.get(dim)
    if (size === undefined) return undefined
    shape.push(size)
  }
  return shape
}

/** Copies every request's rows to their place in the slot. */
export function fill({ program, works, frame, strings }: Batch, slot: SharedArrayBuffer): void {
  for (const [i, { offset, datatype, bytes }] of frame.inputs.entries()) {
    const text = strings[i]
    if (text) {
      Buffer.from(slot, offset, bytes).set(bytesOf(text.offsets))
      Buffer.from(slot, offset, bytes).set(text.bytes, text.offsets.byteLength)
      continue
    }
    const same = program.inputs[i]!.spec.datatype === datatype
    let at = offset
    for (const work of works) {
      const data = work.inputs[i]!.data as NumericArray
      at += same ? copyBytes(data, slot, at) : convertInto(data, datatype, slot, at)
    }
  }
}

/** `Buffer.copy` and not `set`: into shared memory that is not aligned the latter is ten times slower. */
function copyBytes(data: NumericArray, slot: SharedArrayBuffer, at: number): number {
  return Buffer.from(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength).copy(Buffer.from(slot, at))
}

function convertInto(data: NumericArray, to: Datatype, slot: SharedArrayBuffer, at: number): number {
  const { array } = numerics[to as keyof typeof numerics]
  const target = new array(slot, at, data.length)
  assign(target, data)
  return target.byteLength
}

/** Element by element from one datatype into another that holds every value of the first. */
function assign(target: NumericArray, source: NumericArray): void {
  const bigTarget = target instanceof BigInt64Array || target instanceof BigUint64Array
  const bigSource = source instanceof BigInt64Array || source instanceof BigUint64Array
  if (bigTarget === bigSource) target.set(source as never)
  else if (bigTarget) for (let i = 0; i < source.length; i++) target[i] = BigInt(source[i]!)
  else for (let i = 0; i < source.length; i++) target[i] = Number(source[i])
}

/** Gives each work its outputs, in memory of their own; or says why the outputs make no sense. */
export function split(batch: Batch, slot: SharedArrayBuffer, mailed: readonly Mailed[]): Tensor[][] | string {
  const { program, works, frame, rows } = batch
  const shares: Tensor[][] = works.map(() => [])
  for (const [i, { spec, graph }] of program.outputs.entries()) {
    const { shape, data } = outputOf(frame.outputs[i]!, i, slot, mailed)
    const misfit = program.batched && shape[0] !== rows
    if (misfit) return `output "${spec.name}" has ${shape[0]} rows where ${rows} went in`
    const perRow = program.batched ? elementCount(shape.slice(1)) : 0
    let row = 0
    works.forEach((work, p) => {
      const own = program.batched ? [work.rows, ...shape.slice(1)] : shape
      const start = row * perRow
      const share = sliceData(data, start, start + elementCount(own))
      shares[p]!.push({ ...spec, shape: own, data: inDatatype(share, graph.datatype, spec.datatype) })
      row += work.rows
    })
  }
  return shares
}

function outputOf(placed: Placed, output: number, slot: SharedArrayBuffer, mailed: readonly Mailed[]) {
  if (placed.offset < 0) return mailed.find((each) => each.output === output)!
  const { array } = numerics[placed.datatype as keyof typeof numerics]
  return { shape: placed.shape, data: new array(slot, placed.offset, elementCount(placed.shape)) }
}

function inDatatype(data: TensorData, from: Datatype, to: Datatype): TensorData {
  if (from === to || isStrings(data)) return data
  const target = new numerics[to as keyof typeof numerics].array(data.length)
  assign(target, data)
  return target
}
