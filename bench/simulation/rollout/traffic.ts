/** What is the same for both arms of a healthy rollout, and far from steady: the load, and bursts of failures of everything. */
import { exponential, type Draw } from '../draws.ts'

/** A day's curve in an hour: from 0.2 to 1.8 times the mean load. */
const swing = 0.8
const periodS = 3_600

/** Outages of something that both arms need: every ten minutes, for some seconds, so many requests fail besides. */
const outages = { everyS: 600, meanS: 15, part: 0.3 }

export class Traffic {
  readonly #phase: number
  readonly #gap: Draw
  #fromS = 0
  #toS = 0

  constructor(draw: Draw) {
    this.#phase = draw()
    this.#gap = exponential(draw)
    this.#next(0)
  }

  /** Times the mean load. */
  loadAt(second: number): number {
    return 1 + swing * Math.sin(2 * Math.PI * (second / periodS + this.#phase))
  }

  /** Probability of a failure that has nothing to do with the model. To be asked with times that rise. */
  outageAt(second: number): number {
    if (second >= this.#toS) this.#next(second)
    return second >= this.#fromS ? outages.part : 0
  }

  #next(second: number): void {
    this.#fromS = second + outages.everyS * this.#gap()
    this.#toS = this.#fromS + outages.meanS * this.#gap()
  }
}
