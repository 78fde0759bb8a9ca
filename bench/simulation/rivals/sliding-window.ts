/**
 * Nexus (SOSP 2019) with its sliding window: a model has a planned batch; its head is dropped whenever a batch of that
 * size, or of all there is, would end after the head is due, and so batches stay large in overload.
 *
 * The plan is the largest batch that fits into the deadline beside a whole duty cycle, `l(b) * (1 + M/N)`: with one
 * executor and one model the paper's `2 * l(b)`. With several executors this is larger than what the paper plans and
 * suits it better, as does the queue that they share here. Models take turns. Times are by the shipped fit.
 */
import { Curve } from '../../../src/batching/curve.ts'
import type { Contender, Machine, Request } from '../contender.ts'
import { eager, Fifo } from './shared.ts'

class Model extends Fifo {
  readonly curve = new Curve()

  /** By expected times, as in the paper: with a margin it would plan for less than it can do. */
  plan(ms: number, most: number): number {
    let rows = most
    while (rows > 1 && this.curve.mean(rows) > ms) rows--
    return rows
  }
}

export const slidingWindow: Contender = {
  name: 'sliding window (Nexus)',
  create(machine, { lanes, maxRows, deadlineMs, executors }) {
    const models = Array.from({ length: lanes }, () => new Model())
    const turnMs = deadlineMs / (1 + lanes / executors)
    let turn = 0
    const run = eager(machine, {
      next() {
        for (let tries = 0; tries < lanes; tries++) {
          const model = models[turn]!
          turn = (turn + 1) % lanes
          const batch = windowOf(machine, model, model.plan(turnMs, maxRows))
          if (batch.length > 0) return batch
        }
      },
      learn: (lane, rows, ms) => models[lane]!.curve.learn(rows, ms),
    })
    return {
      arrive(request) {
        models[request.lane]!.push(request)
        run()
      },
    }
  },
}

function windowOf(machine: Machine, model: Model, plan: number): readonly Request[] {
  const { curve } = model
  const batch: Request[] = []
  let size = Math.min(plan, model.length)
  let finishAt = machine.now() + curve.high(size)
  while (batch.length < size) {
    const request = model.shift()!
    if (curve.known && request.deadline < finishAt) machine.refused(request)
    else batch.push(request)
    const reachable = batch.length + model.length
    if (reachable >= size) continue
    size = reachable
    finishAt = machine.now() + curve.high(size)
  }
  return batch
}
