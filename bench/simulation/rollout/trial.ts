/** The shipped experiment, with a clock that the simulation moves. */
import type { Clock } from '../../../src/core/clock.ts'
import { Experiment } from '../../../src/experiments/experiment.ts'
import { experimentOptions } from '../../../src/experiments/options.ts'
import type { RolloutState } from '../../../src/experiments/rollout.ts'

/** Time that passes when it is told to. An experiment waits for one thing at a time: its next tick. */
class SimulatedClock implements Clock {
  nowMs = 0
  #dueMs = Infinity
  #callback: () => void = () => {}

  now(): number {
    return this.nowMs
  }

  idle(): number {
    return 0
  }

  epoch(): number {
    return this.nowMs
  }

  after(ms: number, callback: () => void): () => void {
    this.#dueMs = this.nowMs + ms
    this.#callback = callback
    return () => {
      this.#dueMs = Infinity
    }
  }

  soon(callback: () => void): void {
    callback()
  }

  until(ms: number): void {
    while (this.#dueMs <= ms) {
      this.nowMs = this.#dueMs
      this.#dueMs = Infinity
      this.#callback()
    }
    this.nowMs = ms
  }
}

export interface TrialSetup {
  /** The treatment's part, where no steps give it. */
  readonly share?: number
  /** Of the configuration, as a user would write them. */
  readonly options?: object
}

export class Trial {
  readonly #clock = new SimulatedClock()
  readonly #experiment: Experiment
  #share: number
  #rolledBackMs: number | undefined
  #isFrozen = false

  constructor({ share = 0.05, options = {} }: TrialSetup) {
    const setup = {
      options: experimentOptions.parse({ kind: 'canary', ...options }),
      control: 'stable',
      treatment: 'canary',
      share,
      since: 0,
    }
    this.#experiment = new Experiment(setup, {
      clock: this.#clock,
      counts: undefined,
      onState: (state) => this.#moved(state),
      onAlert: () => {},
      onProgress: () => {},
    })
    this.#share = this.#experiment.state.share
  }

  /** Of what both arms get, the treatment's part now. */
  get share(): number {
    return this.#share
  }

  get rolledBackMs(): number | undefined {
    return this.#rolledBackMs
  }

  get isRolledBack(): boolean {
    return this.#rolledBackMs !== undefined
  }

  /** Whether it was said that the arms do not get the units that they should. */
  get isFrozen(): boolean {
    return this.#isFrozen
  }

  /** Lets time pass, with all ticks that fall into it. */
  until(ms: number): void {
    this.#clock.until(ms)
  }

  /** A request has its outcome now. */
  settled(isTreatment: boolean, hasFailed: boolean, unit?: string): void {
    this.#experiment.settled({ isTreatment, share: this.#share, hasFailed, unit })
  }

  /** What the control's warm-up took: three runs of each size, as at a load. */
  warmUp(rows: number, computeMs: number): void {
    this.#experiment.seed([{ key: 'row', rows, ms: computeMs }])
  }

  /** A batch has run. */
  ran(isTreatment: boolean, rows: number, computeMs: number): void {
    this.#experiment.ran(isTreatment, 'row', rows, computeMs)
  }

  /** One of a request and its shadow failed, and the other did not. */
  shadowDiffered(isWorse: boolean): void {
    this.#experiment.shadowDiffered(isWorse)
  }

  #moved({ phase, share }: RolloutState): void {
    if (phase === 'rolled-back') this.#rolledBackMs ??= this.#clock.nowMs
    if (phase === 'frozen') this.#isFrozen = true
    // Where it is rolled back, the simulation ends, and what comes in the same second is no matter.
    if (phase !== 'rolled-back') this.#share = share
  }
}
