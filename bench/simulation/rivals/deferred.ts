/**
 * Symphony (2023): a model's candidate is the longest batch of its oldest requests that ends before the first is due. It
 * is held back until it could not grow by one more in time (`frontrun`), and runs between then and the last moment that
 * it can start (`latest`). If no executor becomes idle until then, its head is dropped and the candidate built anew, and
 * so batches stay large in overload. A full batch is not held back. Across models: the one with the earliest `latest`.
 * Times are by the shipped fit; while that knows nothing, whatever is there runs at once.
 */
import { Curve } from '../../../src/batching/curve.ts'
import type { Contender, Facts, Machine, Request } from '../contender.ts'
import { Fifo, idleExecutor, serve } from './shared.ts'

export const deferred: Contender = {
  name: 'deferred (Symphony)',
  create(machine, facts) {
    const scheduler = new Deferred(machine, facts)
    return { arrive: (request) => scheduler.arrive(request) }
  },
}

const epsilonMs = 1e-6

class Model extends Fifo {
  readonly curve = new Curve()
  /** The candidate. */
  rows = 0
  frontrun = Infinity
  latest = Infinity

  /** Builds the candidate anew; a head that is lost even alone is dropped. */
  rebuild(machine: Machine, maxRows: number): void {
    const now = machine.now()
    const { curve } = this
    this.rows = 0
    this.frontrun = this.latest = Infinity
    while (this.head && this.rows === 0) {
      const most = Math.min(this.length, maxRows)
      // The same moment must not be too late because of the last digit.
      this.rows = curve.known ? curve.largest(this.head.deadline - now + epsilonMs, most) : most
      if (this.rows === 0) machine.refused(this.shift()!)
    }
    if (!this.head) return
    this.latest = this.head.deadline - curve.high(this.rows)
    const isFull = this.rows === maxRows || !curve.known
    this.frontrun = isFull ? now : this.head.deadline - curve.high(this.rows + 1)
  }
}

class Deferred {
  readonly #machine: Machine
  readonly #maxRows: number
  readonly #models: readonly Model[]
  #cancelTimer: (() => void) | undefined

  constructor(machine: Machine, { lanes, maxRows }: Facts) {
    this.#machine = machine
    this.#maxRows = maxRows
    this.#models = Array.from({ length: lanes }, () => new Model())
  }

  arrive(request: Request): void {
    const model = this.#models[request.lane]!
    model.push(request)
    model.rebuild(this.#machine, this.#maxRows)
    this.#run()
  }

  #run(): void {
    for (let executor = idleExecutor(this.#machine); executor; executor = idleExecutor(this.#machine)) {
      const model = this.#ready()
      if (!model) break
      const batch = model.take(model.rows)
      model.rebuild(this.#machine, this.#maxRows)
      serve(this.#machine, executor, batch, (ms) => {
        model.curve.learn(batch.length, ms)
        for (const each of this.#models) each.rebuild(this.#machine, this.#maxRows)
        this.#run()
      })
    }
    this.#setTimer()
  }

  #ready(): Model | undefined {
    const now = this.#machine.now()
    let first: Model | undefined
    for (const model of this.#models) {
      if (model.rows > 0 && model.frontrun <= now + epsilonMs && !(first && first.latest <= model.latest)) first = model
    }
    return first
  }

  #setTimer(): void {
    this.#cancelTimer?.()
    const isIdle = idleExecutor(this.#machine) !== undefined
    const at = Math.min(...this.#models.map(({ frontrun, latest }) => (isIdle ? frontrun : latest)))
    if (at === Infinity) return
    this.#cancelTimer = this.#machine.after(at - this.#machine.now(), () => this.#onTime())
  }

  /** With an idle executor, something may run; without, the heads that had to start now are lost. */
  #onTime(): void {
    const now = this.#machine.now()
    const isIdle = idleExecutor(this.#machine) !== undefined
    for (const model of this.#models) {
      if (isIdle || model.rows === 0 || model.latest > now + epsilonMs) continue
      this.#machine.refused(model.shift()!)
      model.rebuild(this.#machine, this.#maxRows)
    }
    this.#run()
  }
}
