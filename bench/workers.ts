/** What workers cost: the way to them, their loads and unloads, and more threads in a run. */
import type { Bench, BenchOptions, Report } from './support/bench.ts'
import { round } from './support/interleave.ts'
import { largeMb } from './support/large-model.ts'
import { measureChannels, type ChannelFigures, type ChannelPace } from './support/workers/channels.ts'
import { cyclesTable, measureCycles, type CyclesFigures } from './support/workers/cycles.ts'
import { loadingTable, measureLoading, type LoadingFigures, type LoadingPace } from './support/workers/loading.ts'
import { measureThreads, type ThreadsFigures, type ThreadsPace } from './support/workers/threads.ts'

const maxP99Ratio = 1.25
const isolations = ['thread', 'process'] as const

export const workers: Bench = {
  name: 'workers',
  question: 'what a batch to a thread or a process costs, and what loads do to neighbours and to memory',
  measure,
}

interface Pace {
  readonly channels: ChannelPace
  readonly loading: LoadingPace
  /** Memory is read after so many loads and unloads. */
  readonly cycles: readonly number[]
  readonly threads: ThreadsPace
}

const fullPace: Pace = {
  channels: { rounds: 5, sliceMs: 1_000 },
  loading: { pairs: 8, sliceMs: 6_000, warmUpMs: 3_000 },
  cycles: [20, 50, 100, 200],
  threads: { rounds: 6, sliceMs: 2_500 },
}
const quickPace: Pace = {
  channels: { rounds: 2, sliceMs: 200 },
  loading: { pairs: 2, sliceMs: 3_000, warmUpMs: 1_000 },
  cycles: [5, 10, 20],
  threads: { rounds: 2, sliceMs: 700 },
}

async function measure({ quick, say }: BenchOptions): Promise<Report> {
  const pace = quick ? quickPace : fullPace
  const channels = await measureChannels(pace.channels)
  for (const [what, cost] of Object.entries(channels.figures)) say(`  ${what}: ${JSON.stringify(cost)}`)
  const loading: LoadingFigures[] = []
  for (const isolation of isolations) loading.push(await measureLoading(isolation, pace.loading, say))
  // Memory is no matter of time: both at once.
  const cycles = await Promise.all(isolations.map((isolation) => measureCycles(isolation, pace.cycles, say)))
  const threads = await measureThreads(pace.threads, say)
  return report({ channels, loading, cycles, threads })
}

interface Measured {
  readonly channels: ChannelFigures
  readonly loading: readonly LoadingFigures[]
  readonly cycles: readonly CyclesFigures[]
  readonly threads: ThreadsFigures
}

function report({ channels, loading, cycles, threads }: Measured): Report {
  const [thread, process] = loading
  const growth = cycles.map(({ isolation, grewMb }) => [isolation, round(grewMb, 0)])
  return {
    figures: {
      channels: channels.figures,
      loading: { thread: thread!.figures, process: process!.figures },
      grewMb: Object.fromEntries(growth),
      threads: threads.figures,
    },
    targets: {
      'loading.thread.p99Ratio': `<= ${maxP99Ratio}`,
      'loading.process.p99Ratio': `<= ${maxP99Ratio}`,
      grewMb: '<= 20, or a tenth of what it was',
    },
    pass:
      loading.every(({ p99Ratio }) => p99Ratio.median <= maxP99Ratio) &&
      cycles.every(({ grewMb, mayGrowMb }) => grewMb <= mayGrowMb),
    table: channels.table.table,
    tables: [loadingTable(loading), cyclesTable(cycles), threads.table],
    notes: notesOn(cycles),
  }
}

function notesOn(cycles: readonly CyclesFigures[]): string[] {
  return [
    'First table: the channel alone, without the front door; batches of one row through Identity, in turns. CPU is that of the' +
      " gateway's side and the worker's together. For information, as is the last table.",
    `The large model multiplies its row by a matrix of ${largeMb.toFixed(0)} MB. It is unloaded when nobody has asked for it in 0.1 s, and one` +
      ' request brings it back, again and again in the slices with loads; how long a load takes is how long that request waits, its' +
      ' warm-up with batches of all sizes included. The small model gets 0.3 of what it can do at the most, open loop, Poisson.',
    `Cycles: ${cycles.at(0)!.residentMb.at(-1)![0]} loads and unloads, each by a request; memory is read when nothing is loaded.`,
  ]
}
