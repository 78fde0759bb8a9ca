/** What a model of some 30 MB that is loaded again and again does to another that is served meanwhile. */
import { setTimeout as pause } from 'node:timers/promises'
import { onnx } from '../../../test/support/onnx.ts'
import type { Isolation } from '../../../src/runtime/options.ts'
import type { TitledTable } from '../bench.ts'
import { workersAre } from '../gauges.ts'
import { medianOf, round, roundSpread, showSpread, spreadOf, type Spread } from '../interleave.ts'
import { largeModel, largeWidth } from '../large-model.ts'
import { LoadGenerator, sendOnce } from '../load.ts'
import type { Percentiles } from '../open-loop/tally.ts'
import { OpenLoadGenerator, soundly, sumOf } from '../open-load.ts'
import type { GatewayProcess } from '../processes.ts'
import { binaryRequest, type HttpRequest } from '../requests.ts'
import { makeStore, served } from '../store.ts'
import { startGateway, throughput } from '../surge.ts'

const victim = 'victim'
export const large = 'large'
/** Of the closed loop's throughput. */
const share = 0.3
const victimWidth = 64

export interface LoadingPace {
  readonly pairs: number
  readonly sliceMs: number
  readonly warmUpMs: number
}

interface Slice {
  readonly ms: Percentiles
  /** How long each load took whoever asked for it. */
  readonly loadsMs: readonly number[]
}

export interface LoadingFigures {
  readonly p50Ratio: Spread
  readonly p99Ratio: Spread
  readonly figures: object
  readonly row: readonly string[]
}

export const largeRequest: HttpRequest = binaryRequest(large, {
  name: 'x',
  datatype: 'FP32',
  shape: [1, largeWidth],
  data: new Uint8Array(new Float32Array(largeWidth).fill(1).buffer),
})

/** Gives the sum of its numbers. */
function victimModel(): Buffer {
  return onnx({
    inputs: [{ name: 'x', type: 'FP32', shape: ['n', victimWidth] }],
    outputs: [{ name: 'y', type: 'FP32', shape: ['n', 1] }],
    constants: [
      { name: 'ones', type: 'FP32', shape: [victimWidth, 1], data: Array.from({ length: victimWidth }, () => 1) },
    ],
    nodes: [{ op: 'MatMul', inputs: ['x', 'ones'], outputs: ['y'] }],
  })
}

export async function measureLoading(
  isolation: Isolation,
  pace: LoadingPace,
  say: (line: string) => void,
): Promise<LoadingFigures> {
  await using store = await makeStore({ [victim]: victimModel(), [large]: largeModel() })
  const models = served([victim, large], { [large]: { worker: { isolation }, unloadAfterS: 0.1 } })
  await using gateway = await startGateway({ models, store: { path: store.path } })
  const data = new Uint8Array(new Float32Array(victimWidth).fill(1).buffer)
  const request = binaryRequest(victim, { name: 'x', datatype: 'FP32', shape: [1, victimWidth], data })
  await using closed = new LoadGenerator()
  const load = await closed.open(gateway, { wire: 'http', connections: 16 }, request)
  await throughput(load, pace.warmUpMs)
  const capacity = await throughput(load, pace.warmUpMs)
  await load.close()
  await using generator = new OpenLoadGenerator()
  const callers = [{ address: '127.0.0.1', connections: 64, waits: true }]
  const open = await generator.open(gateway, { ...request, deadlineMs: Infinity, callers })
  const slice = async (loading: boolean): Promise<Slice> => {
    await workersAre(gateway, large, 0)
    const stop = new AbortController()
    const loads = loading ? keepLoading(gateway, stop.signal) : Promise.resolve([])
    const order = { ms: pace.sliceMs, ratesPerSecond: [share * capacity], precise: false }
    const { callers: reports } = (await soundly(() => open.run(order))).report
    stop.abort()
    const loadsMs = await loads
    if (sumOf(reports, 'ok') < sumOf(reports, 'offered')) throw new Error('requests fail, so there is no figure')
    return { ms: reports[0]!.servedMs, loadsMs }
  }
  await slice(true)
  const pairs: { calm: Slice; loading: Slice }[] = []
  while (pairs.length < pace.pairs) {
    const calmFirst = pairs.length % 2 === 0
    const first = await slice(!calmFirst)
    const second = await slice(calmFirst)
    const pair = calmFirst ? { calm: first, loading: second } : { calm: second, loading: first }
    pairs.push(pair)
    say(`  ${isolation}: without ${show(pair.calm)}; with ${show(pair.loading)}`)
  }
  return figuresOf(isolation, capacity, pairs)
}

/** One request brings it back; then it is left alone until it is gone. */
async function keepLoading(gateway: GatewayProcess, stop: AbortSignal): Promise<number[]> {
  const loadsMs: number[] = []
  while (!stop.aborted) {
    const askedAt = performance.now()
    await sendOnce(gateway, largeRequest)
    loadsMs.push(performance.now() - askedAt)
    await pause(100)
    await workersAre(gateway, large, 0)
  }
  return loadsMs
}

function figuresOf(isolation: Isolation, capacity: number, pairs: readonly { calm: Slice; loading: Slice }[]) {
  const ratio = (what: keyof Percentiles) =>
    spreadOf(pairs.map(({ calm, loading }) => loading.ms[what] / calm.ms[what]))
  const of = (which: 'calm' | 'loading', what: keyof Percentiles) =>
    round(medianOf(pairs.map((pair) => pair[which].ms[what])), 2)
  const [p50Ratio, p99Ratio] = [ratio('p50'), ratio('p99')]
  const loadsMs = pairs.flatMap(({ loading }) => loading.loadsMs)
  const took = spreadOf(loadsMs)
  const ratesPerS = [capacity, share * capacity].map((each) => each.toFixed(0))
  return {
    p50Ratio,
    p99Ratio,
    figures: {
      p50Ratio: roundSpread(p50Ratio),
      p99Ratio: roundSpread(p99Ratio),
      loads: loadsMs.length,
      loadMs: roundSpread(took),
    },
    row: [
      isolation,
      `${ratesPerS[1]} of ${ratesPerS[0]}`,
      String(loadsMs.length),
      `${took.median.toFixed(0)} (${took.min.toFixed(0)}..${took.max.toFixed(0)})`,
      `${of('calm', 'p50')} / ${of('loading', 'p50')}`,
      `${of('calm', 'p99')} / ${of('loading', 'p99')}`,
      showSpread(p50Ratio),
      showSpread(p99Ratio),
    ],
  }
}

export function loadingTable(all: readonly LoadingFigures[]): TitledTable {
  const head = [
    'large model in a',
    'requests a second',
    'loads',
    'ms each',
    'p50 ms without / with',
    'p99 ms without / with',
  ]
  return {
    title: 'A small model beside a large one that is loaded again and again',
    table: { head: [...head, 'p50 ratio', 'p99 ratio'], rows: all.map(({ row }) => row) },
  }
}

function show({ ms: { p50, p99 }, loadsMs }: Slice): string {
  const loads = loadsMs.length > 0 ? `, ${loadsMs.length} loads of ${medianOf(loadsMs).toFixed(0)} ms` : ''
  return `p50 ${p50.toFixed(2)} p99 ${p99.toFixed(2)} ms${loads}`
}
