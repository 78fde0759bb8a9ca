/** A file that is looked at now and then: what is new and whole is taken up, what is broken changes nothing. */
import type { Clock } from './clock.ts'
import type { Mistake } from './document.ts'

/** What was made of a file, or what is wrong with it. */
export type Made<T> = { readonly value: T } | { readonly mistakes: Mistake[] }

export interface Watch<T> {
  readonly file: string
  readonly everyMs: number
  /** `readFile` of Node. */
  readonly read: (file: string) => Promise<Buffer>
  /** Makes something of what is in the file. `before` is what was made last. */
  readonly make: (bytes: Buffer, before: T | undefined) => Made<T> | Promise<Made<T>>
  readonly clock: Clock
  /** Told of a file that cannot be used. The same problem is reported once, and not at every look. */
  readonly onProblem: (problem: Mistake) => void
}

interface Contents<T> {
  readonly bytes: Buffer
  readonly value: T
}

export class Watched<T> {
  /** Looks at which the file could not be used. */
  failures = 0
  readonly #watch: Watch<T>
  #contents: Contents<T>
  #seenAt: number
  #problem = ''
  #isClosed = false
  #cancelLook: () => void

  private constructor(watch: Watch<T>, contents: Contents<T>) {
    this.#watch = watch
    this.#contents = contents
    this.#seenAt = watch.clock.now()
    this.#cancelLook = this.#lookLater()
  }

  /** Reads the file for the first time; or says what is wrong with it. */
  static async open<T>(watch: Watch<T>): Promise<Watched<T> | { readonly mistakes: Mistake[] }> {
    const contents = await contentsOf(watch, undefined)
    return 'mistakes' in contents ? contents : new Watched(watch, contents)
  }

  get current(): T {
    return this.#contents.value
  }

  /** Seconds since the file was last seen whole. */
  get ageS(): number {
    return (this.#watch.clock.now() - this.#seenAt) / 1_000
  }

  close(): void {
    this.#isClosed = true
    this.#cancelLook()
  }

  #lookLater(): () => void {
    const { clock, everyMs } = this.#watch
    return clock.after(everyMs, () => void this.#look())
  }

  async #look(): Promise<void> {
    const contents = await contentsOf(this.#watch, this.#contents)
    if (this.#isClosed) return
    if ('mistakes' in contents) this.#failed(contents.mistakes[0]!)
    else {
      this.#contents = contents
      this.#seenAt = this.#watch.clock.now()
      this.#problem = ''
    }
    this.#cancelLook = this.#lookLater()
  }

  #failed(mistake: Mistake): void {
    this.failures++
    if (mistake.message !== this.#problem) this.#watch.onProblem(mistake)
    this.#problem = mistake.message
  }
}

async function contentsOf<T>(
  { file, read, make }: Watch<T>,
  before: Contents<T> | undefined,
): Promise<Contents<T> | { readonly mistakes: Mistake[] }> {
  const bytes = await read(file).catch((error: { readonly code: string }) => error)
  if ('code' in bytes) {
    const message = bytes.code === 'ENOENT' ? 'no such file' : `cannot be read (${bytes.code})`
    return { mistakes: [{ file, message }] }
  }
  if (before?.bytes.equals(bytes)) return before
  const made = await make(bytes, before?.value)
  return 'mistakes' in made ? made : { bytes, value: made.value }
}
