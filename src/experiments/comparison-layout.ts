/** Which rows and elements of two outputs are looked at, and as which numbers. */
import type { NumericArray } from '../core/datatype.ts'
import { elementCount, type Tensor } from '../core/tensor.ts'
import type { Comparison } from './comparison-options.ts'
import { halfToNumber } from './half.ts'

/** Elements of an output that are looked at: of more, evenly spaced rows, and of long rows evenly spaced elements. */
export const mostElements = 262_144
/** Where elements count singly, so many rows are looked at in part before rows are left out. */
const leastRows = 64

export type Numbers = Exclude<NumericArray, BigUint64Array | BigInt64Array>

/** Two tensors of one datatype and shape. */
export interface Both {
  readonly primary: Tensor
  readonly shadow: Tensor
  readonly layout: Layout
}

/** What is looked at: `rows` of `allRows`, and in each every `stride`th element, `width` of `allWidth`. */
export interface Layout {
  readonly allRows: number
  readonly allWidth: number
  readonly rows: number
  readonly width: number
  readonly stride: number
}

export function layoutOf(kind: Comparison['kind'], shape: readonly number[]): Layout {
  const [allRows, allWidth] = rowsOf(kind, shape)
  const isByElement = kind === 'exact' || kind === 'numeric'
  const affordable = Math.max(Math.floor(mostElements / Math.max(1, allWidth)), isByElement ? leastRows : 1)
  const rows = Math.min(allRows, affordable)
  const least = Math.ceil((allWidth * rows) / mostElements)
  // Odd, so that it does not fall on the same columns again and again.
  const stride = least <= 1 ? 1 : least | 1
  return { allRows, allWidth, rows, width: Math.ceil(allWidth / stride), stride }
}

function rowsOf(kind: Comparison['kind'], shape: readonly number[]): [rows: number, width: number] {
  if (shape.length === 0) return [1, 1]
  const vectors: [number, number] = [elementCount(shape.slice(0, -1)), shape.at(-1)!]
  if (kind === 'ranking') {
    // One score for each row: the rows of the request are what is ranked.
    if (shape.length === 1 || shape.at(-1) === 1) return [1, elementCount(shape)]
    return vectors
  }
  if (kind === 'probabilities' && shape.length > 1) return vectors
  return [shape[0]!, elementCount(shape.slice(1))]
}

/** Which row of all is the `i`th that is looked at: the middle of its stretch. */
export function rowAt({ rows, allRows }: Layout, i: number): number {
  return rows === allRows ? i : Math.floor(((i + 0.5) * allRows) / rows)
}

/** What is looked at, without gaps: where it lies if that is all of it, and plain numbers. */
export function numbersOf(tensor: Tensor, layout: Layout): Numbers {
  const { rows, width, stride, allRows, allWidth } = layout
  const data = tensor.data as NumericArray
  const isHalf = tensor.datatype === 'FP16'
  const isPlain = !isHalf && !(data instanceof BigInt64Array) && !(data instanceof BigUint64Array)
  if (isPlain && rows === allRows && stride === 1) return data
  const numbers = new Float64Array(rows * width)
  let at = 0
  for (let row = 0; row < rows; row++) {
    const from = rowAt(layout, row) * allWidth
    for (let i = 0; i < width; i++) {
      const raw = Number(data[from + i * stride])
      numbers[at++] = isHalf ? halfToNumber(raw) : raw
    }
  }
  return numbers
}
