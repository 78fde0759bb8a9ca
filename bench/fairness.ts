/** What a caller who keeps within its share notices of another who floods. */
import type { Bench, BenchOptions, Report } from './support/bench.ts'
import { makeHeavyModel, type HeavyModel } from './support/heavy-model.ts'
import { medianOf, round, roundSpread, showSpread, spreadOf } from './support/interleave.ts'
import { LoadGenerator } from './support/load.ts'
import type { RunReport } from './support/open-loop/generator.ts'
import type { CallerReport } from './support/open-loop/tally.ts'
import { OpenLoadGenerator, showRun, soundly, sumOf, type OpenLoad } from './support/open-load.ts'
import type { GatewayProcess } from './support/processes.ts'
import { startGateway, throughput } from './support/surge.ts'

const deadlineMs = 200
/** Of the capacity, for each caller. The fair share of four is a quarter. */
const steadyRate = 0.2
const floodRate = 4
const limits = { goodput: 0.95, p99Ratio: 1.5 }

const steadyCallers = ['127.0.0.2', '127.0.0.3', '127.0.0.4'].map((address) => ({
  address,
  connections: 192,
  waits: true,
}))
const flooder = { address: '127.0.0.5', connections: 960, waits: true }

export const fairness: Bench = {
  name: 'fairness',
  question: 'what three callers within their share get, and how fast, while a fourth offers four times the capacity',
  measure,
}

interface Pace {
  readonly pairs: number
  readonly sliceMs: number
  readonly warmUpMs: number
}

const fullPace: Pace = { pairs: 8, sliceMs: 4_000, warmUpMs: 4_000 }
const quickPace: Pace = { pairs: 2, sliceMs: 2_000, warmUpMs: 1_500 }

interface Pair {
  readonly calm: RunReport
  readonly flood: RunReport
}

interface Rig {
  readonly open: OpenLoad
  readonly capacity: number
  readonly pace: Pace
  readonly say: BenchOptions['say']
}

async function measure({ quick, say }: BenchOptions): Promise<Report> {
  const pace = quick ? quickPace : fullPace
  await using model = await makeHeavyModel()
  const { name, version, store, request, rowMs } = model
  await using gateway = await startGateway({ models: { [name]: { version } }, store: { path: store } })
  const capacity = await capacityOf(gateway, model, pace)
  say(`  ${rowMs.toFixed(2)} ms a row without a gateway; capacity ${capacity.toFixed(0)}/s`)
  await using generator = new OpenLoadGenerator()
  const open = await generator.open(gateway, { ...request, deadlineMs, callers: [...steadyCallers, flooder] })
  return report(await measurePairs({ open, capacity, pace, say }), capacity)
}

async function capacityOf(gateway: GatewayProcess, model: HeavyModel, { warmUpMs }: Pace): Promise<number> {
  await using generator = new LoadGenerator()
  const load = await generator.open(gateway, { wire: 'http', connections: 64 }, model.request)
  await throughput(load, warmUpMs)
  return await throughput(load, warmUpMs)
}

/** The capacity is that of the beginning: what is compared are slices that offer the same. */
async function measurePairs({ open, capacity, pace, say }: Rig): Promise<{ pairs: Pair[]; voided: number }> {
  let voided = 0
  const slice = async (last: number, ms: number) => {
    const shares = [...steadyCallers.map(() => steadyRate), last]
    const sound = await soundly(() => open.run({ ms, ratesPerSecond: shares.map((share) => share * capacity) }))
    voided += sound.voided
    return sound.report
  }
  await slice(floodRate, pace.warmUpMs)
  const pairs: Pair[] = []
  while (pairs.length < pace.pairs) {
    const calmFirst = pairs.length % 2 === 0
    const first = await slice(calmFirst ? steadyRate : floodRate, pace.sliceMs)
    const second = await slice(calmFirst ? floodRate : steadyRate, pace.sliceMs)
    const pair = calmFirst ? { calm: first, flood: second } : { calm: second, flood: first }
    pairs.push(pair)
    say(showPair(pair))
  }
  return { pairs, voided }
}

