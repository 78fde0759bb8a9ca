/** What most of the schedulers have in common. */
import type { Machine, Request, SimulatedExecutor } from '../contender.ts'

/** Requests in the order of their arrival, which is that of their deadlines: everybody is given the same time. */
export class Fifo {
  readonly #items: Request[] = []
  #start = 0

  get length(): number {
    return this.#items.length - this.#start
  }

  get head(): Request | undefined {
    return this.#items[this.#start]
  }

  get tail(): Request | undefined {
    return this.length > 0 ? this.#items.at(-1) : undefined
  }

  at(place: number): Request | undefined {
    return this.#items[this.#start + place]
  }

  push(request: Request): void {
    this.#items.push(request)
  }

  shift(): Request | undefined {
    return this.length > 0 ? this.#items[this.#start++] : undefined
  }

  /** The first `most`, or all there are. */
  take(most: number): Request[] {
    const taken = this.#items.slice(this.#start, this.#start + most)
    this.#start += taken.length
    return taken
  }
}

export function fifos(count: number): Fifo[] {
  return Array.from({ length: count }, () => new Fifo())
}

/** The queue whose head has waited longest. */
export function oldest<Queue extends Fifo>(queues: readonly Queue[]): Queue | undefined {
  let first: Queue | undefined
  for (const queue of queues) {
    if (queue.head && !(first?.head && first.head.arrivedAt <= queue.head.arrivedAt)) first = queue
  }
  return first
}

export function idleExecutor({ executors }: Machine): SimulatedExecutor | undefined {
  return executors.find(({ busy }) => !busy)
}

/** Refuses the heads that are late already. */
export function expire(machine: Machine, queue: Fifo): void {
  while (queue.head && queue.head.deadline <= machine.now()) machine.refused(queue.shift()!)
}

/** Runs a batch and answers its requests. */
export function serve(
  machine: Machine,
  executor: SimulatedExecutor,
  batch: readonly Request[],
  after: (ms: number) => void,
): void {
  executor.run(batch[0]!.lane, batch.length, (ms) => {
    for (const request of batch) machine.answered(request)
    after(ms)
  })
}

export interface Chooser {
  /** The next batch, of one lane; undefined to leave the executor idle until something changes. */
  readonly next: () => readonly Request[] | undefined
  readonly learn?: (lane: number, rows: number, ms: number) => void
}

/** Runs what `next` gives for as long as an executor is idle. To be called whenever something arrives. */
export function eager(machine: Machine, { next, learn }: Chooser): () => void {
  return function run() {
    for (let executor = idleExecutor(machine); executor; executor = idleExecutor(machine)) {
      const batch = next()
      if (!batch) return
      serve(machine, executor, batch, (ms) => {
        learn?.(batch[0]!.lane, batch.length, ms)
        run()
      })
    }
  }
}
