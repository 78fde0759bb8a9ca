/** What is left of the throughput when twice as much is asked for as can be done, every request with a deadline. */
import type { Bench, BenchOptions, Report } from './support/bench.ts'
import { makeHeavyModel } from './support/heavy-model.ts'
import { medianOf, round, roundSpread, showSpread } from './support/interleave.ts'
import { goodputOf, isSound, showRun, soundly, type OpenLoad } from './support/open-load.ts'
import { tabular, tabularRequest } from './support/requests.ts'
import { startRig, surge, throughput, type Surge, type SurgePace } from './support/surge.ts'

const deadlineMs = 50
const factor = 2
const minGoodput = { model: 0.9, edge: 0.8 }
const maxRefusalMs = 5
const maxMemory = 1.1
/** Of the closed loop's throughput: where the peak of the open loop is looked for. */
const steps = [0.6, 0.75, 0.9, 1.05, 1.2, 1.35, 1.5]

export const overload: Bench = {
  name: 'overload',
  question: `goodput at ${factor} times the load that can be served, with a deadline of ${deadlineMs} ms, over the most there is`,
  measure,
}

interface Pace extends SurgePace {
  readonly stepMs: number
  /** How often all the steps are gone through. */
  readonly passes: number
}

const fullPace: Pace = { pairs: 7, referenceMs: 3_000, surgeMs: 4_000, warmUpMs: 20_000, stepMs: 1_500, passes: 3 }
const quickPace: Pace = { pairs: 2, referenceMs: 1_000, surgeMs: 2_000, warmUpMs: 1_500, stepMs: 500, passes: 2 }

type Say = BenchOptions['say']

async function measure({ quick, say }: BenchOptions): Promise<Report> {
  const pace = quick ? quickPace : fullPace
  const model = await boundByModel(pace, say)
  const edge = await boundByEdge(pace, say)
  return report({ model, edge })
}

/** The worker is what there is too little of. The most there is: the throughput of a closed loop. */
async function boundByModel(pace: Pace, say: Say): Promise<Surge> {
  await using model = await makeHeavyModel()
  const { name, version, store, products, rowMs, request } = model
  say(`  bound by the model: ${products} products, ${rowMs.toFixed(2)} ms a row without a gateway`)
  const settings = { models: { [name]: { version } }, store: { path: store } }
  await using rig = await startRig(settings, request, { deadlineMs, waits: true })
  await throughput(rig.closed, pace.warmUpMs)
  return await surge({ ...rig, pace, reference: () => throughput(rig.closed, pace.referenceMs), say, factor })
}

/**
 * The edge is what there is too little of, and the generator has to share the cores with it. The most there is: the goodput
 * at whichever rate has the most.
 */
async function boundByEdge(pace: Pace, say: Say): Promise<Surge> {
  const { model, version } = tabular
  say(`  bound by the edge: ${model}`)
  await using rig = await startRig({ models: { [model]: { version } } }, await tabularRequest(), {
    deadlineMs,
    waits: false,
  })
  await throughput(rig.closed, pace.warmUpMs)
  const closedRate = await throughput(rig.closed, pace.referenceMs)
  const rates = steps.map((step) => step * closedRate)
  const peak = await peakOf(rig.open, rates, { pace, say })
  say(`  the peak is ${peak.goodput.toFixed(0)}/s in time, with ${peak.rate.toFixed(0)}/s offered`)
  const atPeak = () => rig.open.run({ ms: pace.referenceMs, ratesPerSecond: [peak.rate] })
  const reference = async () => goodputOf((await soundly(atPeak)).report)
  return await surge({ ...rig, pace, reference, say, factor, most: peak.goodput })
}

interface Peak {
  readonly rate: number
  readonly goodput: number
}

/** The rate with the most goodput in the median of some passes: a rate that does well now and then is beyond the peak. */
async function peakOf(
  open: OpenLoad,
  rates: readonly number[],
  { pace, say }: { pace: Pace; say: Say },
): Promise<Peak> {
  const found = rates.map((rate) => ({ rate, goodputs: [] as number[] }))
  for (let pass = 0; pass < pace.passes; pass++) {
    for (const { rate, goodputs } of found) {
      const run = await open.run({ ms: pace.stepMs, ratesPerSecond: [rate] })
      goodputs.push(isSound(run) ? goodputOf(run) : 0)
      say(`  ${goodputOf(run).toFixed(0)}/s in time; ${showRun(run)}`)
    }
  }
  const peaks = found.map(({ rate, goodputs }) => ({ rate, goodput: medianOf(goodputs) }))
  return peaks.reduce((best, each) => (each.goodput > best.goodput ? each : best))
}

function report({ model, edge }: { readonly model: Surge; readonly edge: Surge }): Report {
  return {
    figures: { model: rounded(model), edge: rounded(edge) },
    targets: {
      'model.goodput': `>= ${minGoodput.model}`,
      'model.admittedP99Ms': `<= ${deadlineMs}`,
      'model.refusalP50Ms': `< ${maxRefusalMs}`,
      'model.memory': `<= ${maxMemory}`,
      'edge.goodput': `>= ${minGoodput.edge}`,
    },
    pass:
      model.goodput.median >= minGoodput.model &&
      model.admittedP99Ms.median <= deadlineMs &&
      model.refusalP50Ms.median < maxRefusalMs &&
      model.memory <= maxMemory &&
      edge.goodput.median >= minGoodput.edge,
    table: { head, rows: [rowOf('the model', model), rowOf('the edge', edge)] },
    notes: [
      `Open loop, Poisson, ${factor} times the most that can be served; a request counts if its answer is there within` +
        ` ${deadlineMs} ms of the time it was due, and says in \`x-request-timeout-ms\` what is left of them. Bound by the model: a` +
        ' generated model of more than a millisecond a row, one row a request; the most is the throughput of a closed loop of 64' +
        ' connections in neighbouring slices. Bound by the edge: the tabular model; the most is the goodput at the rate that has' +
        ' most of it, with the generator on the same cores. There are 768 connections with one request at a time on each; one' +
        ' that finds none free waits for one in its deadline where the model is the bound, and has failed where the edge is. Admitted are all that were answered with 200; refused, with 503.',
    ],
  }
}

const head = [
  'bound by',
  'most /s',
  'offered /s',
  'goodput over the most',
  'admitted p99 ms',
  'refusal p50 ms',
  'refusal p99 ms',
  'refused',
  '504, late or other',
  'not sent',
  'memory',
  'void',
]

function rowOf(name: string, figure: Surge): string[] {
  const percent = (share: number) => `${(100 * share).toFixed(1)}%`
  return [
    name,
    figure.mostPerS.toFixed(0),
    figure.offeredPerS.toFixed(0),
    showSpread(figure.goodput),
    showSpread(figure.admittedP99Ms),
    showSpread(figure.refusalP50Ms),
    figure.refusalP99Ms.toFixed(1),
    percent(figure.refusedShare),
    percent(figure.neitherShare),
    percent(figure.notSentShare),
    figure.memory.toFixed(2),
    String(figure.voided),
  ]
}

function rounded({ goodput, admittedP99Ms, refusalP50Ms, ...rest }: Surge): object {
  const numbers = Object.entries(rest).map(([name, value]) => [name, round(value)])
  return {
    goodput: roundSpread(goodput),
    admittedP99Ms: roundSpread(admittedP99Ms),
    refusalP50Ms: roundSpread(refusalP50Ms),
    ...Object.fromEntries(numbers),
  }
}
