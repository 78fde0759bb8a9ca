/**
 * From requests to one batch and back: where each request's rows go in a slot, and which part of the outputs is whose.
 */
import { numerics, type Datatype, type NumericArray, type NumericDatatype } from '../core/datatype.ts'
import { paddedShape } from '../core/padding.ts'
import type { Work } from '../core/run.ts'
import type { GraphPort, Program, TensorSpec } from '../core/signature.ts'
import { bytesOf, concatStrings, elementCount, isStrings, partOf } from '../core/tensor.ts'
import type { Strings, Tensor, TensorData } from '../core/tensor.ts'
import { align, frameHeadBytes, type Frame, type Placed, type SlotMemory } from './frame.ts'
import { cut, fillerOf, grow, isSameShape } from './padding.ts'

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
  /** Where in a slot the outputs begin and end. */
  readonly inputBytes: number
  readonly bytes: number
  /** String inputs, joined; undefined where the input is numeric. */
  readonly strings: readonly (Strings | undefined)[]
}

/** Lays a batch out. All works have the same shapes but for their rows, once they are filled up. */
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
    const own = shapeIn(program, i, works[0]!)
    const shape = program.batched ? [rows, ...own.slice(1)] : own
    return place(graph, shape, bytesNeeded(graph.datatype, shape, strings[i]))
  })
  const inputBytes = end
  const sizes = namedSizes(program, inputs)
  const outputs = program.outputs.map(({ spec, graph }): Placed => {
    const shape = graph.datatype === 'BYTES' ? undefined : knownShape(spec, sizes, program.batched ? rows : undefined)
    if (!shape) return { port: graph.index, datatype: graph.datatype, shape: [], offset: -1, bytes: 0 }
    return place(graph, shape, bytesNeeded(graph.datatype, shape, undefined))
  })
  const runRows = program.batched ? program.runRows : 0
  return {
    program,
    works,
    rows,
    frame: { rows, runRows, inputs, outputs },
    inputBytes,
    bytes: end,
    strings,
  }
}

/** An input's shape as a batch holds it. */
function shapeIn({ inputs, padding }: Program, input: number, { inputs: tensors }: Work): readonly number[] {
  const { shape } = tensors[input]!
  return padding.size === 0 ? shape : paddedShape(inputs[input]!.spec.shape, shape, padding)
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
export function fill({ program, works, frame, strings }: Batch, slot: SlotMemory): void {
  for (const [i, { offset, datatype, bytes }] of frame.inputs.entries()) {
    const text = strings[i]
    if (text) {
      Buffer.from(slot, offset, bytes).set(bytesOf(text.offsets))
      Buffer.from(slot, offset, bytes).set(text.bytes, text.offsets.byteLength)
      continue
    }
    const { array, bytes: width } = numerics[datatype as NumericDatatype]
    const target = new array(slot, offset, bytes / width)
    const same = program.inputs[i]!.spec.datatype === datatype
    let at = 0
    for (const work of works) {
      const data = filledUp(program, i, work)
      if (!same) assign(target.subarray(at, at + data.length), data)
      else if (data.byteLength < largeBytes) target.set(data as never, at)
      else copyBytes(data, slot, offset + at * width)
      at += data.length
    }
  }
}

/** An input's elements, filled up to the size that the batch has for it. */
function filledUp(program: Program, input: number, work: Work): NumericArray {
  const { shape, data } = work.inputs[input]! as Tensor & { data: NumericArray }
  if (program.padding.size === 0) return data
  const { spec } = program.inputs[input]!
  const whole = paddedShape(spec.shape, shape, program.padding)
  return isSameShape(shape, whole) ? data : grow({ data, shape }, whole, fillerOf(spec, program.padding))
}

/** From here a copy outweighs the views it needs. */
const largeBytes = 4_096

/** `Buffer.copy` and not `set`: into shared memory that is not aligned the latter is ten times slower. */
function copyBytes(data: NumericArray, slot: SlotMemory, at: number): void {
  Buffer.from(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength).copy(Buffer.from(slot, at))
}

/** Element by element from one datatype into another that holds every value of the first. */
function assign(target: NumericArray, source: NumericArray): void {
  const bigTarget = target instanceof BigInt64Array || target instanceof BigUint64Array
  const bigSource = source instanceof BigInt64Array || source instanceof BigUint64Array
  if (bigTarget === bigSource) target.set(source as never)
  else if (bigTarget) for (let i = 0; i < source.length; i++) target[i] = BigInt(source[i]!)
  else for (let i = 0; i < source.length; i++) target[i] = Number(source[i])
}

/** Gives each work its outputs; or says why they make no sense. */
export function split(batch: Batch, slot: SlotMemory, mailed: readonly Mailed[]): Tensor[][] | string {
  const { program, works, frame, rows } = batch
  const shares: Tensor[][] = works.map(() => [])
  for (const [i, { spec, graph }] of program.outputs.entries()) {
    const { shape, data: raw } = outputOf(frame.outputs[i]!, i, slot, mailed)
    if (program.batched && shape[0] !== rows) return `output "${spec.name}" has ${shape[0]} rows where ${rows} went in`
    const { name, datatype } = spec
    const data = inDatatype(raw, graph.datatype, datatype)
    const tail = shape.slice(1)
    const perRow = elementCount(tail)
    let from = 0
    let whole = shape
    for (let w = 0; w < works.length; w++) {
      const work = works[w]!
      // Mostly the same as that of the one before.
      if (program.batched && whole[0] !== work.rows) whole = [work.rows, ...tail]
      const to = from + (program.batched ? work.rows * perRow : elementCount(shape))
      const part = partOf(data, from, to)
      const own = program.padding.size === 0 ? whole : ownShape(program, work, spec, whole)
      const share = own === whole || isSameShape(own, whole) ? part : cut({ data: part, shape: whole }, own)
      shares[w]!.push({ name, datatype, shape: own, data: share })
      from = to
    }
  }
  return shares
}

/** An output's shape without what was filled up: its dimensions are as large as those of the same name in the inputs. */
function ownShape({ inputs, padding }: Program, work: Work, spec: TensorSpec, whole: readonly number[]): number[] {
  return whole.map((size, axis) => {
    const dim = spec.shape[axis]
    if (typeof dim !== 'string' || !padding.has(dim)) return size
    for (const [i, { spec: input }] of inputs.entries()) {
      const at = input.shape.indexOf(dim)
      if (at > 0) return Math.min(size, work.inputs[i]!.shape[at]!)
    }
    return size
  })
}

/** An output of the whole batch, in memory that stays when the slot is filled again. */
function outputOf(placed: Placed, output: number, slot: SlotMemory, mailed: readonly Mailed[]) {
  if (placed.offset < 0) return mailed.find((each) => each.output === output)!
  const { array } = numerics[placed.datatype as NumericDatatype]
  const inSlot = new array(slot, placed.offset, elementCount(placed.shape))
  return { shape: placed.shape, data: inSlot.slice() }
}

function inDatatype(data: TensorData, from: Datatype, to: Datatype): TensorData {
  if (from === to || isStrings(data)) return data
  const target = new numerics[to as NumericDatatype].array(data.length)
  assign(target, data)
  return target
}
