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
const endedAtOnce = 32

/** Ends those whose time is over, some in a turn: `end` does it, and says so. When no more of them are left, calls `done`. */
export function endOverdue<T>(
  all: Iterable<T>,
  end: (one: T, now: number) => boolean,
  clock: Clock,
  done: () => void,
): void {
  const now = clock.now()
  let ended = 0
  for (const one of all) {
    if (!end(one, now) || ++ended < endedAtOnce) continue
    clock.soon(() => endOverdue(all, end, clock, done))
    return
  }
  done()
}

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
    const end = (one: Expiring, now: number) => {
      if (one.expiresAt > now) return false
      this.#watched.delete(one)
      one.expire()
      return true
    }
    endOverdue(this.#watched, end, this.#clock, () => {
      this.#isDue = false
      this.#schedule()
    })
  }
}
