/** What a scheduler sees of the simulated machine: requests, a clock, executors, and how long each batch took. */

/** One row that has to be answered in time. */
export interface Request {
  /** Its place in the trace. */
  readonly index: number
  readonly lane: number
  readonly arrivedAt: number
  readonly deadline: number
}

export interface SimulatedExecutor {
  readonly busy: boolean
  /** Runs one batch. When it has, the executor is idle again and hears `done` with how long it took. */
  run(lane: number, rows: number, done: (ms: number) => void): void
}

export interface Machine {
  /** Milliseconds. */
  now(): number
  /** Calls back once; what it returns calls that off. */
  after(ms: number, callback: () => void): () => void
  readonly executors: readonly SimulatedExecutor[]
  /** The answer goes out now; it is on time if the deadline has not passed. */
  answered(request: Request): void
  refused(request: Request): void
}

/** What a scheduler is told beforehand. How long batches take and how much will arrive it has to find out. */
export interface Facts {
  readonly lanes: number
  readonly maxRows: number
  readonly deadlineMs: number
  readonly executors: number
}

export interface Scheduler {
  arrive(request: Request): void
}

export interface Contender {
  readonly name: string
  /** Set if it settles things in promises: the event loop then lets them run between events, which takes longer. */
  readonly needsTurns?: boolean
  create(machine: Machine, facts: Facts): Scheduler
}
