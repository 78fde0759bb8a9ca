/** What is kept of the row in which two outputs differ most. */
import { isStrings, stringAt, type Tensor } from '../core/tensor.ts'
import { rowAt, type Both } from './comparison-layout.ts'
import { halfToNumber } from './half.ts'

const mostShown = 16
const mostShownBytes = 64

/** A number, or as text what JSON has none for: NaN, infinities, whole numbers of 64 bits, strings. */
export type Shown = number | string

export interface WorstRow {
  /** Among all rows of the output, from 0. */
  readonly row: number
  /**
   * By the kind of comparison: exact, the share of elements that differ; numeric, the largest difference in multiples of
   * what is allowed; probabilities, the total variation (or largest difference); ranking, 1 - Jaccard. Infinity where
   * there is nothing to compare.
   */
  readonly distance: number
  /** At most 16 elements of each, from `from` on within the row, around the one that differs most. */
  readonly from: number
  readonly primary: readonly Shown[]
  readonly shadow: readonly Shown[]
}

/** `row` is among those that were looked at. */
export function worstRow({ primary, shadow, layout }: Both, row: number, distance: number): WorstRow {
  const { allWidth } = layout
  const at = rowAt(layout, row)
  const start = at * allWidth
  const middle = mostDifferent({ primary, shadow, layout }, start)
  const from = Math.max(0, Math.min(middle - mostShown / 2, allWidth - mostShown))
  const show = (tensor: Tensor) =>
    Array.from({ length: Math.min(mostShown, allWidth) }, (_, i) => shownAt(tensor, start + from + i))
  return { row: at, distance, from, primary: show(primary), shadow: show(shadow) }
}

/** Of the elements that are looked at in the row that starts at `start`. */
function mostDifferent({ primary, shadow, layout }: Both, start: number): number {
  let most = 0
  let largest = 0
  for (let i = 0; i < layout.allWidth; i += layout.stride) {
    const difference = differenceAt(primary, shadow, start + i)
    if (difference <= largest) continue
    most = i
    largest = difference
  }
  return most
}

function differenceAt(primary: Tensor, shadow: Tensor, i: number): number {
  if (isStrings(primary.data) || isStrings(shadow.data)) return Number(shownAt(primary, i) !== shownAt(shadow, i))
  const [x, y] = [numberAt(primary, i), numberAt(shadow, i)]
  if (x === y || (Number.isNaN(x) && Number.isNaN(y))) return 0
  const difference = Math.abs(x - y)
  return Number.isNaN(difference) ? Infinity : difference
}

function numberAt({ data, datatype }: Tensor, i: number): number {
  if (isStrings(data)) return Number.NaN
  return datatype === 'FP16' ? halfToNumber(Number(data[i])) : Number(data[i])
}

function shownAt(tensor: Tensor, i: number): Shown {
  const { data } = tensor
  if (isStrings(data)) return Buffer.from(stringAt(data, i).subarray(0, mostShownBytes)).toString()
  if (typeof data[i] === 'bigint') return String(data[i])
  const number = numberAt(tensor, i)
  return Number.isFinite(number) ? number : String(number)
}
