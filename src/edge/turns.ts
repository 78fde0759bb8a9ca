/**
 * Shares each turn of the event loop among all bodies and answers that are large: so many bytes are worked on, then
 * others have their turn. What is small does not ask. Without it a few clients with large bodies would hold up everybody.
 */
import type { Clock } from '../core/clock.ts'

/** About a millisecond of scanning where numbers are awkward, a quarter of one where they are not. */
const turnBytes = 131_072
/** What is smaller than this is over before one could have asked. */
const smallBytes = 8_192

export class Turns {
  readonly #clock: Clock
  readonly #waiting: (() => void)[] = []
  #left = turnBytes
  #isTurnDue = false

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Whether work on so many bytes may be done in this turn. */
  take(bytes: number): boolean {
    if (bytes < smallBytes) return true
    if (this.#left <= 0) return false
    this.#left -= bytes
    this.#schedule()
    return true
  }

  /** Calls back in a later turn, after those that have waited longer. */
  wait(callback: () => void): void {
    this.#waiting.push(callback)
    this.#schedule()
  }

  #schedule(): void {
    if (this.#isTurnDue) return
    this.#isTurnDue = true
    this.#clock.soon(() => {
      this.#isTurnDue = false
      this.#left = turnBytes
      while (this.#left > 0) {
        const next = this.#waiting.shift()
        if (!next) break
        next()
      }
      if (this.#waiting.length > 0) this.#schedule()
    })
  }
}
