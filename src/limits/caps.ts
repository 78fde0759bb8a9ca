/** Caps on requests in flight. They are this process's own: what other gateways have in flight does not count. */
import type { Dimension } from './options.ts'

export interface CapRule {
  readonly name: string
  readonly by: readonly Dimension[]
  readonly most: number
  readonly policy: string
}

/** A cap for one combination of values. */
export interface Cap {
  readonly rule: CapRule
  readonly key: string
}

export class Caps {
  /** Those that have any in flight, so there are no more of them than requests. */
  readonly #inFlight = new Map<string, number>()

  /** The first without a free place. */
  full(caps: readonly Cap[]): Cap | undefined {
    return caps.find(({ rule, key }) => this.left(rule, key) <= 0)
  }

  left({ most }: CapRule, key: string): number {
    return most - (this.#inFlight.get(key) ?? 0)
  }

  enter(caps: readonly Cap[]): void {
    for (const { key } of caps) this.#inFlight.set(key, (this.#inFlight.get(key) ?? 0) + 1)
  }

  leave(caps: readonly Cap[]): void {
    for (const { key } of caps) {
      const rest = this.#inFlight.get(key)! - 1
      if (rest > 0) this.#inFlight.set(key, rest)
      else this.#inFlight.delete(key)
    }
  }
}
