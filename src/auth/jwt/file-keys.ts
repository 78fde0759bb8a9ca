/** Keys in a file, which is looked at now and then: what is new and whole is taken up, what is broken changes nothing. */
import { readFile } from 'node:fs/promises'
import type { Mistake } from '../../core/document.ts'
import type { IssuerTools } from './issuer.ts'
import type { Keys, KeySource } from './keys.ts'

/** Makes keys out of what is in a file, or says what is wrong with it. `before` is what it has made last. */
export type ReadKeys<K extends Keys> = (bytes: Buffer, before: K | undefined) => Promise<K | string>

const lookEveryMs = 10_000

export class FileKeys<K extends Keys> implements KeySource {
  failures = 0
  current: K
  readonly #file: string
  readonly #read: ReadKeys<K>
  readonly #tools: IssuerTools
  #bytes: Buffer
  #seenAt: number
  #problem = ''
  #closed = false
  #cancelLook: () => void

  private constructor(file: string, read: ReadKeys<K>, tools: IssuerTools, first: Contents<K>) {
    this.#file = file
    this.#read = read
    this.#tools = tools
    this.#bytes = first.bytes
    this.current = first.keys
    this.#seenAt = tools.clock.now()
    this.#cancelLook = this.#later()
  }

  /** Reads the file; or says what is wrong with it. */
  static async open<K extends Keys>(
    file: string,
    read: ReadKeys<K>,
    tools: IssuerTools,
  ): Promise<FileKeys<K> | Mistake> {
    const first = await contentsOf(file, read, undefined)
    return typeof first === 'string' ? { file, message: first } : new FileKeys(file, read, tools, first)
  }

  get ageS(): number {
    return (this.#tools.clock.now() - this.#seenAt) / 1_000
  }

  /** A file is looked at soon enough. */
  search(): undefined {
    return undefined
  }

  close(): void {
    this.#closed = true
    this.#cancelLook()
  }

  #later(): () => void {
    return this.#tools.clock.after(lookEveryMs, () => void this.#look())
  }

  async #look(): Promise<void> {
    const contents = await contentsOf(this.#file, this.#read, { bytes: this.#bytes, keys: this.current })
    if (this.#closed) return
    if (typeof contents === 'string') this.#failed(contents)
    else {
      this.#bytes = contents.bytes
      this.current = contents.keys
      this.#seenAt = this.#tools.clock.now()
      this.#problem = ''
    }
    this.#cancelLook = this.#later()
  }

  /** The same problem is reported once, and not at every look. */
  #failed(problem: string): void {
    this.failures++
    if (problem !== this.#problem) this.#tools.onProblem({ file: this.#file, message: problem })
    this.#problem = problem
  }
}

interface Contents<K> {
  readonly bytes: Buffer
  readonly keys: K
}

async function contentsOf<K extends Keys>(
  file: string,
  read: ReadKeys<K>,
  before: Contents<K> | undefined,
): Promise<Contents<K> | string> {
  const bytes = await readFile(file).catch((error: NodeJS.ErrnoException) => error)
  if (!Buffer.isBuffer(bytes)) return bytes.code === 'ENOENT' ? 'no such file' : `cannot be read (${bytes.code})`
  if (before?.bytes.equals(bytes)) return before
  const keys = await read(bytes, before?.keys)
  return typeof keys === 'string' ? keys : { bytes, keys }
}
