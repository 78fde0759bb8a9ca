/**
 * BentoML's dispatcher (called CORK): a loop in ticks of 1 ms that weighs waiting against running.
 *
 * - Times are a least-squares line through the last 50 batches, the first of which are for training, of 1, 2 and 3 rows.
 *   It is refreshed at most every 5 s, which has to do with what that costs; traces here may be shorter, so it is given a
 *   refresh after every batch.
 * - The head is cancelled when the whole queue as one batch would end too late for it.
 * - It waits while `queued * (age of the newest + a tick + time of a row)` is below 95 % of what batches use to wait.
 *
 * The original has one batch in flight and one model. Here one loop looks after all models, the oldest head first, with
 * as many batches in flight as there are executors.
 */
import type { Contender, Facts, Machine, Request } from '../contender.ts'
import { Fifo, idleExecutor, serve } from './shared.ts'
import { Line } from './line.ts'

const tickMs = 1
const waitDecay = 0.95
/** Rows and how often, in the order of training; the first two batches are not even measured. */
const training = [...Array.from({ length: 9 }, () => 1), 2, 3]

export const regression: Contender = {
  name: 'regression (BentoML)',
  create(machine, facts) {
    const dispatcher = new Dispatcher(machine, facts)
    return { arrive: (request) => dispatcher.arrive(request) }
  },
}

class Model extends Fifo {
  readonly line: Line
  /** Batches sent so far. */
  sent = 0

  constructor(deadlineMs: number) {
    super()
    this.line = new Line(deadlineMs)
  }

  /** How many rows this batch is for training; 0 afterwards. */
  get trainingRows(): number {
    return training[this.sent] ?? 0
  }
}

class Dispatcher {
  readonly #machine: Machine
  readonly #facts: Facts
  readonly #models: readonly Model[]
  #isAwake = false

  constructor(machine: Machine, facts: Facts) {
    this.#machine = machine
    this.#facts = facts
    this.#models = Array.from({ length: facts.lanes }, () => new Model(facts.deadlineMs))
  }

  /** Wakes the loop if it waits for a first request; otherwise the next tick is soon enough. */
  arrive(request: Request): void {
    this.#models[request.lane]!.push(request)
    if (!this.#isAwake) this.#tick()
  }

  #tick(): void {
    const waiting = this.#models.filter((model) => model.length > 0)
    waiting.sort((a, b) => a.head!.arrivedAt - b.head!.arrivedAt)
    // With one model, and an executor left, the loop goes on at once after a batch.
    for (const model of waiting) while (this.#turn(model));
    this.#isAwake = this.#models.some((model) => model.length > 0)
    if (this.#isAwake) this.#machine.after(tickMs, () => this.#tick())
  }

  /** One round of the loop; false if it sleeps then. */
  #turn(model: Model): boolean {
    this.#cancel(model)
    const executor = idleExecutor(this.#machine)
    if (!model.head || !executor || this.#waits(model)) return false
    const now = this.#machine.now()
    const waitedMs = now - model.head.arrivedAt
    const batch = model.take(model.trainingRows || this.#facts.maxRows)
    model.sent++
    serve(this.#machine, executor, batch, (ms) => model.line.learn({ rows: batch.length, ms, waitedMs }))
    return true
  }

  #cancel(model: Model): void {
    const { deadlineMs } = this.#facts
    const { rowMs, baseMs } = model.line
    const isTraining = model.trainingRows > 0
    for (; model.head; this.#machine.refused(model.shift()!)) {
      const ageMs = this.#machine.now() - model.head.arrivedAt
      // In training, and of a single request, only what is late already.
      const lastsMs = isTraining || model.length === 1 ? 0 : rowMs * model.length + baseMs
      if (ageMs + lastsMs < deadlineMs) return
    }
  }

  #waits(model: Model): boolean {
    const { rowMs, baseMs, waitMs } = model.line
    const { trainingRows, length } = model
    const now = this.#machine.now()
    if (trainingRows > 0) {
      const longest = Math.min(0.95 * this.#facts.deadlineMs, (1 + 2 * trainingRows) * (rowMs + baseMs))
      return length < trainingRows && now - model.head!.arrivedAt + trainingRows * rowMs + baseMs <= longest
    }
    const newestMs = now - model.tail!.arrivedAt
    return length < this.#facts.maxRows && length * (newestMs + tickMs + rowMs) <= waitDecay * waitMs
  }
}
