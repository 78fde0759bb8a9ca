/**
 * What a batch takes, learnt from the control's runs: the measure for the treatment's, which has batches of other sizes. Old runs
 * are forgotten, because the machine is not the same all day.
 */
import { ShapeTimes, type ExpectedRun } from './shape-times.ts'

const mostKeys = 16

export interface TimedRun {
  readonly key: string
  readonly rows: number
  readonly ms: number
}

export class RunTimes {
  /** Least recently used first. */
  readonly #shapes = new Map<string, ShapeTimes>()
  #lastKey: string | undefined
  /** Shapes that there were: each has a name of its own. */
  #shapesMade = 0

  /** A run of the control. `key`: of the shape of a row; `rows`: in the batch; `ms`: of computing. */
  learn(key: string, rows: number, ms: number): void {
    if (!isBatch(rows) || !(ms > 0 && ms < Infinity)) return
    const shape = this.#use(key) ?? this.#add(key)
    shape.learn(rows, ms)
  }

  /** Runs of warm-up: of every size, so they tell the shape of the curve, but nobody else was running: not its scale. */
  seed(runs: readonly TimedRun[]): void {
    for (const { key, rows, ms } of runs) {
      if (!isBatch(rows) || !(ms > 0 && ms < Infinity)) continue
      const shape = this.#use(key) ?? this.#add(key)
      shape.seed(rows, ms)
    }
  }

  /** Undefined where too little is known to say. */
  expected(key: string, rows: number): ExpectedRun | undefined {
    return isBatch(rows) ? this.#use(key)?.expected(rows) : undefined
  }

  #use(key: string): ShapeTimes | undefined {
    const shape = this.#shapes.get(key)
    if (!shape || key === this.#lastKey) return shape
    this.#shapes.delete(key)
    this.#shapes.set(key, shape)
    this.#lastKey = key
    return shape
  }

  #add(key: string): ShapeTimes {
    if (this.#shapes.size >= mostKeys) this.#shapes.delete(this.#shapes.keys().next().value!)
    const shape = new ShapeTimes(`${this.#shapesMade++}`)
    this.#shapes.set(key, shape)
    this.#lastKey = key
    return shape
  }
}

function isBatch(rows: number): boolean {
  return rows >= 1 && rows <= 2 ** 31
}
