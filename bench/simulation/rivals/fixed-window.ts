/**
 * A window of fixed length, from when a worker picks up the first request: LitServe, MLServer, TorchServe, Ray Serve. The
 * window is a fifth of the deadline, and requests that have expired at pick-up are dropped, as some of them do.
 *
 * Every model has as many workers as there are executors. A worker that has closed its batch waits for an executor, and
 * picks up the next request when its batch has run; across models the oldest head runs first. While one worker collects
 * the others of its model do not compete with it, which is kinder than what some of the servers do.
 */
import type { Contender, Facts, Machine, Request } from '../contender.ts'
import { expire, Fifo, idleExecutor, serve } from './shared.ts'

export const fixedWindow: Contender = {
  name: 'fixed window (LitServe, MLServer, TorchServe, Ray)',
  create(machine, facts) {
    const server = new Server(machine, facts)
    return { arrive: (request) => server.arrive(request) }
  },
}

class Model extends Fifo {
  idleWorkers: number
  collecting: Request[] | undefined
  cancelTimer: (() => void) | undefined

  constructor(workers: number) {
    super()
    this.idleWorkers = workers
  }
}

class Server {
  readonly #machine: Machine
  readonly #maxRows: number
  readonly #windowMs: number
  readonly #models: readonly Model[]
  /** Batches that wait for an executor. */
  readonly #closed = new Set<readonly Request[]>()

  constructor(machine: Machine, { lanes, maxRows, deadlineMs, executors }: Facts) {
    this.#machine = machine
    this.#maxRows = maxRows
    this.#windowMs = deadlineMs / 5
    this.#models = Array.from({ length: lanes }, () => new Model(executors))
  }

  arrive(request: Request): void {
    const model = this.#models[request.lane]!
    model.push(request)
    this.#collect(model)
  }

  #collect(model: Model): void {
    for (;;) {
      if (!model.collecting) expire(this.#machine, model)
      if (model.length === 0) return
      if (!model.collecting && !this.#pickUp(model)) return
      model.collecting!.push(...model.take(this.#maxRows - model.collecting!.length))
      if (model.collecting!.length === this.#maxRows) this.#close(model)
    }
  }

  #pickUp(model: Model): boolean {
    if (model.idleWorkers === 0) return false
    model.idleWorkers--
    model.collecting = []
    model.cancelTimer = this.#machine.after(this.#windowMs, () => {
      this.#close(model)
      this.#collect(model)
    })
    return true
  }

  #close(model: Model): void {
    model.cancelTimer?.()
    this.#closed.add(model.collecting!)
    model.collecting = undefined
    this.#run()
  }

  #run(): void {
    for (let executor = idleExecutor(this.#machine); executor; executor = idleExecutor(this.#machine)) {
      const batch = this.#oldestBatch()
      if (!batch) return
      this.#closed.delete(batch)
      serve(this.#machine, executor, batch, () => {
        const model = this.#models[batch[0]!.lane]!
        model.idleWorkers++
        this.#run()
        this.#collect(model)
      })
    }
  }

  #oldestBatch(): readonly Request[] | undefined {
    let first: readonly Request[] | undefined
    for (const batch of this.#closed) if (!first || batch[0]!.arrivedAt < first[0]!.arrivedAt) first = batch
    return first
  }
}
