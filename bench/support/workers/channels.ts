/** What a batch costs on its way to a worker and back, be the worker a thread or a process. */
import { identity } from '../../../test/support/onnx.ts'
import type { Work } from '../../../src/core/run.ts'
import type { Graph, GraphPort, Port, Program } from '../../../src/core/signature.ts'
import { workerOptions, type Isolation } from '../../../src/runtime/options.ts'
import { Worker } from '../../../src/runtime/worker.ts'
import type { TitledTable } from '../bench.ts'
import { childrenOf } from '../gauges.ts'
import { medianOf, round } from '../interleave.ts'
import { percentilesOf } from '../open-loop/tally.ts'
import { cpuMsOf } from '../processes.ts'
import { makeStore } from '../store.ts'

const isolations = ['thread', 'process'] as const
const sizes = [
  { name: '2 KB', floats: 512 },
  { name: '600 KB', floats: 150_000 },
] as const
const flights = [1, 2] as const

export interface ChannelPace {
  readonly rounds: number
  readonly sliceMs: number
}

interface Cost {
  readonly p50Us: number
  /** Of both sides together. */
  readonly cpuUs: number
  readonly perSecond: number
}

export interface ChannelFigures {
  readonly figures: Readonly<Record<string, Cost>>
  readonly table: TitledTable
}

interface Rig {
  readonly worker: Worker
  readonly program: Program
  /** Of the process, if it is one. */
  readonly pid: number | undefined
}

export async function measureChannels({ rounds, sliceMs }: ChannelPace): Promise<ChannelFigures> {
  await using store = await makeStore({ same: identity('FP32', ['n', 'w']) })
  const rigs = {
    thread: await start('thread', store.fileOf('same')),
    process: await start('process', store.fileOf('same')),
  }
  const found = new Map<string, Cost[]>()
  for (let turn = 0; turn < rounds; turn++) {
    for (const size of sizes) {
      for (const flight of flights) {
        for (const isolation of turn % 2 === 0 ? isolations : isolations.toReversed()) {
          const cost = await slice(rigs[isolation], workOf(size.floats), { flight, ms: sliceMs })
          const key = keyOf(isolation, size.name, flight)
          found.set(key, [...(found.get(key) ?? []), cost])
        }
      }
    }
  }
  for (const { worker } of Object.values(rigs)) {
    worker.leave()
    await worker.gone
  }
  const medians = new Map([...found].map(([key, costs]) => [key, middle(costs)]))
  return { figures: Object.fromEntries(medians), table: tableOf(medians) }
}

async function start(isolation: Isolation, file: string): Promise<Rig> {
  const options = workerOptions.parse({ isolation })
  const before = new Set(childrenOf(process.pid))
  const worker = new Worker(options, ({ reason }) => process.stderr.write(`the worker died: ${reason}\n`))
  const loaded = await worker.load(file, options)
  if ('problem' in loaded) throw new Error(loaded.problem)
  const pid = isolation === 'process' ? childrenOf(process.pid).find((child) => !before.has(child)) : undefined
  return { worker, program: programOf(loaded.graph), pid }
}

function programOf({ inputs, outputs }: Graph): Program {
  const portOf = (graph: GraphPort): Port => ({ spec: graph, graph })
  const ports = { inputs: inputs.map(portOf), outputs: outputs.map(portOf) }
  return { ...ports, id: 0, batched: true, runRows: 64, repeatable: true, padding: new Map() }
}

function workOf(floats: number): Work {
  const data = new Float32Array(floats).fill(1)
  return { inputs: [{ name: 'x', datatype: 'FP32', shape: [1, floats], data }], rows: 1, key: '' }
}

interface Load {
  /** Batches under way at once. */
  readonly flight: number
  readonly ms: number
}

async function slice({ worker, program, pid }: Rig, work: Work, { flight, ms }: Load): Promise<Cost> {
  const latencies: number[] = []
  const cpuMs = () => {
    const { user, system } = process.cpuUsage()
    return (user + system) / 1_000 + (pid === undefined ? 0 : cpuMsOf(pid))
  }
  const line = async (endAt: number) => {
    for (let now = performance.now(); now < endAt;) {
      const ran = await worker.run(program, [work])
      if (ran.kind !== 'done') throw new Error(`a batch that should run did not: ${ran.kind}`)
      const doneAt = performance.now()
      latencies.push(doneAt - now)
      now = doneAt
    }
  }
  const lines = (forMs: number) => {
    const endAt = performance.now() + forMs
    return Promise.all(Array.from({ length: flight }, () => line(endAt)))
  }
  await lines(ms / 5)
  latencies.length = 0
  const [cpuBefore, startedAt] = [cpuMs(), performance.now()]
  await lines(ms)
  const [cpu, took] = [cpuMs() - cpuBefore, performance.now() - startedAt]
  const batches = latencies.length
  const { p50 } = percentilesOf(latencies)
  return { p50Us: 1_000 * p50, cpuUs: (1_000 * cpu) / batches, perSecond: (1_000 * batches) / took }
}

function middle(costs: readonly Cost[]): Cost {
  const of = (what: keyof Cost) => round(medianOf(costs.map((cost) => cost[what])), 0)
  return { p50Us: of('p50Us'), cpuUs: of('cpuUs'), perSecond: of('perSecond') }
}

function keyOf(isolation: Isolation, size: string, flight: number): string {
  return `${isolation} ${size} x${flight}`
}

function tableOf(medians: ReadonlyMap<string, Cost>): TitledTable {
  const rows = sizes.flatMap(({ name }) =>
    flights.map((flight) => {
      const cells = isolations.map((isolation) => medians.get(keyOf(isolation, name, flight))!)
      const both = (what: keyof Cost) => cells.map((cost) => String(cost[what])).join(' / ')
      return [name, String(flight), both('p50Us'), both('cpuUs'), both('perSecond')]
    }),
  )
  const head = ['batch', 'under way', 'p50 µs, thread / process', 'CPU µs of both sides', 'batches a second']
  return { title: 'A batch to a worker and back, through a model that does nothing', table: { head, rows } }
}
