/**
 * The generic cell rate algorithm (ITU-T I.371, as a virtual schedule): a token bucket whose whole state is one number, the
 * theoretical arrival time at which it will be full again. All times are milliseconds on one scale.
 */
export interface Bucket {
  /** Milliseconds in which one unit comes back. */
  readonly msPerUnit: number
  /** Most units at once. */
  readonly burst: number
}

/** When the bucket would be full again if `cost` units were taken at `now`. `fullAt` is what it was; 0 for a new one. */
export function fullAfter({ msPerUnit }: Bucket, fullAt: number, now: number, cost: number): number {
  return Math.max(fullAt, now) + cost * msPerUnit
}

/** Milliseconds until `cost` units can be taken; 0 if they can be now, Infinity if they never can. */
export function waitMs({ msPerUnit, burst }: Bucket, fullAt: number, now: number, cost: number): number {
  if (cost > burst) return Infinity
  // A part of a millionth keeps sums of fractions from refusing what is due exactly now.
  const wait = Math.max(fullAt, now) + (cost - burst) * msPerUnit - now
  return wait > 1e-6 * msPerUnit ? wait : 0
}

/** Units that can be taken at `now`; below 0 for a bucket in debt. */
export function unitsLeft({ msPerUnit, burst }: Bucket, fullAt: number, now: number): number {
  return burst - Math.max(0, fullAt - now) / msPerUnit
}
