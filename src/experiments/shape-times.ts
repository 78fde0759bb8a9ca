import { SizeCurve, type SizePoint } from './size-curve.ts'

/** The last runs of a class of sizes by which it is judged, and how many make it known. */
const [remembered, enough] = [64, 16]
/** The last runs of any size that say how slow the machine is now: few, because it stalls for seconds. */
const recent = 16
/** Runs of all sizes: a class whose last sixteen are older is not known any more. */
const late = 2000
/** New runs of a class after which its median is taken again. */
const stale = 8

/** Sizes 1, 2, 3-4, 5-8, 9-16, ... up to 2^31. */
const classes = 32

export interface ExpectedRun {
  readonly ms: number
  /** Of runs that are compared with those of their own size; undefined if it is by the shape of the curve. */
  readonly stratum: string | undefined
}

/**
 * How long batches of one shape take, by their rows: how that grows with rows, times how slow the machine is now, times how far the
 * class of the size is off that curve. Medians, not means: a run that is preempted takes some milliseconds more whatever its
 * size, so means say how busy the machine is, and differently for small runs and large ones.
 */
export class ShapeTimes {
  readonly #strata: readonly string[]
  readonly #classes: (LateRuns | undefined)[] = []
  readonly #recent = new LateRuns(recent, 1)
  #runs = 0
  /** By warm-up, or else through the classes that are known. */
  #curve = new SizeCurve([])
  /** Of warm-up: the least time of each size. */
  readonly #seeds = new Map<number, number>()

  /** `name`: of the shape, for the strata. */
  constructor(name: string) {
    this.#strata = Array.from({ length: classes }, (_, of) => `${name}/${of}`)
  }

  /** A run of warm-up. Noise only ever adds, and there are three of a size: the quickest is nearest to what a size takes. */
  seed(rows: number, ms: number): void {
    const least = this.#seeds.get(rows)
    if (least === undefined && this.#seeds.size >= classes) return
    this.#seeds.set(rows, Math.min(least ?? Infinity, ms))
    this.#use(SizeCurve.smooth([...this.#seeds]))
  }

  learn(rows: number, ms: number): void {
    const of = classOf(rows)
    const runs = (this.#classes[of] ??= new LateRuns(remembered, stale))
    const ratio = ms / this.#curve.ms(rows)
    const slowness = this.#runs === 0 ? ratio : this.#recent.median()
    const at = ++this.#runs
    this.#recent.add({ rows, ms, slowness: 1, ratio, at })
    runs.add({ rows, ms, slowness, ratio: ratio / slowness, at })
    if (runs.count === enough && this.#seeds.size === 0) this.#fit()
  }

  expected(rows: number): ExpectedRun | undefined {
    if (this.#runs < enough) return undefined
    const curve = this.#curve
    const of = classOf(rows)
    const runs = this.#classes[of]
    const ms = curve.ms(rows) * this.#recent.median()
    // Without a curve a class is known at its own size only: a guess would favour an arm.
    if (runs?.isLate(this.#runs) && (!curve.isEmpty || runs.onlyRows === rows))
      return { ms: ms * runs.median(), stratum: this.#strata[of] }
    return curve.reaches(rows) ? { ms, stratum: undefined } : undefined
  }

  #fit(): void {
    const known = this.#classes.filter((runs): runs is LateRuns => runs !== undefined && runs.count >= enough)
    if (known.length > 1) this.#use(new SizeCurve(known.map((runs) => runs.point(this.#curve))))
  }

  /** How slow the machine was is in units of the curve. Without one before, it cannot be told from which sizes were run. */
  #use(curve: SizeCurve): void {
    const [old, before] = [this.#curve, this.#recent.median()]
    this.#curve = curve
    this.#recent.rescale(curve, (slowness) => slowness)
    const now = this.#recent.median()
    for (const runs of this.#classes)
      runs?.rescale(curve, (slowness) => (old.isEmpty ? now : (slowness * now) / before))
  }
}

interface LateRun {
  readonly rows: number
  readonly ms: number
  /** How many times as long as on the curve runs took then. */
  readonly slowness: number
  /** Of how many times as long as that it took. */
  readonly ratio: number
  /** Which run of all it was. */
  readonly at: number
}

/** The last runs of a class, or of all. */
class LateRuns {
  readonly #rows: Float64Array
  readonly #ms: Float64Array
  readonly #slowness: Float64Array
  readonly #ratios: Float64Array
  readonly #at: Float64Array
  readonly #sorted: Float64Array
  readonly #freshFor: number
  #next = 0
  count = 0
  #median = Number.NaN
  #sinceMedian = 0

  /** `freshFor`: new runs after which the median is taken again, once it is of all `most`. */
  constructor(most: number, freshFor: number) {
    const empty = () => new Float64Array(most)
    this.#rows = empty()
    this.#ms = empty()
    this.#slowness = empty()
    this.#ratios = empty()
    this.#at = empty()
    this.#sorted = empty()
    this.#freshFor = freshFor
  }

  add({ rows, ms, slowness, ratio, at }: LateRun): void {
    const [next, most] = [this.#next, this.#ms.length]
    this.#rows[next] = rows
    this.#ms[next] = ms
    this.#slowness[next] = slowness
    this.#ratios[next] = ratio
    this.#at[next] = at
    this.#next = next + 1 < most ? next + 1 : 0
    this.count = Math.min(most, this.count + 1)
    this.#sinceMedian++
  }

  isLate(runs: number): boolean {
    const most = this.#at.length
    return this.count >= enough && runs - this.#at[(this.#next + most - enough) % most]! < late
  }

  /** Undefined if there are several sizes. */
  get onlyRows(): number | undefined {
    const rows = this.#rows.subarray(0, this.count)
    return rows.every((each) => each === rows[0]) ? rows[0] : undefined
  }

  /** At the mean of the rows; where there is no curve yet by the median of milliseconds. */
  point(curve: SizeCurve): SizePoint {
    const rows = this.#rows.subarray(0, this.count).reduce((sum, each) => sum + each, 0) / this.count
    return [rows, curve.isEmpty ? this.#medianOf(this.#ms) : curve.ms(rows) * this.median()]
  }

  rescale(curve: SizeCurve, of: (slowness: number) => number): void {
    for (let i = 0; i < this.count; i++) {
      this.#slowness[i] = of(this.#slowness[i]!)
      this.#ratios[i] = this.#ms[i]! / (curve.ms(this.#rows[i]!) * this.#slowness[i]!)
    }
    this.#sinceMedian = Infinity
  }

  /** Of the ratios. NaN without runs. */
  median(): number {
    if (this.#sinceMedian < (this.count < this.#ms.length ? 1 : this.#freshFor)) return this.#median
    this.#sinceMedian = 0
    this.#median = this.#medianOf(this.#ratios)
    return this.#median
  }

  #medianOf(values: Float64Array): number {
    const [sorted, count] = [this.#sorted, this.count]
    if (count === 0) return Number.NaN
    sorted.set(values)
    sorted.fill(Infinity, count)
    sorted.sort()
    const half = count >> 1
    return count % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2
  }
}

function classOf(rows: number): number {
  return rows <= 1 ? 0 : Math.min(classes - 1, 32 - Math.clz32(Math.ceil(rows) - 1))
}
