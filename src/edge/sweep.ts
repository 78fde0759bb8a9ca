/** Ends what takes too long, with one timer for all: a timer for each would cost more than what most of them watch over. */
import type { Clock } from '../core/clock.ts'

export interface Expiring {
  /** On the clock's scale. */
  readonly expiresAt: number
  expire(): void
}

/** So much later than it should something may be ended. */
const periodMs = 100
/** Those that came together end together, and others must have their turn between them. */
export const endedAtOnce = 32

export class Sweep {
  readonly #clock: Clock
  readonly #watched = new Set<Expiring>()
  #isDue = false

  constructor(clock: Clock) {
    this.#clock = clock
  }

  add(one: Expiring): void {
    this.#watched.add(one)
    this.#schedule()
  }

  delete(one: Expiring): void {
    this.#watched.delete(one)
  }

  #schedule(): void {
    if (this.#isDue || this.#watched.size === 0) return
    this.#isDue = true
    this.#clock.after(periodMs, () => this.#look())
  }

  #look(): void {
    const now = this.#clock.now()
    let ended = 0
    for (const one of this.#watched) {
      if (one.expiresAt > now) continue
      if (ended++ === endedAtOnce) {
        this.#clock.soon(() => this.#look())
        return
      }
      this.#watched.delete(one)
      one.expire()
    }
    this.#isDue = false
    this.#schedule()
  }
}
