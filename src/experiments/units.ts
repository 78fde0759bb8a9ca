/**
 * Which units were seen, and which have failed. What is assigned as a whole counts once: one caller who comes a thousand
 * times with the same broken request is one failure and not a thousand, or a promise about false alarms would be worth
 * nothing.
 */
const mostUnits = 100_000
/** Keys may be long, and what is remembered over a restart has to stay small. */
const mostSavedCharacters = 65_536

export class Units {
  /** Whether each has failed. */
  readonly #failed = new Map<string, boolean>()

  constructor(failed: readonly string[] = []) {
    for (const unit of failed) this.#failed.set(unit, true)
  }

  /**
   * Whether a request counts as a new unit, and whether as a failure. Beyond the most that are remembered new ones are left
   * out, whichever their arm, which costs power and nothing else.
   */
  count(unit: string, hasFailed: boolean): { readonly isNew: boolean; readonly isFailure: boolean } {
    const before = this.#failed.get(unit)
    if (before === undefined && this.#failed.size >= mostUnits) return { isNew: false, isFailure: false }
    if (before === undefined || (hasFailed && !before)) this.#failed.set(unit, hasFailed)
    return { isNew: before === undefined, isFailure: hasFailed && before !== true }
  }

  get size(): number {
    return this.#failed.size
  }

  /** Those that have failed, as far as there is room. */
  saved(): string[] {
    const failed: string[] = []
    let characters = 0
    for (const [unit, hasFailed] of this.#failed) {
      if (!hasFailed) continue
      characters += unit.length
      if (characters > mostSavedCharacters) break
      failed.push(unit)
    }
    return failed
  }
}
