/** How much longer an answer takes through the gateway than from a server that does nothing, when there is little load. */
import type { Bench, BenchOptions, Report } from './support/bench.ts'
import { medianOf, round, roundSpread, showSpread, spreadOf } from './support/interleave.ts'
import { sendOnce, type HttpTarget } from './support/load.ts'
import type { RunReport } from './support/open-loop/generator.ts'
import type { Percentiles } from './support/open-loop/tally.ts'
import { OpenLoadGenerator, soundly, sumOf, type OpenLoad } from './support/open-load.ts'
import { GatewayProcess, Peer } from './support/processes.ts'
import { tabular, tabularRequest } from './support/requests.ts'

const maxAddedMs = 0.25
const ratePerSecond = 50

export const latency: Bench = {
  name: 'latency',
  question:
    'how much longer a small JSON request takes through the gateway than from a bare Node server, with little load',
  measure,
}

interface Pace {
  readonly pairs: number
  readonly sliceMs: number
  readonly warmUpMs: number
}

const fullPace: Pace = { pairs: 15, sliceMs: 4_000, warmUpMs: 6_000 }
const quickPace: Pace = { pairs: 4, sliceMs: 2_000, warmUpMs: 6_000 }

interface Pair {
  readonly gateway: Percentiles
  readonly floor: Percentiles
}

async function measure({ quick, say }: BenchOptions): Promise<Report> {
  const pace = quick ? quickPace : fullPace
  const request = await tabularRequest()
  await using gateway = await GatewayProcess.start({ models: { [tabular.model]: { version: tabular.version } } })
  await using floor = new Peer(new URL('support/floor.ts', import.meta.url))
  await using generator = new OpenLoadGenerator()
  const answer = (await sendOnce(gateway, request)).toString()
  const port = await floor.ask<number>({ wire: 'http', answer })
  const callers = [{ address: '127.0.0.1', connections: 4, waits: true }]
  const open = (target: HttpTarget) => generator.open(target, { ...request, deadlineMs: Infinity, callers })
  const loads = [await open(gateway), await open({ pid: floor.pid, port })] as const
  // Until the code is compiled an answer takes several times what it does later.
  for (const load of loads) await load.run({ ms: pace.warmUpMs, ratesPerSecond: [4_000] })
  const pairs: Pair[] = []
  while (pairs.length < pace.pairs) {
    const pair = await measurePair(loads, pace.sliceMs, pairs.length % 2 === 0)
    pairs.push(pair)
    say(`  gateway ${show(pair.gateway)}, floor ${show(pair.floor)}`)
  }
  return report(pairs)
}

async function measurePair(loads: readonly [OpenLoad, OpenLoad], ms: number, gatewayFirst: boolean): Promise<Pair> {
  const [gateway, floor] = loads
  const first = await slice(gatewayFirst ? gateway : floor, ms)
  const second = await slice(gatewayFirst ? floor : gateway, ms)
  return gatewayFirst ? { gateway: first, floor: second } : { gateway: second, floor: first }
}

async function slice(load: OpenLoad, ms: number): Promise<Percentiles> {
  const run = await soundly(() => load.run({ ms, ratesPerSecond: [ratePerSecond], precise: true }))
  return servedMs(run.report)
}

function servedMs({ callers }: RunReport): Percentiles {
  if (sumOf(callers, 'ok') < sumOf(callers, 'offered')) throw new Error('requests fail, so there is no figure')
  return callers[0]!.servedMs
}

function report(pairs: readonly Pair[]): Report {
  const added = {
    p50: spreadOf(pairs.map(({ gateway, floor }) => gateway.p50 - floor.p50)),
    p99: spreadOf(pairs.map(({ gateway, floor }) => gateway.p99 - floor.p99)),
  }
  const of = (who: keyof Pair, what: keyof Percentiles) => round(medianOf(pairs.map((pair) => pair[who][what])))
  const row = (who: keyof Pair) => [who, String(of(who, 'p50')), String(of(who, 'p99'))]
  return {
    figures: {
      addedP50Ms: roundSpread(added.p50),
      addedP99Ms: roundSpread(added.p99),
      gatewayP50Ms: of('gateway', 'p50'),
      gatewayP99Ms: of('gateway', 'p99'),
      floorP50Ms: of('floor', 'p50'),
      floorP99Ms: of('floor', 'p99'),
    },
    targets: { addedP50Ms: `<= ${maxAddedMs}` },
    pass: added.p50.median <= maxAddedMs,
    table: {
      head: ['', 'p50 ms', 'p99 ms'],
      rows: [row('gateway'), row('floor'), ['added', showSpread(added.p50), showSpread(added.p99)]],
    },
    notes: [
      `Open loop: ${ratePerSecond} requests a second, Poisson, in alternating slices; latency counts from the time each was due. The` +
        ' gateway decodes, queues, runs a model of 30 inputs on a worker and encodes; the floor reads the body, parses it and' +
        ' answers the same bytes. What is added is the difference of neighbouring slices.',
    ],
  }
}

function show({ p50, p99 }: Percentiles): string {
  return `p50 ${p50.toFixed(2)} ms, p99 ${p99.toFixed(2)}`
}
