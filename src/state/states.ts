/**
 * What a gateway has to know again after a restart, such as a weight that was set by hand or a version that was rolled
 * back. Each has a name, and is changed by compare and set, so that nobody undoes what he has not seen.
 */
import type { Clock } from '../core/clock.ts'

export interface Kept {
  /** Whole, above 0, and another one after each write; 0 if nothing is kept. */
  readonly revision: number
  /** JSON. */
  readonly value: unknown
}

export interface Problem {
  readonly problem: string
}

export interface States {
  /** What is kept under a name of letters, digits, `.`, `_` and `-`; undefined if nothing; or why it cannot be told. */
  read(name: string): Promise<Kept | undefined | Problem>
  /**
   * Writes if what is kept still has this revision, 0 for nothing. Durable when it settles. After a problem it may have
   * been written or not, and to read again tells.
   */
  write(name: string, value: unknown, revision: number): Promise<{ readonly revision: number } | 'stale' | Problem>
  /**
   * Calls back when somebody else has changed what this process last read or wrote under a name, or with all there is if
   * it has done neither. If nothing is kept any more, that is revision 0 and no value. Returns how to stop.
   */
  watch(name: string, changed: (kept: Kept) => void): () => void
  /** Ends all watching. */
  close(): void
}

/** Longest JSON of a value, in characters. */
export const mostCharacters = 1_048_576
const allowedName = /^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$/

export function nameProblem(name: string): Problem | undefined {
  if (allowedName.test(name)) return undefined
  return { problem: `"${name.slice(0, 128)}" is no name of at most 128 letters, digits, . _ - that begins without .` }
}

/** The JSON of a value, or why it is not kept. */
export function jsonOf(value: unknown): string | Problem {
  try {
    const json = JSON.stringify(value) as string | undefined
    if (json === undefined) return { problem: 'what is to be kept is no JSON' }
    return json.length > mostCharacters ? { problem: `what is to be kept is over ${mostCharacters} characters` } : json
  } catch (error) {
    return { problem: `what is to be kept is no JSON (${(error as Error).message.slice(0, 100)})` }
  }
}

/** What is kept, and a mark that differs if it does; the mark of nothing is empty. */
export interface Found {
  readonly kept: Kept
  readonly mark: string
}

export const nothing: Found = { kept: { revision: 0, value: undefined }, mark: '' }

interface Watched {
  readonly callbacks: Set<(kept: Kept) => void>
  /** Of what was last announced, or written here. */
  mark: string
  cancelLook: () => void
}

interface Looking {
  readonly clock: Clock
  readonly everyMs: number
  /** Looks at a name; undefined if that is as the mark says, or cannot be told. */
  readonly look: (name: string, mark: string) => Promise<Found | undefined>
}

/** Looks now and then at names that somebody watches, however many do. */
export class Watchers {
  readonly #looking: Looking
  readonly #watched = new Map<string, Watched>()
  /** Marks of what was last read or written here; as many as names in use, and those come from the configuration. */
  readonly #marks = new Map<string, string>()

  constructor(looking: Looking) {
    this.#looking = looking
  }

  /** The mark of what was last read or written here. */
  markOf(name: string): string | undefined {
    return this.#marks.get(name)
  }

  read(name: string, mark: string): void {
    this.#marks.set(name, mark)
  }

  /** Whoever writes knows, so it is not announced. */
  wrote(name: string, mark: string): void {
    this.#marks.set(name, mark)
    const watched = this.#watched.get(name)
    if (watched) watched.mark = mark
  }

  add(name: string, changed: (kept: Kept) => void): () => void {
    const watched = this.#watched.get(name) ?? this.#begin(name)
    // The same function may be given twice.
    const callback = (kept: Kept) => changed(kept)
    watched.callbacks.add(callback)
    return () => {
      watched.callbacks.delete(callback)
      if (watched.callbacks.size === 0) this.#end(name, watched)
    }
  }

  close(): void {
    for (const [name, watched] of this.#watched) this.#end(name, watched)
  }

  #begin(name: string): Watched {
    const watched = { callbacks: new Set<(kept: Kept) => void>(), mark: this.#marks.get(name) ?? '', cancelLook() {} }
    this.#watched.set(name, watched)
    this.#lookLater(name, watched)
    return watched
  }

  #end(name: string, watched: Watched): void {
    watched.cancelLook()
    if (this.#watched.get(name) === watched) this.#watched.delete(name)
  }

  #lookLater(name: string, watched: Watched): void {
    const { clock, everyMs } = this.#looking
    watched.cancelLook = clock.after(everyMs, () => void this.#look(name, watched))
  }

  async #look(name: string, watched: Watched): Promise<void> {
    const found = await this.#looking.look(name, watched.mark)
    if (this.#watched.get(name) !== watched) return
    this.#lookLater(name, watched)
    // It may have been written here meanwhile.
    if (found === undefined || found.mark === watched.mark) return
    watched.mark = found.mark
    this.#marks.set(name, found.mark)
    for (const callback of watched.callbacks) callback(found.kept)
  }
}
