/** What streams of bytes for fronts of HTTP/1.1 are made of. */
import { drawFrom } from './draw.ts'
import type { LimitsName } from './front-pair.ts'

export interface Stream {
  readonly kind: string
  readonly limits: LimitsName
  readonly bytes: Buffer
  /** Where the bytes are cut; each piece is sent in a turn of the event loop of its own. */
  readonly cuts: readonly number[]
  /** Where the client goes on only when nothing moves any more. */
  readonly waits: readonly number[]
  /**
   * What the client does after its last byte. `sentinel`: once nothing moves, sends one more request, and ends the
   * connection when nothing moves again. `quiet end` and `quiet reset`: ends or breaks it once nothing moves. `end` and `reset`: at once.
   */
  readonly ending: 'sentinel' | 'quiet end' | 'quiet reset' | 'end' | 'reset'
  /** What there is to be seen, if all of it is good. */
  readonly wanted: readonly Wanted[] | undefined
}

export interface Wanted {
  readonly method: string
  readonly target: string
  readonly body: Buffer
  /** Where its last byte ends in the stream. */
  readonly end: number
}

/** Draws of many kinds. */
export class Draws {
  readonly below: (bound: number) => number

  constructor(seed: number) {
    this.below = drawFrom(seed)
  }

  /** True once in so many times. */
  once(times: number): boolean {
    return this.below(times) === 0
  }

  one<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!
  }

  between(from: number, to: number): number {
    return from + this.below(to - from + 1)
  }

  /** So many of a list, with repetitions. */
  some<T>(list: readonly T[], most: number): T[] {
    return Array.from({ length: this.below(most + 1) }, () => this.one(list))
  }
}

/** What is parted by a bar with a space on either side. */
export function choices(text: string): readonly string[] {
  return text.split(' | ')
}
