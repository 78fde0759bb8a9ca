/**
 * Lets in so many TLS handshakes at once, and one in a turn of the event loop: each costs about a millisecond of this
 * thread, so a crowd that comes at once would hold up everybody who is connected already. The others wait in their order.
 */
import type { Clock } from '../../core/clock.ts'

export class HandshakeGate {
  readonly #max: number
  readonly #clock: Clock
  readonly #waiting = new Set<() => void>()
  readonly #running = new Set<() => void>()
  #turnDue = false

  constructor(max: number, clock: Clock) {
    this.#max = max
    this.#clock = clock
  }

  /** Calls `start` when it is this one's turn. The returned function says that it is over, or need not begin any more. */
  enter(start: () => void): () => void {
    this.#waiting.add(start)
    this.#schedule()
    return () => {
      this.#waiting.delete(start)
      if (this.#running.delete(start)) this.#schedule()
    }
  }

  #schedule(): void {
    if (this.#turnDue || this.#waiting.size === 0 || this.#running.size >= this.#max) return
    this.#turnDue = true
    this.#clock.soon(() => {
      this.#turnDue = false
      const [next] = this.#waiting
      if (!next) return
      this.#waiting.delete(next)
      this.#running.add(next)
      next()
      this.#schedule()
    })
  }
}
