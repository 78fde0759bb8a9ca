/** Two versions on one executor: each has a lane, the lanes take turns, and what waits in a lane is one batch. */
import { exponential, type Draw } from '../draws.ts'
import type { Outcome } from './outcome.ts'
import { normal } from './random.ts'
import { Trial, type TrialSetup } from './trial.ts'

interface LanesSetup extends TrialSetup {
  /** How many times as much compute as `usualMs` says. */
  readonly heavy: number
  /** How many times as long the treatment's runs take. */
  readonly slow: number
  /** At the most, in runs of both arms and in seconds. */
  readonly longestRuns: number
  readonly longestS: number
  /** Times the mean load. */
  readonly loadAt?: (second: number) => number
  /** How many times as long runs of both arms take. */
  readonly slownessAt?: (second: number) => number
}

const requestsPerS = 100
/** What a batch of so many rows takes. */
const usualMs = (rows: number) => 4 + 0.6 * rows
const maxRows = 64
/** Of the logarithm of a run's time. */
const noise = 0.15

export function slowLanes(setup: LanesSetup, draw: Draw): Outcome {
  const { heavy, slow, slownessAt = () => 1 } = setup
  const trial = new Trial(setup)
  const queues = new Queues(setup, trial, draw)
  for (let rows = 1; rows <= maxRows; rows *= 2)
    for (let i = 0; i < 3; i++) trial.warmUp(rows, heavy * usualMs(rows) * Math.exp(noise * normal(draw)))
  let nowMs = 0
  let treatmentRuns = 0
  for (let runs = 0; runs < setup.longestRuns && nowMs < 1_000 * setup.longestS; runs++) {
    nowMs = queues.waitForWork(nowMs)
    const isTreatment = queues.turn()
    const rows = queues.take(isTreatment)
    const meanMs = heavy * usualMs(rows) * slownessAt(nowMs / 1_000) * (isTreatment ? slow : 1)
    const computeMs = meanMs * Math.exp(noise * normal(draw))
    nowMs += computeMs
    trial.until(nowMs)
    if (trial.isRolledBack) break
    if (isTreatment) treatmentRuns++
    trial.ran(isTreatment, rows, computeMs)
    queues.arrive(nowMs)
  }
  const afterS = trial.rolledBackMs === undefined ? Infinity : trial.rolledBackMs / 1_000
  return { afterS, exposed: treatmentRuns }
}

class Queues {
  readonly #setup: LanesSetup
  readonly #trial: Trial
  readonly #draw: Draw
  readonly #gap: Draw
  readonly #waiting = { control: 0, treatment: 0 }
  #nextMs = 0
  #lastWasTreatment = true

  constructor(setup: LanesSetup, trial: Trial, draw: Draw) {
    this.#setup = setup
    this.#trial = trial
    this.#draw = draw
    this.#gap = exponential(draw)
  }

  /** When there is something to run. */
  waitForWork(nowMs: number): number {
    const { control, treatment } = this.#waiting
    if (control + treatment > 0) return nowMs
    const beginMs = Math.max(nowMs, this.#nextMs)
    this.arrive(beginMs)
    return beginMs
  }

  /** All that have come by then. */
  arrive(nowMs: number): void {
    const { loadAt = () => 1 } = this.#setup
    while (this.#nextMs <= nowMs) {
      this.#waiting[this.#draw() < this.#trial.share ? 'treatment' : 'control']++
      this.#nextMs += (1_000 * this.#gap()) / (requestsPerS * loadAt(this.#nextMs / 1_000))
    }
  }

  /** Whether it is the treatment's. */
  turn(): boolean {
    const { control, treatment } = this.#waiting
    this.#lastWasTreatment = control === 0 || (treatment > 0 && !this.#lastWasTreatment)
    return this.#lastWasTreatment
  }

  take(isTreatment: boolean): number {
    const arm = isTreatment ? 'treatment' : 'control'
    const rows = Math.min(maxRows, this.#waiting[arm])
    this.#waiting[arm] -= rows
    return rows
  }
}
