/**
 * Ratios of two things measured in turns, A B B A A B ...: a machine that gets slower for a while then slows both, and
 * whatever drifts steadily cancels out. What counts is the median of the ratios of neighbours, not that of the sums.
 */
export interface Slice {
  /** Whatever was done: requests, rows. */
  readonly work: number
  readonly cpuMs: number
  /** Requests that failed. A slice with any is void: what failed did not cost what it should have. */
  readonly bad: number
  /** Median latency, where there is one. */
  readonly p50Ms: number
}

export interface Pair {
  readonly a: Slice
  readonly b: Slice
}

export interface Pairs {
  readonly pairs: readonly Pair[]
  /** Pairs that were thrown away and measured again. */
  readonly voided: number
}

export interface Plan {
  readonly pairs: number
  readonly a: () => Promise<Slice>
  readonly b: () => Promise<Slice>
}

export async function interleave({ pairs: wanted, a, b }: Plan): Promise<Pairs> {
  const pairs: Pair[] = []
  let voided = 0
  while (pairs.length < wanted) {
    const aFirst = pairs.length % 2 === 0
    const first = await (aFirst ? a : b)()
    const second = await (aFirst ? b : a)()
    if (first.bad + second.bad === 0) pairs.push(aFirst ? { a: first, b: second } : { a: second, b: first })
    else if (++voided > wanted) throw new Error('more slices were void than not: requests fail, so there is no figure')
  }
  return { pairs, voided }
}

/** The middle, the quartiles and the ends of some figures. */
export interface Spread {
  readonly median: number
  readonly q1: number
  readonly q3: number
  readonly min: number
  readonly max: number
}

export function spreadOf(values: readonly number[]): Spread {
  const sorted = values.toSorted((x, y) => x - y)
  const at = (share: number) => {
    const place = share * (sorted.length - 1)
    const below = sorted[Math.floor(place)]!
    return below + (sorted[Math.ceil(place)]! - below) * (place % 1)
  }
  return { median: at(0.5), q1: at(0.25), q3: at(0.75), min: at(0), max: at(1) }
}

export function medianOf(values: readonly number[]): number {
  return spreadOf(values).median
}

export function cpuPerWork({ cpuMs, work }: Slice): number {
  return cpuMs / work
}

/** Rounded to what the measurement is good for, and so that JSON stays readable. */
export function round(value: number, digits = 3): number {
  return Number(value.toFixed(digits))
}

export function roundSpread(spread: Spread): Spread {
  const { median, q1, q3, min, max } = spread
  return { median: round(median), q1: round(q1), q3: round(q3), min: round(min), max: round(max) }
}

export function showSpread({ median, q1, q3, min, max }: Spread): string {
  return `${median.toFixed(2)} (quartiles ${q1.toFixed(2)}..${q3.toFixed(2)}, all ${min.toFixed(2)}..${max.toFixed(2)})`
}
