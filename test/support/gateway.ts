/** A real gateway on real ports, for tests that talk to it as clients do. */
import { rmSync } from 'node:fs'
import { mkdir, mkdtemp, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { TestContext } from 'node:test'
import { stringify } from 'yaml'
import { start, type Running } from '../../src/cli/serve.ts'
import { loadConfig } from '../../src/config.ts'
import { showMistake } from '../../src/core/document.ts'

export const repository = join(import.meta.dirname, '../..')
/** The models that come with Penstock. */
export const ownStore = join(repository, 'config/models')

type Files = Readonly<Record<string, string | Buffer>>

/** They go with the process: until then what a test has started may write to them. */
const folders = new Set<string>()
process.once('exit', () => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true })
})

/** Writes files into a new folder, which is there until the file of tests has ended; returns the folder. */
export async function folderWith(files: Files = {}): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'penstock-'))
  folders.add(folder)
  for (const [name, content] of Object.entries(files)) {
    await mkdir(dirname(join(folder, name)), { recursive: true })
    await writeFile(join(folder, name), content)
  }
  return folder
}

export interface Reply {
  readonly status: number
  readonly headers: Headers
  readonly json: any
}

export interface TestGateway extends Running {
  /** POSTs a JSON inference request. `model` may go on with `/versions/V`. */
  infer(model: string, request: unknown): Promise<Reply>
  get(path: string): Promise<Reply>
}

/** Starts a gateway over a store (a folder, or files to put into one) with settings on top of the quickest. */
export async function startGateway(
  t: TestContext,
  { store = ownStore, settings = {} }: { store?: string | Files; settings?: object } = {},
): Promise<TestGateway> {
  const path = typeof store === 'string' ? store : await folderWith(store)
  const file = await configWith({ store: { path }, ...settings })
  const started = await start(file)
  if ('mistakes' in started) throw new Error(started.mistakes.map(showMistake).join('\n'))
  if ('problem' in started) throw new Error(started.problem)
  const { running } = started
  t.after(() => running.stop())
  return {
    ...running,
    get: async (target) => reply(await fetch(running.url + target)),
    infer: async (model, request) => {
      const body = typeof request === 'string' ? request : JSON.stringify(request)
      const headers = { 'content-type': 'application/json' }
      return reply(await fetch(`${running.url}/v2/models/${model}/infer`, { method: 'POST', headers, body }))
    },
  }
}

async function reply(response: Response): Promise<Reply> {
  const text = await response.text()
  return { status: response.status, headers: response.headers, json: text === '' ? undefined : JSON.parse(text) }
}

/** A configuration on free ports, with a drain that does not make tests wait. */
export async function configWith(settings: object) {
  const quick = {
    auth: 'none',
    edge: { port: 0, drain: { idleMs: 0, timeoutMs: 5_000 } },
    metrics: { port: 0 },
    admin: { port: 0 },
    log: { level: 'silent' },
    ...settings,
  }
  const folder = await folderWith({ 'penstock.yaml': stringify(quick) })
  const loaded = await loadConfig(join(folder, 'penstock.yaml'))
  if ('mistakes' in loaded) throw new Error(loaded.mistakes.map(showMistake).join('\n'))
  return loaded
}

/** One input tensor of an inference request. */
export function tensor(name: string, datatype: string, shape: readonly number[], data: readonly unknown[]) {
  return { name, datatype, shape, data }
}
