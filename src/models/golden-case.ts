/** A golden case as it is written: inputs, and the outputs that a version must give for them, in the contract's words. */
import * as z from 'zod'
import { dataOf } from '../core/elements.ts'
import { bindShapes, hasRowAxis, shapeMisfit, showShape, varies } from '../core/signature.ts'
import type { Signature, TensorSpec } from '../core/signature.ts'
import type { Work } from '../core/run.ts'
import { shapeKey } from '../core/padding.ts'
import { elementCount, maxRank, type Tensor } from '../core/tensor.ts'

/** How far a float may be from what is expected: `absolute` plus `relative` times the expected size. */
export type Tolerance = z.output<typeof tolerance>

export interface GoldenCase {
  readonly work: Work
  /** Those that are compared; there may be fewer than the contract has. */
  readonly outputs: readonly Tensor[]
  readonly tolerance: Tolerance
}

const tolerance = z.strictObject({
  absolute: z.number().min(0).default(1e-6),
  relative: z.number().min(0).default(1e-4),
})

const tensors = z.array(
  z.strictObject({
    name: z.string(),
    datatype: z.string(),
    shape: z.array(z.int().min(0)).max(maxRank),
    /** Flat, or lists in lists as the shape says. */
    data: z.array(z.unknown()),
  }),
)

const caseSchema = z.strictObject({
  inputs: tensors,
  outputs: tensors.min(1),
  tolerance: tolerance.default(tolerance.parse({})),
})

type Written = z.output<typeof tensors>[number]

/** Reads a case against the contract; or says what is wrong with it. */
export function readCase(text: string, contract: Signature): GoldenCase | string {
  const raw = jsonOf(text)
  if (raw === undefined) return 'not JSON'
  const parsed = caseSchema.safeParse(raw)
  if (!parsed.success) return showIssue(parsed.error.issues[0]!)
  const { inputs, outputs, tolerance: own } = parsed.data
  const given = readTensors('input', inputs, contract.inputs)
  if (typeof given === 'string') return given
  const expected = readTensors('output', outputs, contract.outputs)
  if (typeof expected === 'string') return expected
  const work = workOf(given, contract)
  return typeof work === 'string' ? work : { work, outputs: expected, tolerance: own }
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function showIssue({ path, message }: z.core.$ZodIssue): string {
  const said = message.replace(/^Invalid input: /, '')
  return path.length === 0 ? said : `${z.core.toDotPath(path)}: ${said}`
}

function readTensors(role: 'input' | 'output', written: readonly Written[], specs: readonly TensorSpec[]) {
  const read: Tensor[] = []
  for (const each of written) {
    const spec = specs.find(({ name }) => name === each.name)
    const names = specs.map(({ name }) => `"${name}"`).join(', ')
    if (!spec) return `the model has no ${role} "${each.name}": its ${role}s are ${names}`
    if (read.some(({ name }) => name === each.name)) return `${role} "${each.name}" is given twice`
    const tensor = readTensor(each, spec)
    if (typeof tensor === 'string') return `${role} "${each.name}": ${tensor}`
    read.push(tensor)
  }
  return read
}

function readTensor({ datatype, shape, data }: Written, spec: TensorSpec): Tensor | string {
  if (datatype !== spec.datatype) return `its datatype must be ${spec.datatype}`
  const fits = shape.length === spec.shape.length && spec.shape.every((dim, i) => varies(dim) || dim === shape[i])
  if (!fits) return `it has shape ${showShape(shape)}, but the contract says ${showShape(spec.shape)}`
  const elements = flatten(data, shape)
  if (!elements) return `its lists are not nested as shape ${showShape(shape)} says`
  const count = elementCount(shape)
  if (elements.length !== count)
    return `it has ${elements.length} elements, but shape ${showShape(shape)} holds ${count}`
  const held = dataOf(spec.datatype, elements)
  return typeof held === 'string' ? held : { name: spec.name, datatype: spec.datatype, shape, data: held }
}

/** The elements one after another, how many there may be; undefined if lists in lists are not as the shape says. */
function flatten(data: readonly unknown[], shape: readonly number[]): readonly unknown[] | undefined {
  if (!Array.isArray(data[0]) || shape.length < 2) return data
  const rest = shape.slice(1)
  const flat: unknown[] = []
  for (const list of data) {
    const isNested = Array.isArray(list) && list.length === rest[0]
    const inner = isNested ? flatten(list as unknown[], rest) : undefined
    if (!inner) return undefined
    for (const each of inner) flat.push(each)
  }
  return flat
}

/** In the contract's order, as a request would come. */
function workOf(given: readonly Tensor[], contract: Signature): Work | string {
  const inputs: Tensor[] = []
  for (const spec of contract.inputs) {
    const tensor = given.find(({ name }) => name === spec.name)
    if (!tensor) return `input "${spec.name}" is missing`
    const misfit = shapeMisfit(spec, tensor.shape)
    if (misfit !== undefined) return `input "${spec.name}": ${misfit}`
    if (tensor.shape.includes(0)) return `input "${spec.name}" is empty`
    inputs.push(tensor)
  }
  const shapes = inputs.map(({ shape }) => shape)
  const bound = bindShapes(contract.inputs, shapes)
  if (typeof bound === 'string') return bound
  const rows = hasRowAxis(contract) ? shapes[0]![0]! : 1
  const uneven = hasRowAxis(contract) ? inputs.find(({ shape }) => shape[0] !== rows) : undefined
  if (uneven) return `input "${uneven.name}" has ${uneven.shape[0]} rows, and "${inputs[0]!.name}" has ${rows}`
  const manyShapes = contract.inputs.some(({ shape }) => shape.slice(1).some(varies))
  return { inputs, rows, key: manyShapes ? shapeKey(shapes) : '' }
}
