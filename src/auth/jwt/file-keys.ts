/** Keys of an issuer in a file. */
import { readFile } from 'node:fs/promises'
import type { Mistake } from '../../core/document.ts'
import { Watched } from '../../core/watched.ts'
import type { IssuerTools } from './issuer.ts'
import type { Keys, KeySource } from './keys.ts'

/** Makes keys out of what is in a file, or says what is wrong with it. `before` is what it has made last. */
export type ReadKeys<K extends Keys> = (bytes: Buffer, before: K | undefined) => Promise<K | string>

const everyMs = 10_000

export class FileKeys<K extends Keys> implements KeySource {
  readonly #file: Watched<K>

  private constructor(file: Watched<K>) {
    this.#file = file
  }

  /** Reads the file; or says what is wrong with it. */
  static async open<K extends Keys>(
    file: string,
    readKeys: ReadKeys<K>,
    { clock, onProblem }: IssuerTools,
  ): Promise<FileKeys<K> | Mistake> {
    const make = async (bytes: Buffer, before: K | undefined) => {
      const keys = await readKeys(bytes, before)
      return typeof keys === 'string' ? { mistakes: [{ file, message: keys }] } : { value: keys }
    }
    const opened = await Watched.open({ file, everyMs, read: readFile, make, clock, onProblem })
    return 'mistakes' in opened ? opened.mistakes[0]! : new FileKeys(opened)
  }

  get current(): K {
    return this.#file.current
  }

  get ageS(): number {
    return this.#file.ageS
  }

  get failures(): number {
    return this.#file.failures
  }

  /** A file is looked at soon enough. */
  search(): undefined {
    return undefined
  }

  close(): void {
    this.#file.close()
  }
}
