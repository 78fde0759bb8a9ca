/** Stops asking what does not answer: after some failures in a row one question at a time finds out if it is back. */

const mostFailures = 5
const firstPauseMs = 1_000
const longestPauseMs = 30_000

export class Breaker {
  #failures = 0
  #pauseMs = firstPauseMs
  /** -Infinity while it is closed: anything may be asked. */
  #closedUntil = -Infinity
  #isTrying = false

  /** Whether something may be asked now. */
  allows(now: number): boolean {
    return this.#failures < mostFailures || (!this.#isTrying && now >= this.#closedUntil)
  }

  /** Something is asked. */
  begin(): void {
    this.#isTrying = this.#failures >= mostFailures
  }

  succeed(): void {
    this.#failures = 0
    this.#pauseMs = firstPauseMs
    this.#isTrying = false
  }

  fail(now: number): void {
    const isAfresh = this.#failures < mostFailures
    this.#failures++
    if (this.#failures < mostFailures) return
    // What was asked before it opened says nothing new.
    if (!isAfresh && !this.#isTrying) return
    if (!isAfresh) this.#pauseMs = Math.min(longestPauseMs, 2 * this.#pauseMs)
    this.#isTrying = false
    this.#closedUntil = now + this.#pauseMs
  }
}