function steadyOf({ callers }: RunReport): readonly CallerReport[] {
  return callers.slice(0, steadyCallers.length)
}

/** Of the worst off, goodput over what it offered. */
function worstGoodput(run: RunReport): number {
  return Math.min(...steadyOf(run).map(({ ok, offered }) => ok / offered))
}

function steadyP99Ms(run: RunReport): number {
  return medianOf(steadyOf(run).map(({ servedMs }) => servedMs.p99))
}

/** Jain's index of what each got of what it offered: 1 if all got the same, 1/n if one got everything. */
function jainIndex(callers: readonly CallerReport[]): number {
  const shares = callers.map(({ ok, offered }) => ok / offered)
  const sum = shares.reduce((total, share) => total + share, 0)
  const squares = shares.reduce((total, share) => total + share ** 2, 0)
  return squares > 0 ? sum ** 2 / (shares.length * squares) : NaN
}

function flooderShare({ callers }: RunReport): number {
  return callers.at(-1)!.ok / sumOf(callers, 'ok')
}

function totalOverCapacity({ callers, ms }: RunReport, capacity: number): number {
  return (sumOf(callers, 'ok') * 1_000) / ms / capacity
}

function report({ pairs, voided }: { pairs: readonly Pair[]; voided: number }, capacity: number): Report {
  const floods = pairs.map(({ flood }) => flood)
  const calms = pairs.map(({ calm }) => calm)
  const goodput = spreadOf(floods.map(worstGoodput))
  const p99Ratio = spreadOf(pairs.map(({ calm, flood }) => steadyP99Ms(flood) / steadyP99Ms(calm)))
  const over = (runs: readonly RunReport[], of: (run: RunReport) => number) => round(medianOf(runs.map(of)))
  const rowFor = (name: string, runs: readonly RunReport[]) => [
    name,
    showSpread(spreadOf(runs.map(worstGoodput))),
    String(over(runs, steadyP99Ms)),
    String(over(runs, (run) => jainIndex(steadyOf(run)))),
    String(over(runs, flooderShare)),
    String(over(runs, (run) => totalOverCapacity(run, capacity))),
  ]
  return {
    figures: {
      goodput: roundSpread(goodput),
      p99Ratio: roundSpread(p99Ratio),
      calmGoodput: over(calms, worstGoodput),
      calmP99Ms: over(calms, steadyP99Ms),
      floodP99Ms: over(floods, steadyP99Ms),
      jainIndex: over(floods, (run) => jainIndex(steadyOf(run))),
      flooderShare: over(floods, flooderShare),
      totalOverCapacity: over(floods, (run) => totalOverCapacity(run, capacity)),
      capacityPerS: round(capacity, 0),
      voided,
    },
    targets: { goodput: `>= ${limits.goodput}`, p99Ratio: `<= ${limits.p99Ratio}` },
    pass: goodput.median >= limits.goodput && p99Ratio.median <= limits.p99Ratio,
    table: { head, rows: [rowFor('offers 0.2', calms), rowFor(`offers ${floodRate}`, floods)] },
    notes: [
      `Open loop, Poisson, deadline ${deadlineMs} ms, a model of more than a millisecond a row. Three callers offer ${steadyRate} of the` +
        ' capacity each, from addresses of their own; alternating slices differ in what the fourth offers. p99 is of all answers' +
        ` with 200, the middle one of the three; with the flood over without: ${showSpread(p99Ratio)}. Void slices: ${voided}.`,
    ],
  }
}

const head = [
  'the fourth',
  'goodput over offered, of the worst of the three',
  'their p99 ms',
  "Jain's index of the three",
  "the fourth's share of all goodput",
  'all goodput over capacity',
]

function showPair({ calm, flood }: Pair): string {
  const worst = `worst of the three ${worstGoodput(calm).toFixed(2)}, with the flood ${worstGoodput(flood).toFixed(2)}`
  const p99 = `p99 ${steadyP99Ms(calm).toFixed(0)} ms, ${steadyP99Ms(flood).toFixed(0)}`
  return `  ${worst}; ${p99}; ${showRun(flood)}`
}
