/**
 * Clockwork (OSDI 2020): a queue for every batch size, each request in all of them. A queue gives up a request as soon as
 * a batch of its size would end too late for it; the largest size whose queue can fill it runs, and whatever is older
 * than the batch is dropped. A size is expected to take as long as the slowest of its last ten runs.
 *
 * Sizes are the powers of two; those that have not run yet are estimated by the shipped fit instead of a profile made
 * beforehand. Its buffer of 5 ms and its schedule 10 ms ahead are left out: they are there for a network, and would cost
 * it everything where the deadline is 10 ms. Across models: the least `deadline of the head - estimate` first.
 */
import { Curve } from '../../../src/batching/curve.ts'
import type { Contender, Machine, Request } from '../contender.ts'
import { eager } from './shared.ts'

const measurements = 10

export const sizeQueues: Contender = {
  name: 'queues by size (Clockwork)',
  create(machine, { lanes, maxRows }) {
    const models = Array.from({ length: lanes }, () => new Model(machine, maxRows))
    const run = eager(machine, {
      next() {
        let first: Strategy | undefined
        for (const model of models) {
          const strategy = model.strategy()
          if (strategy && !(first && first.startBy <= strategy.startBy)) first = strategy
        }
        return first?.model.take(first.size)
      },
      learn: (lane, rows, ms) => models[lane]!.learn(rows, ms),
    })
    return {
      arrive(request) {
        models[request.lane]!.requests.push(request)
        run()
      },
    }
  },
}

interface Strategy {
  readonly model: Model
  readonly size: Size
  readonly startBy: number
}

interface Size {
  readonly rows: number
  readonly lastMs: number[]
  /** Where its queue starts: all queues are of the same requests, up to the newest. */
  start: number
}

class Model {
  readonly requests: Request[] = []
  readonly #machine: Machine
  readonly #curve = new Curve()
  readonly #sizes: readonly Size[]
  /** The first request that some queue still holds. */
  #kept = 0

  constructor(machine: Machine, maxRows: number) {
    this.#machine = machine
    const sizes: Size[] = []
    for (let rows = 1; rows <= maxRows; rows *= 2) sizes.push({ rows, lastMs: [], start: 0 })
    this.#sizes = sizes
  }

  strategy(): Strategy | undefined {
    const now = this.#machine.now()
    let best: Strategy | undefined
    for (const size of this.#sizes) {
      const ms = this.#estimate(size)
      while (this.requests[size.start] && this.requests[size.start]!.deadline < now + ms) size.start++
      if (this.requests.length - size.start < size.rows) continue
      best = { model: this, size, startBy: this.requests[size.start]!.deadline - ms }
    }
    this.#drop(Math.min(...this.#sizes.map(({ start }) => start)))
    return best
  }

  take({ rows, start }: Size): readonly Request[] {
    this.#drop(start)
    this.#kept = start + rows
    for (const size of this.#sizes) size.start = Math.max(size.start, this.#kept)
    return this.requests.slice(start, this.#kept)
  }

  learn(rows: number, ms: number): void {
    this.#curve.learn(rows, ms)
    const { lastMs } = this.#sizes.find((size) => size.rows === rows)!
    lastMs.push(ms)
    if (lastMs.length > measurements) lastMs.shift()
  }

  #estimate({ rows, lastMs }: Size): number {
    if (lastMs.length > 0) return Math.max(...lastMs)
    return this.#curve.known ? this.#curve.high(rows) : 0
  }

  #drop(before: number): void {
    for (; this.#kept < before; this.#kept++) this.#machine.refused(this.requests[this.#kept]!)
  }
}
