/** Whether what a body holds fits the model's contract and the limits, before it meets other requests in a batch. */
import type { InferRequest, WantedOutput } from '../../core/call.ts'
import { shapeKey } from '../../core/padding.ts'
import { refuse, type Refusal } from '../../core/refusal.ts'
import { bindShapes, hasRowAxis, shapeMisfit, showShape, varies } from '../../core/signature.ts'
import type { Signature, TensorSpec } from '../../core/signature.ts'
import type { Tensor } from '../../core/tensor.ts'
import { badInput, invalid } from './complaints.ts'
import type { TensorLimits } from './decoder.ts'

/** What can be known of a contract before any request. */
export interface Prepared {
  readonly contract: Signature
  readonly rowAxis: boolean
  /** Whether requests of different shapes are possible, which may not share a run. */
  readonly manyShapes: boolean
  /** Whether a dimension's name stands in several places, which must then agree. */
  readonly sharedDims: boolean
  readonly allAsJson: readonly WantedOutput[]
}

const prepared = new WeakMap<Signature, Prepared>()

export function prepare(contract: Signature): Prepared {
  const known = prepared.get(contract)
  if (known) return known
  const fresh = {
    contract,
    rowAxis: hasRowAxis(contract),
    manyShapes: contract.inputs.some(({ shape }) => shape.slice(1).some(varies)),
    sharedDims: hasSharedDims(contract),
    allAsJson: contract.outputs.map(({ name }) => ({ name, binary: false })),
  }
  prepared.set(contract, fresh)
  return fresh
}

function hasSharedDims({ inputs }: Signature): boolean {
  const names = inputs.flatMap(({ shape }) => shape.filter((dim) => typeof dim === 'string' && dim !== ''))
  return new Set(names).size < names.length
}

/** What a request asks for beside its tensors. */
export type Unfitted = Omit<InferRequest, 'inputs' | 'rows' | 'key'>

/** Puts tensors into the contract's order, and holds their shapes against the contract and each other. */
export function fit(
  { contract, rowAxis, manyShapes, sharedDims }: Prepared,
  tensors: readonly Tensor[],
  rest: Unfitted,
): InferRequest | Refusal {
  const inputs =
    tensors.length > 1 ? contract.inputs.map(({ name }) => tensors.find((tensor) => tensor.name === name)!) : tensors
  if (sharedDims) {
    const shapes = inputs.map(({ shape }) => shape)
    const bound = bindShapes(contract.inputs, shapes)
    if (typeof bound === 'string') return invalid(bound)
  }
  const rows = rowAxis ? inputs[0]!.shape[0]! : 1
  const uneven = rowAxis ? inputs.find(({ shape }) => shape[0] !== rows) : undefined
  if (uneven) return invalid(`input "${uneven.name}" has ${uneven.shape[0]} rows and "${inputs[0]!.name}" has ${rows}`)
  const key = manyShapes ? shapeKey(inputs.map(({ shape }) => shape)) : ''
  return { ...rest, inputs, rows, key }
}

/** The shape of an input that has the right datatype, or what is wrong with either. */
export function fittingShape(
  { rowAxis }: Prepared,
  spec: TensorSpec,
  { datatype, shape }: { readonly datatype?: unknown; readonly shape?: unknown },
  limits: TensorLimits,
): readonly number[] | Refusal {
  if (datatype !== spec.datatype) return badInput(spec.name, `its datatype must be ${spec.datatype}`)
  if (!isShape(shape)) return badInput(spec.name, '"shape" must be a list of whole numbers from 1')
  if (shape.length > limits.maxRank) {
    return refuse('too_large', `input "${spec.name}" has ${shape.length} dimensions; ${limits.maxRank} are the most`)
  }
  const misfit = shapeMisfit(spec, shape)
  if (misfit) return badInput(spec.name, misfit)
  const excess = excessOf(shape, rowAxis, spec.datatype === 'BYTES', limits)
  return excess ? refuse('too_large', `input "${spec.name}" has shape ${showShape(shape)}: ${excess}`) : shape
}

function isShape(shape: unknown): shape is readonly number[] {
  return Array.isArray(shape) && (shape as unknown[]).every((dim) => Number.isSafeInteger(dim) && (dim as number) >= 1)
}

function excessOf(
  shape: readonly number[],
  rowAxis: boolean,
  isText: boolean,
  { maxRows, maxElements, maxStrings }: TensorLimits,
): string | undefined {
  if (rowAxis && shape[0]! > maxRows) return `${maxRows} rows are the most, send several requests`
  const most = isText ? maxStrings : maxElements
  let elements = 1
  for (const dim of shape) if ((elements *= dim) > most) return `${most} elements are the most`
  return undefined
}
