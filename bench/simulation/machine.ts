/** A discrete-event simulation: virtual time jumps from event to event, so a minute of traffic takes some milliseconds. */
import type { Contender, Machine, Request, Scheduler, SimulatedExecutor } from './contender.ts'
import { lognormal, type Draw } from './draws.ts'
import { EventQueue } from './event-queue.ts'
import { batchMs, type Setup } from './setups.ts'
import { cellName, type Cell, type Trace } from './traces.ts'

/** What became of a trace under one contender. */
export interface Outcome {
  /** By index of the request: how long it took in ms, or NaN if it was late, refused or forgotten. */
  readonly latencies: Float64Array
  /** Of the batches that started while the requests that count arrived. */
  readonly meanRows: number
}

/** A deadline met to the last bit of a float is met. */
const epsilonMs = 1e-9

export async function simulate(contender: Contender, cell: Cell, trace: Trace): Promise<Outcome> {
  const simulation = new Simulation(contender, cell, trace)
  // Those without promises are spared the loop of the runtime: it would take most of the time.
  if (contender.needsTurns) while (simulation.step()) await turn()
  else while (simulation.step());
  return simulation.outcome()
}

/** Lets everything that waits for promises go on, however many follow from each other. */
function turn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve)
  })
}

class Simulation implements Machine {
  readonly executors: readonly SimulatedExecutor[]
  readonly #trace: Trace
  readonly #scheduler: Scheduler
  readonly #events = new EventQueue()
  readonly #latencies: Float64Array
  readonly #settled: Uint8Array
  #now = 0
  #arrived = 0
  #batches = 0
  #rows = 0

  constructor(contender: Contender, cell: Cell, trace: Trace) {
    const { setup } = cell
    // The same stream for everybody, one draw a batch.
    const noise = lognormal(`service/${cellName(cell)}`, setup.sigma)
    this.#trace = trace
    this.#latencies = new Float64Array(trace.requests.length).fill(NaN)
    this.#settled = new Uint8Array(trace.requests.length)
    this.executors = Array.from({ length: setup.executors }, () => new Executor(this, setup, noise))
    const { lanes, maxRows, deadlineMs, executors } = setup
    this.#scheduler = contender.create(this, { lanes, maxRows, deadlineMs, executors })
  }

  now(): number {
    return this.#now
  }

  after(ms: number, callback: () => void): () => void {
    return this.#events.plan(this.#now + Math.max(0, ms), callback)
  }

  answered(request: Request): void {
    this.#settle(request)
    if (this.#now <= request.deadline + epsilonMs) this.#latencies[request.index] = this.#now - request.arrivedAt
  }

  refused(request: Request): void {
    this.#settle(request)
  }

  /** The next event; false when what is left can no longer be on time. */
  step(): boolean {
    const { requests } = this.#trace
    const at = this.#events.nextAt
    const request = requests[this.#arrived]
    if (request && request.arrivedAt < at) {
      this.#now = request.arrivedAt
      this.#arrived++
      this.#scheduler.arrive(request)
      return true
    }
    if (at > requests.at(-1)!.deadline) return false
    this.#now = at
    this.#events.take()?.()
    return true
  }

  /** For the executors. */
  started(rows: number): void {
    if (this.#arrived <= this.#trace.from || this.#arrived > this.#trace.to) return
    this.#batches++
    this.#rows += rows
  }

  outcome(): Outcome {
    return { latencies: this.#latencies, meanRows: this.#rows / this.#batches }
  }

  #settle({ index }: Request): void {
    if (this.#settled[index]) throw new Error('a contender has settled a request twice')
    this.#settled[index] = 1
  }
}

class Executor implements SimulatedExecutor {
  busy = false
  readonly #simulation: Simulation
  readonly #setup: Setup
  readonly #noise: Draw

  constructor(simulation: Simulation, setup: Setup, noise: Draw) {
    this.#simulation = simulation
    this.#setup = setup
    this.#noise = noise
  }

  run(_lane: number, rows: number, done: (ms: number) => void): void {
    if (this.busy) throw new Error('a contender runs two batches on one executor at a time')
    if (!(rows >= 1 && rows <= this.#setup.maxRows)) throw new Error(`a contender runs a batch of ${rows} rows`)
    const ms = batchMs(this.#setup, rows) * this.#noise()
    this.busy = true
    this.#simulation.started(rows)
    this.#simulation.after(ms, () => {
      this.busy = false
      done(ms)
    })
  }
}
