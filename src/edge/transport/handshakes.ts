/**
 * Lets in so many TLS handshakes at once, and one in a turn of the event loop: each costs about a millisecond of this
 * thread, so a crowd that comes at once would hold up everybody who is connected already. The others wait in their order.
 */
import type { Clock } from '../../core/clock.ts'

export class HandshakeGate {
  readonly #max: number
  readonly #clock: Clock
  readonly #waiting = new Set<() => void>()
  #running = 0
  #turnDue = false

  constructor(max: number, clock: Clock) {
    this.#max = max
    this.#clock = clock
  }

  /** Calls `start` when it is this one's turn; the returned function takes it out of the line. */
  enter(start: () => void): () => void {
    this.#waiting.add(start)
    this.#schedule()
    return () => this.#waiting.delete(start)
  }

  /** A handshake that was started is over, however it ended. */
  leave(): void {
    this.#running--
    this.#schedule()
  }

  #schedule(): void {
    if (this.#turnDue || this.#waiting.size === 0 || this.#running >= this.#max) return
    this.#turnDue = true
    this.#clock.soon(() => {
      this.#turnDue = false
      const [next] = this.#waiting
      if (!next) return
      this.#waiting.delete(next)
      this.#running++
      next()
      this.#schedule()
    })
  }
}
