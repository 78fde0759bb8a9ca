/**
 * Callers whose input has just made a run fail. For a while their requests share runs with nobody else's, so that who
 * sends poison pays for the search for it alone.
 */
import type { Clock } from '../core/clock.ts'

const suspectedMs = 10_000
const most = 1_000

export class Suspects {
  readonly #clock: Clock
  /** Until when, by caller; who has been here longest first. */
  readonly #until = new Map<string, number>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  has(caller: string): boolean {
    const until = this.#until.get(caller)
    if (until === undefined) return false
    if (until > this.#clock.now()) return true
    this.#until.delete(caller)
    return false
  }

  add(caller: string): void {
    this.#until.delete(caller)
    this.#until.set(caller, this.#clock.now() + suspectedMs)
    const [longest] = this.#until.keys()
    if (this.#until.size > most) this.#until.delete(longest!)
  }
}
