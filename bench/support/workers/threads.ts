/** What more threads in a run, and threads that spin, are worth: rows a second and CPU for each. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { TitledTable } from '../bench.ts'
import { makeHeavyModel } from '../heavy-model.ts'
import { medianOf, round, roundSpread, showSpread, spreadOf, type Slice } from '../interleave.ts'
import { LoadGenerator, type Load } from '../load.ts'
import { repository } from '../processes.ts'
import { binaryRequest, type HttpRequest } from '../requests.ts'
import { startGateway } from '../surge.ts'

export interface ThreadsPace {
  readonly rounds: number
  readonly sliceMs: number
}

const kinds = [
  { name: '1', worker: { threads: 1, spinning: false } },
  { name: '2', worker: { threads: 2, spinning: false } },
  { name: '2, spinning', worker: { threads: 2, spinning: true } },
] as const

interface Subject {
  readonly name: string
  readonly settings: object
  readonly request: HttpRequest
  readonly rows: number
  readonly connections: number
}

export interface ThreadsFigures {
  readonly figures: object
  readonly table: TitledTable
}

export async function measureThreads(pace: ThreadsPace, say: (line: string) => void): Promise<ThreadsFigures> {
  await using heavy = await makeHeavyModel()
  const { name, version, store, request } = heavy
  const subjects: Subject[] = [
    await digits(),
    {
      name: 'heavy',
      settings: { models: { [name]: { version } }, store: { path: store } },
      request,
      rows: 1,
      connections: 64,
    },
  ]
  const figures: Record<string, object> = {}
  const rows: string[][] = []
  for (const subject of subjects) {
    const slices = await measureSubject(subject, pace)
    for (const [i, { name: threads }] of kinds.entries()) {
      const rate = compare(slices, i, (slice) => slice.work / slice.ms)
      const cpu = compare(slices, i, (slice) => slice.cpuMs / slice.work)
      const perS = medianOf(slices.map((turn) => (turn[i]!.work * subject.rows * 1_000) / turn[i]!.ms))
      const cpuUs = medianOf(slices.map((turn) => (turn[i]!.cpuMs * 1_000) / turn[i]!.work / subject.rows))
      figures[`${subject.name} ${threads}`] = {
        rate: roundSpread(rate),
        cpu: roundSpread(cpu),
        rowsPerS: round(perS, 0),
      }
      rows.push([subject.name, threads, perS.toFixed(0), cpuUs.toFixed(0), showSpread(rate), showSpread(cpu)])
      say(`  ${rows.at(-1)!.join('; ')}`)
    }
  }
  const head = [
    'model',
    'threads',
    'rows a second',
    'CPU µs a row',
    'rows a second over 1 thread',
    'CPU a row over 1 thread',
  ]
  return { figures, table: { title: 'Threads in a run, under a saturating closed loop', table: { head, rows } } }
}

async function digits(): Promise<Subject> {
  const rows = 64
  const text = await readFile(join(repository, 'config/models/digits/2/samples/seven.json'), 'utf8')
  const { inputs } = JSON.parse(text) as { inputs: { name: string; data: number[] }[] }
  const [input] = inputs
  const one = Uint8Array.from(input!.data)
  const data = new Uint8Array(rows * one.length)
  for (let i = 0; i < rows; i++) data.set(one, i * one.length)
  const request = binaryRequest('digits', { name: input!.name, datatype: 'UINT8', shape: [rows, 1, 28, 28], data })
  return { name: 'digits', settings: { models: { digits: { version: '2' } } }, request, rows, connections: 4 }
}

type Timed = Slice & { readonly ms: number }

/** Rounds of one slice of each kind, forth and back. */
async function measureSubject(subject: Subject, { rounds, sliceMs }: ThreadsPace): Promise<Timed[][]> {
  await using ends = new AsyncDisposableStack()
  const generator = ends.use(new LoadGenerator())
  const loads: Load[] = []
  for (const { worker } of kinds) {
    const gateway = ends.use(await startGateway({ ...subject.settings, runtime: { worker } }))
    const load = await generator.open(gateway, { wire: 'http', connections: subject.connections }, subject.request)
    loads.push(load)
    await load.slice(sliceMs)
  }
  const slices: Timed[][] = []
  for (let i = 0; i < rounds; i++) {
    const turn: Timed[] = []
    for (const at of i % 2 === 0 ? [0, 1, 2] : [2, 1, 0]) {
      const before = performance.now()
      const slice = await loads[at]!.slice(sliceMs)
      if (slice.bad > 0) throw new Error('requests fail, so there is no figure')
      turn[at] = { ...slice, ms: performance.now() - before }
    }
    slices.push(turn)
  }
  return slices
}

function compare(slices: readonly Timed[][], kind: number, of: (slice: Timed) => number) {
  return spreadOf(slices.map((turn) => of(turn[kind]!) / of(turn[0]!)))
}
