/** What an executor has before it, in time: when its runs began and when they should end. */
export class Schedule {
  /** Expected milliseconds of the run under way and of those staged behind it. */
  readonly #expected: number[] = []
  #startedAt = 0

  /** Expected milliseconds of the run under way. */
  get runMs(): number {
    return this.#expected[0] ?? 0
  }

  /** When it could begin another batch; Infinity if nobody can tell. */
  freeAt(now: number): number {
    const [running, ...staged] = this.#expected
    if (running === undefined) return now
    return staged.reduce((sum, ms) => sum + ms, Math.max(now, this.#startedAt + running))
  }

  begin(now: number, expectedMs: number): void {
    if (this.#expected.length === 0) this.#startedAt = now
    this.#expected.push(expectedMs)
  }

  /** The run under way is over. Returns how long it had the executor. */
  end(now: number): number {
    this.#expected.shift()
    const ms = now - this.#startedAt
    this.#startedAt = now
    return ms
  }
}
