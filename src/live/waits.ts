/** Waiting that ends early when what waits is closed, so that it does not keep the process up. */
import type { Clock } from '../core/clock.ts'

export class Waits {
  areOver = false
  readonly #clock: Clock
  readonly #wakes = new Set<() => void>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Settles after so many milliseconds, or at once when it is over. */
  wait(ms: number): Promise<void> {
    if (this.areOver) return Promise.resolve()
    const { promise, resolve } = Promise.withResolvers<void>()
    const cancel = this.#clock.after(ms, () => wake())
    const wake = () => {
      cancel()
      this.#wakes.delete(wake)
      resolve()
    }
    this.#wakes.add(wake)
    return promise
  }

  end(): void {
    this.areOver = true
    for (const wake of this.#wakes) wake()
  }
}
