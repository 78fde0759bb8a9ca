/** The loops that compare two outputs of one shape and datatype, row by row. */
import { isStrings, type Strings, type Tensor } from '../core/tensor.ts'
import { numbersOf, rowAt, type Both, type Numbers } from './comparison-layout.ts'
import type { Comparison } from './comparison-options.ts'
import { halfToNumber, isFloat } from './half.ts'

/** One number for each row that was looked at. */
export interface Sides {
  readonly primary: Numbers
  readonly shadow: Numbers
}

export interface Tally {
  agreeing: number
  flips: number
  nans: number
  numbers: number
  sumError: number
  sumSquaredError: number
  maxError: number
  /** Among those that are looked at; -1 while all agree. */
  worstRow: number
  worstDistance: number
}

export function newTally(): Tally {
  const errors = { numbers: 0, sumError: 0, sumSquaredError: 0, maxError: 0 }
  return { ...errors, agreeing: 0, flips: 0, nans: 0, worstRow: -1, worstDistance: -1 }
}

function judge(tally: Tally, row: number, agrees: boolean, distance: number): void {
  if (agrees) tally.agreeing++
  else if (distance > tally.worstDistance) {
    tally.worstRow = row
    tally.worstDistance = distance
  }
}

interface PerRow {
  readonly labels?: Sides
  readonly scores?: Sides
}

type Rule<K extends Comparison['kind']> = Extract<Comparison, { kind: K }>

/** Fills the tally; returns what each row was taken for. */
export function compareRows(rule: Comparison, both: Both, tally: Tally): PerRow {
  if (rule.kind === 'exact') return compareExactly(both, tally)
  const { primary, shadow, layout } = both
  const pair = { a: numbersOf(primary, layout), b: numbersOf(shadow, layout), ...layout }
  const scores = layout.width === 1 ? { scores: { primary: pair.a, shadow: pair.b } } : {}
  if (rule.kind === 'numeric') {
    compareNumbers(rule, pair, tally)
    return scores
  }
  if (rule.kind === 'probabilities') return { ...scores, ...compareProbabilities(rule, pair, tally) }
  compareRankings(rule, pair, tally)
  return {}
}

/** What is looked at of both sides, without gaps. */
interface Pair {
  readonly a: Numbers
  readonly b: Numbers
  readonly rows: number
  readonly width: number
}

function compareExactly({ primary, shadow, layout }: Both, tally: Tally): PerRow {
  const { rows, width, stride, allWidth } = layout
  const isSame = samenessOf(primary, shadow, tally)
  const isFloats = isFloat(primary.datatype)
  for (let row = 0; row < rows; row++) {
    const from = rowAt(layout, row) * allWidth
    let others = 0
    for (let i = 0; i < width; i++) if (!isSame(from + i * stride)) others++
    judge(tally, row, others === 0, others / width)
  }
  if (allWidth !== 1 || isFloats) return {}
  tally.flips = rows - tally.agreeing
  if (primary.datatype === 'BYTES') return {}
  return { labels: { primary: numbersOf(primary, layout), shadow: numbersOf(shadow, layout) } }
}

type IsSame = (i: number) => boolean

function samenessOf({ data: a, datatype }: Tensor, { data: b }: Tensor, tally: Tally): IsSame {
  if (isStrings(a) || isStrings(b)) return samenessOfStrings(a as Strings, b as Strings)
  const isHalf = datatype === 'FP16'
  return (i) => {
    // Bits of halves that differ may still be the same number.
    const x = isHalf ? halfToNumber(a[i] as number) : a[i]!
    const y = isHalf ? halfToNumber(b[i] as number) : b[i]!
    if (x === y) return true
    if (!Number.isNaN(x) || !Number.isNaN(y)) return false
    tally.nans++
    return true
  }
}

function samenessOfStrings(a: Strings, b: Strings): IsSame {
  const one = Buffer.from(a.bytes.buffer, a.bytes.byteOffset, a.bytes.byteLength)
  const other = Buffer.from(b.bytes.buffer, b.bytes.byteOffset, b.bytes.byteLength)
  return (i) => {
    const from = a.offsets[i]!
    const to = a.offsets[i + 1]!
    const start = b.offsets[i]!
    const end = b.offsets[i + 1]!
    return to - from === end - start && one.compare(other, start, end, from, to) === 0
  }
}

function compareNumbers({ atol, rtol }: Rule<'numeric'>, pair: Pair, tally: Tally): void {
  const { a, b, rows, width } = pair
  for (let row = 0; row < rows; row++) {
    let distance = measure(pair, row, tally) ? 0 : Infinity
    for (let i = row * width; i < (row + 1) * width; i++) {
      const difference = Math.abs(b[i]! - a[i]!)
      const allowed = atol + rtol * Math.abs(a[i]!)
      if (difference > allowed) distance = Math.max(distance, difference / allowed)
    }
    judge(tally, row, distance === 0, distance)
  }
}

/** Takes in the errors of a row; false if a number has nothing on the other side that it can be compared with. */
function measure({ a, b, width }: Pair, row: number, tally: Tally): boolean {
  let isComparable = true
  for (let i = row * width; i < (row + 1) * width; i++) {
    const error = a[i] === b[i] ? 0 : b[i]! - a[i]!
    if (Number.isFinite(error)) {
      tally.numbers++
      tally.sumError += error
      tally.sumSquaredError += error * error
      if (Math.abs(error) > tally.maxError) tally.maxError = Math.abs(error)
    } else if (Number.isNaN(a[i]) && Number.isNaN(b[i])) tally.nans++
    else isComparable = false
  }
  return isComparable
}

