/**
 * What goes into a model and what comes out. A dimension is a number, or the name of one that varies ('' if it has no
 * name). If the first dimension of every input and output varies, it counts rows, and rows of several requests may
 * share a run.
 */
import type { Datatype } from './datatype.ts'
import type { Padding } from './padding.ts'

export type Dim = number | string

export interface TensorSpec {
  readonly name: string
  readonly datatype: Datatype
  readonly shape: readonly Dim[]
}

export interface Signature {
  readonly inputs: readonly TensorSpec[]
  readonly outputs: readonly TensorSpec[]
}

/** An input or output as a graph declares it, and its place among the graph's own. */
export interface GraphPort extends TensorSpec {
  readonly index: number
}

/** What a graph declares. Outputs that are not tensors (maps, sequences) are left out. */
export interface Graph {
  readonly inputs: readonly GraphPort[]
  readonly outputs: readonly GraphPort[]
}

/** One input or output of a version, as clients see it (`spec`) and as the graph has it. */
export interface Port {
  readonly spec: TensorSpec
  readonly graph: GraphPort
}

/** A version ready to run: the number under which executors know it, and its ports in the order of the contract. */
export interface Program {
  readonly id: number
  readonly inputs: readonly Port[]
  readonly outputs: readonly Port[]
  /**
   * Whether the first axis of every port counts rows and rows do not influence each other, so that rows of different
   * requests may share a run. If not, each request runs alone, just as it came.
   */
  readonly batched: boolean
  /** Most rows in one call of the model, if it is batched; a batch with more is run piece by piece. */
  readonly runRows: number
  /** Whether a run may be tried again when it failed or its worker died: not if the model has effects beside its answer. */
  readonly repeatable: boolean
  readonly padding: Padding
}

export function varies(dim: Dim | undefined): boolean {
  return typeof dim === 'string'
}

export function hasRowAxis({ inputs, outputs }: Signature): boolean {
  return inputs.length > 0 && [...inputs, ...outputs].every((spec) => varies(spec.shape[0]))
}

/** The protocol's way of writing a shape: -1 where it varies. */
export function wireShape(shape: readonly Dim[]): number[] {
  return shape.map((dim) => (typeof dim === 'number' ? dim : -1))
}

/** For people: [batch, 1, 28, 28]. */
export function showShape(shape: readonly Dim[]): string {
  return `[${shape.map((dim) => (dim === '' ? '?' : dim)).join(', ')}]`
}

/** For people: image UINT8 [batch, 1, 28, 28]. */
export function showSpec({ name, datatype, shape }: TensorSpec): string {
  return `${name} ${datatype} ${showShape(shape)}`
}

/** What keeps a shape from fitting one input's specification, as a sentence; undefined if it fits. */
export function shapeMisfit(spec: TensorSpec, shape: readonly number[]): string | undefined {
  if (shape.length !== spec.shape.length) return misfit(spec, shape, `it needs ${spec.shape.length} dimensions`)
  for (const [axis, dim] of spec.shape.entries()) {
    if (typeof dim === 'number' && shape[axis] !== dim) return misfit(spec, shape, `dimension ${axis} must be ${dim}`)
  }
  return undefined
}

/**
 * Binds each named dimension of inputs that fit (in the order of `specs`) to its one value. Returns the binding, or the
 * sentence that says which two inputs do not fit each other.
 */
export function bindShapes(
  specs: readonly TensorSpec[],
  shapes: readonly (readonly number[])[],
): Map<string, number> | string {
  const bound = new Map<string, number>()
  for (const [i, spec] of specs.entries()) {
    const shape = shapes[i]!
    for (const [axis, dim] of spec.shape.entries()) {
      if (typeof dim === 'number' || dim === '') continue
      const before = bound.get(dim)
      if (before === undefined) bound.set(dim, shape[axis]!)
      else if (before !== shape[axis])
        return `input "${spec.name}": ${misfit(spec, shape, `"${dim}" is ${before} in another input of this request`)}`
    }
  }
  return bound
}

function misfit(spec: TensorSpec, shape: readonly number[], why: string): string {
  return `it has shape ${showShape(shape)} but the model takes ${showShape(spec.shape)}: ${why}`
}
