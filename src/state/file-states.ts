/**
 * State in a folder, one JSON file for each name. A file is replaced as a whole, so that after a crash there is what was
 * before or what came after. It is for one gateway: who else writes is noticed, but of two processes that write in the same
 * instant the later one wins.
 */
import { randomUUID } from 'node:crypto'
import { mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import type { Clock } from '../core/clock.ts'
import {
  jsonOf,
  mostCharacters,
  nameProblem,
  nothing,
  Watchers,
  type Found,
  type Kept,
  type Problem,
  type States,
} from './states.ts'

const lookEveryMs = 2_000
/** A temporary file that has lain so long was left by a crash. */
const abandonedMs = 60_000

export interface FileStatesTools {
  readonly folder: string
  readonly clock: Clock
}

export class FileStates implements States {
  readonly #folder: string
  readonly #watchers: Watchers
  /** The last task of each name that is being read or written: a file is touched by one at a time. */
  readonly #tasks = new Map<string, Promise<unknown>>()
  #hasSwept = false

  constructor({ folder, clock }: FileStatesTools) {
    this.#folder = resolve(folder)
    const look = (name: string, mark: string) => this.#inTurn(name, () => this.#look(name, mark))
    this.#watchers = new Watchers({ clock, everyMs: lookEveryMs, look })
  }

  async read(name: string): Promise<Kept | undefined | Problem> {
    return nameProblem(name) ?? this.#inTurn(name, () => this.#read(name))
  }

  async write(
    name: string,
    value: unknown,
    revision: number,
  ): Promise<{ readonly revision: number } | 'stale' | Problem> {
    const json = jsonOf(value)
    const problem = nameProblem(name) ?? (typeof json === 'string' ? undefined : json)
    return problem ?? this.#inTurn(name, () => this.#write(name, json as string, revision))
  }

  watch(name: string, changed: (kept: Kept) => void): () => void {
    return nameProblem(name) ? () => {} : this.#watchers.add(name, changed)
  }

  close(): void {
    this.#watchers.close()
  }

  async #inTurn<T>(name: string, task: () => Promise<T>): Promise<T> {
    const done = (this.#tasks.get(name) ?? Promise.resolve()).then(task)
    this.#tasks.set(name, done)
    const result = await done
    if (this.#tasks.get(name) === done) this.#tasks.delete(name)
    return result
  }

  async #read(name: string): Promise<Kept | undefined | Problem> {
    const found = await foundIn(this.#fileOf(name))
    if ('problem' in found) return found
    this.#watchers.read(name, found.mark)
    return found === nothing ? undefined : found.kept
  }

  async #look(name: string, mark: string): Promise<Found | undefined> {
    const found = await foundIn(this.#fileOf(name))
    return 'problem' in found || found.mark === mark ? undefined : found
  }

  async #write(
    name: string,
    json: string,
    revision: number,
  ): Promise<{ readonly revision: number } | 'stale' | Problem> {
    const file = this.#fileOf(name)
    const found = await foundIn(file)
    if ('problem' in found) return found
    if (found.kept.revision !== revision) return 'stale'
    // A hand changes the value and leaves the revision, or removes the file and lets another begin anew.
    if (revision > 0 && (this.#watchers.markOf(name) ?? found.mark) !== found.mark) return 'stale'
    const text = `{"revision":${revision + 1},"value":${json}}\n`
    try {
      await makeFolder(this.#folder)
      await this.#replace(file, text)
    } catch (error) {
      const { code = 'unknown error' } = error as NodeJS.ErrnoException
      return { problem: `${file}: cannot be written (${code})` }
    }
    this.#watchers.wrote(name, text)
    return { revision: revision + 1 }
  }

  async #replace(file: string, text: string): Promise<void> {
    const temporary = join(this.#folder, `.${randomUUID()}.tmp`)
    try {
      const handle = await open(temporary, 'wx', 0o600)
      try {
        await handle.writeFile(text)
        await handle.sync()
      } finally {
        await handle.close()
      }
      await this.#sweep(temporary)
      await rename(temporary, file)
      await syncFolder(this.#folder)
    } catch (error) {
      await rm(temporary, { force: true }).catch(() => {})
      throw error
    }
  }

  /** Removes what a crash has left, by the time of the file system itself. */
  async #sweep(own: string): Promise<void> {
    if (this.#hasSwept) return
    this.#hasSwept = true
    const { mtimeMs: now } = await stat(own)
    for (const name of await readdir(this.#folder)) {
      if (!/^\.[0-9a-f-]{36}\.tmp$/.test(name)) continue
      const found = await stat(join(this.#folder, name)).catch(() => undefined)
      if (found && found.mtimeMs < now - abandonedMs) await rm(join(this.#folder, name), { force: true })
    }
  }

  #fileOf(name: string): string {
    return join(this.#folder, `${name}.json`)
  }
}

async function foundIn(file: string): Promise<Found | Problem> {
  const text = await textOf(file).catch((error: NodeJS.ErrnoException) => error)
  if (typeof text !== 'string') {
    return text.code === 'ENOENT' ? nothing : { problem: `${file}: cannot be read (${text.code})` }
  }
  const kept = parsed(text)
  if (!kept) return { problem: `${file}: is damaged; remove it to begin without what it kept` }
  return { kept, mark: text }
}

/** Of a file that is far too long to be ours only nothing, which is damage too. */
async function textOf(file: string): Promise<string> {
  const { size } = await stat(file)
  return size > 4 * mostCharacters ? '' : readFile(file, 'utf8')
}

function parsed(text: string): Kept | undefined {
  try {
    const { revision, value } = JSON.parse(text) as Partial<Kept>
    return Number.isSafeInteger(revision) && revision! > 0 && value !== undefined
      ? { revision: revision!, value }
      : undefined
  } catch {
    return undefined
  }
}

/** Folder by folder, because `mkdir` with `recursive` never ends where a file system takes no folders (/proc). */
async function makeFolder(folder: string): Promise<void> {
  const problem = await tryFolder(folder)
  if (problem?.code === 'EEXIST') return
  if (problem) {
    if (problem.code !== 'ENOENT' || dirname(folder) === folder) throw problem
    await makeFolder(dirname(folder))
    const again = await tryFolder(folder)
    if (again && again.code !== 'EEXIST') throw again
  }
  // A new folder is there after a crash only if the one that it is in was written too.
  await syncFolder(dirname(folder))
}

function tryFolder(folder: string): Promise<NodeJS.ErrnoException | undefined> {
  return mkdir(folder, { mode: 0o700 }).then(
    () => undefined,
    (error: NodeJS.ErrnoException) => error,
  )
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