function compareProbabilities({ threshold, maxDistance }: Rule<'probabilities'>, pair: Pair, tally: Tally): PerRow {
  const { a, b, rows, width } = pair
  const isDistribution = width > 1 && threshold === undefined
  const hasLabels = isDistribution || (width === 1 && threshold !== undefined)
  const [one, other] = [new Int32Array(hasLabels ? rows : 0), new Int32Array(hasLabels ? rows : 0)]
  for (let row = 0; row < rows; row++) {
    const from = row * width
    const isComparable = measure(pair, row, tally)
    const distance = isDistribution ? totalVariation(pair, from) : largestDifference(pair, from)
    if (hasLabels) {
      one[row] = labelIn(a, from, width, threshold)
      other[row] = labelIn(b, from, width, threshold)
    }
    const isFlip = one[row] !== other[row] || decidesOtherwise(pair, from, threshold)
    if (isFlip) tally.flips++
    judge(tally, row, isComparable && !isFlip && distance <= maxDistance, isComparable ? distance : Infinity)
  }
  return hasLabels ? { labels: { primary: one, shadow: other } } : {}
}

/** The decision on the first number if there is a threshold, else which number is the largest. */
function labelIn(numbers: Numbers, from: number, width: number, threshold: number | undefined): number {
  return threshold === undefined ? largestIn(numbers, from, width) : Number(numbers[from]! >= threshold)
}

/** Which of `width` numbers is the largest, the first if there are several; -1 if all are NaN. */
function largestIn(numbers: Numbers, from: number, width: number): number {
  let largest = -1
  for (let i = 0; i < width; i++)
    if (!Number.isNaN(numbers[from + i]) && (largest < 0 || numbers[from + i]! > numbers[from + largest]!)) largest = i
  return largest
}

function totalVariation({ a, b, width }: Pair, from: number): number {
  let sum = 0
  for (let i = from; i < from + width; i++) {
    const difference = Math.abs(b[i]! - a[i]!)
    if (difference > 0) sum += difference
  }
  return sum / 2
}

function largestDifference({ a, b, width }: Pair, from: number): number {
  let largest = 0
  for (let i = from; i < from + width; i++) {
    const difference = Math.abs(b[i]! - a[i]!)
    if (difference > largest) largest = difference
  }
  return largest
}

function decidesOtherwise({ a, b, width }: Pair, from: number, threshold: number | undefined): boolean {
  if (threshold === undefined) return false
  for (let i = from; i < from + width; i++) if (a[i]! >= threshold !== b[i]! >= threshold) return true
  return false
}

function compareRankings({ k, atLeast }: Rule<'ranking'>, pair: Pair, tally: Tally): void {
  const { a, b, rows, width } = pair
  // Of everything there is, both have the same.
  const most = Math.min(k, Math.max(1, Math.floor(width / 2)), width)
  const [one, other] = [new Int32Array(most), new Int32Array(most)]
  for (let row = 0; row < rows; row++) {
    const from = row * width
    const isComparable = measure(pair, row, tally)
    best(a.subarray(from, from + width), one)
    best(b.subarray(from, from + width), other)
    const common = inCommon(one, other)
    const similarity = most === 0 ? 1 : common / (2 * most - common)
    if (largestIn(a, from, width) !== largestIn(b, from, width)) tally.flips++
    judge(tally, row, isComparable && similarity >= atLeast, isComparable ? 1 - similarity : Infinity)
  }
}

/** Fills `heap` with the places of the largest scores, in ascending order; among equals the first are the better. */
function best(scores: Numbers, heap: Int32Array): void {
  for (let i = 0; i < heap.length; i++) heap[i] = i
  // The worst that is kept lies on top.
  for (let i = (heap.length >> 1) - 1; i >= 0; i--) sift(scores, heap, i)
  for (let i = heap.length; i < scores.length; i++) {
    if (isWorse(scores, i, heap[0]!)) continue
    heap[0] = i
    sift(scores, heap, 0)
  }
  heap.sort()
}

function sift(scores: Numbers, heap: Int32Array, top: number): void {
  let at = top
  for (;;) {
    let worst = at
    for (let child = 2 * at + 1; child <= 2 * at + 2 && child < heap.length; child++)
      if (isWorse(scores, heap[child]!, heap[worst]!)) worst = child
    if (worst === at) return
    const moved = heap[at]!
    heap[at] = heap[worst]!
    heap[worst] = moved
    at = worst
  }
}

/** NaN is worse than everything. */
function isWorse(scores: Numbers, i: number, j: number): boolean {
  const x = scores[i]!
  const y = scores[j]!
  if (x === y || (Number.isNaN(x) && Number.isNaN(y))) return i > j
  return Number.isNaN(x) || x < y
}

/** How many numbers two ascending lists share. */
function inCommon(one: Int32Array, other: Int32Array): number {
  let common = 0
  for (let i = 0, j = 0; i < one.length && j < other.length;) {
    const difference = one[i]! - other[j]!
    if (difference === 0) common++
    if (difference <= 0) i++
    if (difference >= 0) j++
  }
  return common
}
