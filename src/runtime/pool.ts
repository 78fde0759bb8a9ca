/** The pool: every executor, each with every session, so that any of them can run any lane's batch. */
import { availableParallelism } from 'node:os'
import type { Clock } from '../core/clock.ts'
import type { Graph } from '../core/signature.ts'
import { Executor } from './executor.ts'
import type { RuntimeOptions } from './options.ts'

export interface PoolEvents {
  readonly onFree: () => void
  readonly onTrouble: (executor: number, reason: string) => void
}

export interface ExecutorStatus {
  readonly alive: boolean
  readonly deaths: number
}

/** Two: one to run, one to fill meanwhile. With one slot the worker starves while the gateway's thread is busy. */
const slots = 2

export class Pool {
  readonly executors: readonly Executor[]
  #sessions = 0

  constructor({ executors, threads, heapMb }: RuntimeOptions, clock: Clock, { onFree, onTrouble }: PoolEvents) {
    const count = executors === 'auto' ? Math.max(1, availableParallelism() - 1) : executors
    this.executors = Array.from({ length: count }, (_, i) => {
      const toldOf = (reason: string) => onTrouble(i, reason)
      return new Executor({ slots, heapMb, threads, clock, onFree, onTrouble: toldOf })
    })
  }

  get alive(): boolean {
    return this.executors.some((executor) => executor.alive)
  }

  get status(): ExecutorStatus[] {
    return this.executors.map(({ alive, deaths }) => ({ alive, deaths }))
  }

  /** Loads a file into every executor, under one new number. */
  async load(file: string): Promise<{ session: number; graph: Graph } | string> {
    const session = this.#sessions++
    const graphs = await Promise.all(this.executors.map((executor) => executor.load(session, file)))
    const problem = graphs.find((graph) => typeof graph === 'string')
    if (problem !== undefined) return problem
    return { session, graph: graphs[0] as Graph }
  }

  async close(): Promise<void> {
    await Promise.all(this.executors.map((executor) => executor.close()))
  }
}
