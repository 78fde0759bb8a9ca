/** A mean over seeds, and how far the true one may be from it. */
export interface Mean {
  readonly mean: number
  /** Half the 95 % confidence interval. */
  readonly margin: number
}

/** Student's t for 95 %, both sides, by degrees of freedom from 1. */
const studentT = [
  12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131, 2.12, 2.11,
  2.101, 2.093, 2.086, 2.08, 2.074, 2.069, 2.064, 2.06, 2.056, 2.052, 2.048, 2.045, 2.042,
]

export function meanOf(values: readonly number[]): Mean {
  const count = values.length
  const mean = values.reduce((sum, value) => sum + value, 0) / count
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (count - 1)
  // Beyond the table the next smaller entry errs on the safe side.
  const t = studentT[Math.min(count - 2, studentT.length - 1)] ?? Infinity
  return { mean, margin: count > 1 ? t * Math.sqrt(variance / count) : Infinity }
}

/** Of what was measured on the same traces: the noise they share cancels out. */
export function meanDifference(a: readonly number[], b: readonly number[]): Mean {
  return meanOf(a.map((value, place) => value - b[place]!))
}
