/** Penstock as a process of its own, for tests of start-up, signals and exit codes. */
import { spawn, type ChildProcess } from 'node:child_process'
import type { TestContext } from 'node:test'
import { repository } from './gateway.ts'

export interface Finished {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

export interface Spawned {
  readonly child: ChildProcess
  readonly finished: Promise<Finished>
  /** Settles with what was written to stdout so far once it matches. */
  said(pattern: RegExp): Promise<RegExpExecArray>
}

/** Runs `penstock` with arguments; ends it with the test if it still runs. */
export function penstock(t: TestContext, args: readonly string[], cwd: string = repository): Spawned {
  const child = spawn(process.execPath, [`${repository}/src/main.ts`, ...args], {
    cwd,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  t.after(() => child.kill('SIGKILL'))
  let stdout = ''
  let stderr = ''
  const watchers = new Set<() => void>()
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString()
    for (const watch of watchers) watch()
  })
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
  const finished = new Promise<Finished>((resolve) => {
    child.on('close', (code, signal) => resolve({ code, signal, stdout, stderr }))
  })
  const said = (pattern: RegExp) =>
    new Promise<RegExpExecArray>((resolve, reject) => {
      const watch = () => {
        const found = pattern.exec(stdout)
        if (found) resolve(found)
      }
      watchers.add(watch)
      watch()
      void finished.then(() => reject(new Error(`it ended without saying ${pattern}: ${stdout}${stderr}`)))
    })
  return { child, finished, said }
}

/** Settings of a gateway in a process of its own, on free ports and with a drain that does not make tests wait. */
export const settingsAlone = {
  auth: 'none',
  edge: { port: 0, drain: { idleMs: 0, timeoutMs: 5_000 } },
  metrics: { port: 0 },
  admin: { port: 0 },
  store: { path: 'models' },
  runtime: { executors: 1 },
  log: { level: 'silent' },
}
