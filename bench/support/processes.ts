/** Processes under measurement: how they start and stop, what they have used, and on which cores they run. */
import { execFileSync, fork, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Certificates } from './certificates.ts'

export const repository = join(import.meta.dirname, '../..')

/** /proc counts in ticks of USER_HZ, which is 100 on every Linux that Node runs on. */
const msPerTick = 10

/** CPU time of a process and all its threads since its start, in user space and in the kernel. */
export function cpuMsOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  // The second field is the name in brackets, which may hold anything; the third is the first after the last bracket.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) * msPerTick
}

/** Memory of a process that is in RAM, in bytes. */
export function residentBytesOf(pid: number): number {
  const [, pages = '0'] = readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')
  return Number(pages) * 4_096
}

export const everyCore = `0-${availableParallelism() - 1}`

/** What a program says when it is run. */
export function outputOf(program: string, ...args: readonly string[]): string {
  return execFileSync(program, args, { cwd: repository, encoding: 'utf8' }).trim()
}

/** Keeps every thread of a process, and those it will start, to some cores: "0", "0-1". */
export function pin(pid: number, cores: string): void {
  try {
    outputOf('taskset', '-a', '-c', '-p', cores, String(pid))
  } catch (error) {
    throw new Error('cannot pin: is `taskset` (util-linux) there?', { cause: error })
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill('SIGTERM')
  await once(child, 'exit')
}

/** A helper of ours in a process of its own that answers one message at a time. */
export class Peer implements AsyncDisposable {
  readonly pid: number
  readonly #child: ChildProcess

  /** `flags` are Node's own. */
  constructor(file: URL, flags: readonly string[] = []) {
    this.#child = fork(file, { serialization: 'advanced', execArgv: [...flags] })
    this.pid = this.#child.pid!
  }

  ask<Reply>(question: object): Promise<Reply> {
    const child = this.#child
    return new Promise((resolve, reject) => {
      const done = (answer: unknown) => {
        child.off('exit', died)
        resolve(answer as Reply)
      }
      const died = (code: number | null) => reject(new Error(`a helper of the bench ended with code ${code}`))
      child.once('message', done)
      child.once('exit', died)
      child.send(question)
    })
  }

  [Symbol.asyncDispose](): Promise<void> {
    return end(this.#child)
  }
}

/** The gateway as users start it, over the repository's own models. */
export class GatewayProcess implements AsyncDisposable {
  readonly pid: number
  readonly port: number
  readonly metricsPort: number
  readonly adminPort: number
  readonly #child: ChildProcess
  readonly #folder: string

  readonly ca: string | undefined

  private constructor(child: ChildProcess, { folder, ca }: Place, [port, metricsPort, adminPort]: readonly number[]) {
    this.#child = child
    this.#folder = folder
    this.ca = ca
    this.pid = child.pid!
    this.port = port!
    this.metricsPort = metricsPort!
    this.adminPort = adminPort!
  }

  /** `settings` go on top of the defaults, and `edge` on top of theirs. With certificates it speaks HTTPS. */
  static async start(settings: object, edge: object = {}, certificates?: Certificates): Promise<GatewayProcess> {
    const folder = await mkdtemp(join(tmpdir(), 'penstock-bench-'))
    const tls = certificates && { tls: { certificates: [{ cert: 'cert.pem', key: 'key.pem' }] } }
    for (const name of ['cert', 'key'] as const) {
      if (certificates) await writeFile(join(folder, `${name}.pem`), certificates[name])
    }
    const config = {
      auth: 'none',
      edge: { port: 0, drain: { idleMs: 0 }, ...tls, ...edge },
      metrics: { port: 0 },
      admin: { port: 0 },
      store: { path: join(repository, 'config/models') },
      ...settings,
    }
    const file = join(folder, 'penstock.yaml')
    // JSON is YAML.
    await writeFile(file, JSON.stringify(config))
    // For a profile: BENCH_NODE_FLAGS='--cpu-prof --cpu-prof-dir=/tmp/profile'.
    const flags = process.env['BENCH_NODE_FLAGS']?.split(' ') ?? []
    const child = spawn(process.execPath, [...flags, join(repository, 'src/main.ts'), 'serve', file], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    return new GatewayProcess(child, { folder, ca: certificates?.ca }, await portsIn(child))
  }

  /** Runs so far, and the rows in them, from the gateway's own metrics. */
  async batches(model: string, version: string): Promise<{ runs: number; rows: number }> {
    const value = await this.#metrics()
    const of = (what: string) => value(`penstock_batch_rows_${what}{model="${model}",version="${version}"}`)
    return { runs: of('count'), rows: of('sum') }
  }

  /** The latest that the event loop has come since this was asked last. Its clock ticks every 10 ms, which do not count. */
  async longestStallMs(): Promise<number> {
    const value = await this.#metrics()
    return Math.max(0, value('nodejs_eventloop_lag_max_seconds') * 1_000 - 10)
  }

  async #metrics(): Promise<(series: string) => number> {
    const response = await fetch(`http://127.0.0.1:${this.metricsPort}/metrics`)
    const lines = (await response.text()).split('\n')
    return (series) => {
      const line = lines.find((each) => each.startsWith(`${series} `))
      return Number(line?.slice(line.lastIndexOf(' ')) ?? 0)
    }
  }

  /** Tells it to stop as an orchestrator does; settles with its exit code. */
  stop(): Promise<number | null> {
    const ended = once(this.#child, 'exit').then(([code]) => code as number | null)
    this.#child.kill('SIGTERM')
    return ended
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await end(this.#child)
    await rm(this.#folder, { recursive: true, force: true })
  }
}

interface Place {
  readonly folder: string
  readonly ca: string | undefined
}

/** The ports in what the gateway says when it is ready. */
function portsIn(child: ChildProcess): Promise<number[]> {
  return new Promise((resolve, reject) => {
    let said = ''
    child.on('exit', () => reject(new Error(`the gateway did not start: ${said}`)))
    child.stdout!.on('data', (chunk: Buffer) => {
      said += chunk.toString()
      const ports = / at https?:\S+:(\d+), metrics at http:\S+:(\d+)\/metrics, status at http:\S+:(\d+)\//.exec(said)
      if (ports) resolve(ports.slice(1).map(Number))
    })
  })
}
