/**
 * What a manifest says of dimensions that may be filled up, held against the version's inputs, and then tried: a row must
 * get the same answer filled up as it gets alone.
 */
import { numerics, type NumericDatatype } from '../core/datatype.ts'
import { noPadding, type Padding } from '../core/padding.ts'
import type { Run, Work } from '../core/run.ts'
import type { Port, Program, TensorSpec } from '../core/signature.ts'
import { agree } from './agree.ts'
import type { Manifest } from './manifest.ts'
import { evenSize, ones, sampleRows, spreads } from './sample-rows.ts'

/** Returns what does not fit. */
export function paddingOf(inputs: readonly Port[], { padding }: Manifest): Padding | string {
  const all = Object.entries(padding)
  if (all.length === 0) return noPadding
  for (const [dim, { mask, values }] of all) {
    const having = inputs.filter(({ spec }) => spec.shape.slice(1).includes(dim)).map(({ spec }) => spec)
    if (inputs.some(({ spec }) => spec.shape[0] === dim)) return `padding.${dim}: it counts the rows`
    if (having.length === 0) return `padding.${dim}: no input has a dimension "${dim}" beside its rows`
    const text = having.find(({ datatype }) => datatype === 'BYTES')
    if (text) return `padding.${dim}: input "${text.name}" holds strings, which cannot be filled up`
    for (const name of [...Object.keys(values), ...(mask === undefined ? [] : [mask])]) {
      const spec = having.find((each) => each.name === name)
      if (!spec) return `padding.${dim}: no input "${name}" has that dimension`
      if (!holds(spec, values[name] ?? 0))
        return `padding.${dim}.values.${name}: ${spec.datatype} cannot hold ${values[name]}`
    }
  }
  return (
    conflictOf(inputs, padding) ??
    new Map(
      all.map(([dim, { buckets, mask, values }]) => {
        const filling = new Map(Object.entries(values))
        if (mask !== undefined) filling.set(mask, 0)
        return [dim, { buckets: buckets.toSorted((a, b) => a - b), values: filling }]
      }),
    )
  )
}

/** What lies behind the ends of two dimensions belongs to both, so they must fill it with the same. */
function conflictOf(inputs: readonly Port[], padding: Manifest['padding']): string | undefined {
  for (const { spec } of inputs) {
    const dims = spec.shape.slice(1).filter((dim) => typeof dim === 'string' && Object.hasOwn(padding, dim)) as string[]
    const [first, ...rest] = dims.map((dim) => ({ dim, value: padding[dim]!.values[spec.name] ?? 0 }))
    const other = rest.find(({ value }) => value !== first!.value)
    if (other) {
      const both = `${first!.value} along "${first!.dim}" and ${other.value} along "${other.dim}"`
      return `padding: input "${spec.name}" is filled up with ${both}: give it one value`
    }
  }
  return undefined
}

/** Why the manifest is wrong about it; undefined if it is right, or if no row could be made up that the model takes. */
export async function probePadding(program: Program, { padding }: Manifest, run: Run): Promise<string | undefined> {
  for (const [dim, { buckets }] of program.padding) {
    const bucket = buckets.find((size) => size > 1)
    if (bucket === undefined) continue
    const size = Math.ceil(bucket / 2)
    const { mask } = padding[dim]!
    for (const [seed, spread] of spreads.entries()) {
      const sizeOf = (name: string) => (name === dim ? size : evenSize(program, size)(name))
      const rows = sampleRows(program, 1, { sizeOf, spread, seed }).map((row) => withMask(row, mask))
      const alone = await run({ ...program, padding: noPadding }, rows)
      const filled = await run(program, rows)
      if (alone.kind !== 'done') continue
      if (filled.kind !== 'done') return `padding.${dim}: a row filled up from ${size} to ${bucket} cannot be run`
      if (!agree(alone.outputs[0]!, filled.outputs[0]!))
        return `padding.${dim}: a row filled up from ${size} to ${bucket} gets another answer than alone`
    }
  }
  return undefined
}

/** Everything in a row that is made up is there. */
function withMask(row: Work, mask: string | undefined): Work {
  return { ...row, inputs: row.inputs.map((tensor) => (tensor.name === mask ? ones(tensor) : tensor)) }
}

function holds({ datatype }: TensorSpec, value: number): boolean {
  const { array, float } = numerics[datatype as NumericDatatype]
  if (datatype === 'BOOL') return value === 0 || value === 1
  if (datatype === 'FP16') return Math.abs(value) <= 65_504
  if (float) return Number.isFinite(new array([value] as never)[0])
  const held = new array(1)
  if (!Number.isSafeInteger(value)) return false
  if (held instanceof BigInt64Array || held instanceof BigUint64Array) held[0] = BigInt(value)
  else held[0] = value
  return Number(held[0]) === value
}
