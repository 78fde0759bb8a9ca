/**
 * Shares each turn of the event loop among all bodies and answers that are large: so many bytes are worked on, then
 * others have their turn. Without it a few clients with large bodies would hold up everybody.
 */
import type { Clock } from '../core/clock.ts'

/** Half a millisecond of scanning where numbers are awkward, an eighth of one where they are not. */
export const turnBytes = 65_536

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
    if (this.#left <= 0) return false
    this.#left -= bytes
    // What was taken in turns before is not known apart: then somebody waits who need not, once in so many bytes.
    if (this.#left <= 0) this.#schedule()
    return true
  }

  /** Calls back in a later turn, after those that have waited longer. */
  wait(callback: () => void): void {
    this.#waiting.push(callback)
    this.#schedule()
  }

  /** Works in slices of so many bytes, each in a turn, until there is an outcome. Rejects with what `work` throws. */
  inSlices<T>(bytes: number, work: () => T | undefined): Promise<T> {
    return new Promise((resolve, reject) => {
      const goOn = () => {
        this.take(bytes)
        try {
          const outcome = work()
          if (outcome === undefined) this.wait(goOn)
          else resolve(outcome)
        } catch (error) {
          reject(error)
        }
      }
      this.wait(goOn)
    })
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
