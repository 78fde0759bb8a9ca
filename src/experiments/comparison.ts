/**
 * Two answers to one request, the primary's and a shadow's, set side by side. Numbers are read where they lie; only what
 * JavaScript has no plain number for, or what is looked at in part, is copied together first, as a whole.
 */
import { elementCount, isStrings, stringCount, type Tensor } from '../core/tensor.ts'
import { compareRows, newTally, type Sides, type Tally } from './comparers.ts'
import { layoutOf } from './comparison-layout.ts'
import type { Comparison, ComparisonOptions } from './comparison-options.ts'
import { isFloat } from './half.ts'
import { worstRow, type WorstRow } from './worst-row.ts'

export interface OutputVerdict {
  readonly name: string
  readonly kind: Comparison['kind']
  /** Why nothing could be compared, so that all rows disagree. */
  readonly problem: string | undefined
  /** That were looked at. A row is an element of the first axis; for probabilities and rankings, a vector on the last. */
  readonly rows: number
  readonly agreeing: number
  /** Undefined if all rows agree. */
  readonly worst: WorstRow | undefined
  /** Pairs of numbers behind the errors, which are the shadow's number less the primary's. */
  readonly numbers: number
  readonly sumError: number
  readonly sumSquaredError: number
  readonly maxError: number
  /** Rows with another label, decision or best. */
  readonly flips: number
  /** Elements that are NaN on both sides; they agree. */
  readonly nans: number
  /** More than was looked at, if the output is large. */
  readonly allRows: number
  readonly elements: number
  readonly allElements: number
  readonly labels: Sides | undefined
  /** If a row is one number that is no label. */
  readonly scores: Sides | undefined
}

export interface PairVerdict {
  readonly outputs: readonly OutputVerdict[]
  /** Of the rows of the output that agrees least, the share that agree; 1 for answers without rows. */
  readonly share: number
}

/** Never throws. Outputs are matched by name; what only one side has is a disagreement too. */
export function comparePair(
  options: Pick<ComparisonOptions, 'outputs'>,
  primary: readonly Tensor[],
  shadow: readonly Tensor[],
): PairVerdict {
  const outputs = primary.map((tensor) => {
    const other = shadow.find(({ name }) => name === tensor.name)
    const rule = ruleFor(options, tensor)
    if (!other) return incomparable(rule, 'the shadow does not have it', tensor)
    const problem = misfit(tensor, other)
    return problem ? incomparable(rule, problem, tensor, other) : compareOutput(rule, tensor, other)
  })
  const added = shadow.filter(({ name }) => !primary.some((tensor) => tensor.name === name))
  for (const tensor of added) outputs.push(incomparable(ruleFor(options, tensor), 'only the shadow has it', tensor))
  return { outputs, share: outputs.reduce((least, each) => Math.min(least, shareOf(each)), 1) }
}

/** Share of an output's rows that agree; 1 if it has none. */
export function shareOf({ rows, agreeing }: Pick<OutputVerdict, 'rows' | 'agreeing'>): number {
  return rows === 0 ? 1 : agreeing / rows
}

function ruleFor({ outputs }: Pick<ComparisonOptions, 'outputs'>, { name, datatype }: Tensor): Comparison {
  if (datatype === 'BYTES') return { kind: 'exact' }
  // A model may call its output `constructor`.
  if (Object.hasOwn(outputs, name)) return outputs[name]!
  if (datatype === 'FP16') return { kind: 'numeric', atol: 1e-6, rtol: 1e-2 }
  return isFloat(datatype) ? { kind: 'numeric', atol: 1e-6, rtol: 1e-3 } : { kind: 'exact' }
}

function misfit(a: Tensor, b: Tensor): string | undefined {
  if (a.datatype !== b.datatype) return `the datatypes are ${a.datatype} and ${b.datatype}`
  if (a.shape.length !== b.shape.length || a.shape.some((dim, axis) => dim !== b.shape[axis]))
    return `the shapes are [${a.shape.join(', ')}] and [${b.shape.join(', ')}]`
  return isWhole(a) && isWhole(b) ? undefined : 'the elements do not fill the shape'
}

function isWhole({ datatype, shape, data }: Tensor): boolean {
  const count = elementCount(shape)
  if (!isStrings(data)) return datatype !== 'BYTES' && data.length === count
  return datatype === 'BYTES' && stringCount(data) === count && data.offsets[count]! <= data.bytes.length
}

/** All rows disagree. */
function incomparable({ kind }: Comparison, problem: string, ...tensors: readonly Tensor[]): OutputVerdict {
  // What has no rows is a disagreement all the same.
  const rows = Math.max(1, ...tensors.map(({ shape }) => shape[0] ?? 1))
  const worst = { row: 0, distance: Infinity, from: 0, primary: [], shadow: [] }
  const counts = { rows, allRows: rows, elements: 0, allElements: elementCount(tensors[0]!.shape) }
  return { ...verdictOf(newTally()), ...counts, name: tensors[0]!.name, kind, problem, worst }
}

function verdictOf({ worstRow: _row, worstDistance: _distance, ...sums }: Tally) {
  return { ...sums, problem: undefined, labels: undefined, scores: undefined }
}

function compareOutput(rule: Comparison, primary: Tensor, shadow: Tensor): OutputVerdict {
  const layout = layoutOf(rule.kind, primary.shape)
  const both = { primary, shadow, layout }
  const tally = newTally()
  const perRow = compareRows(rule, both, tally)
  const { rows, width, allRows } = layout
  return {
    ...verdictOf(tally),
    name: primary.name,
    kind: rule.kind,
    rows,
    allRows,
    elements: rows * width,
    allElements: elementCount(primary.shape),
    worst: tally.worstRow < 0 ? undefined : worstRow(both, tally.worstRow, tally.worstDistance),
    ...perRow,
  }
}
