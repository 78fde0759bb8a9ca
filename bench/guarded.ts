/** What it costs to ask who calls, what they may do and how much: a gateway that does over one that asks nobody. */
import type { Bench, BenchOptions, Report } from './support/bench.ts'
import { guards, shown } from './support/guards.ts'
import { cpuPerWork, interleave, medianOf, round, roundSpread, showSpread, spreadOf } from './support/interleave.ts'
import { makeIssuer } from './support/issuer.ts'
import { LoadGenerator } from './support/load.ts'
import { GatewayProcess, pin } from './support/processes.ts'
import { tabular, tabularRequest, type HttpRequest } from './support/requests.ts'

const maxRatio = 1.12
const setting = { wire: 'http', connections: 32, streams: 1 } as const
/** CPU in microseconds per request. */
interface Round {
  readonly guardedUs: number
  readonly openUs: number
}

export const guarded: Bench = {
  name: 'guarded',
  question: 'CPU of the gateway for a small JSON request with a token, rules and four limits, over that without',
  measure,
}

/**
 * Two processes of the same program differ by more than what is asked about, for as long as they live. So each round has
 * new ones, and what counts is how the rounds differ.
 */
async function measure({ quick, say }: BenchOptions): Promise<Report> {
  const plain = await tabularRequest()
  await using issuer = await makeIssuer('ES256')
  const models = { [tabular.model]: { version: tabular.version } }
  const request = await shown(plain, issuer)
  const pace = quick ? quickPace : fullPace
  const rounds: Round[] = []
  await using generator = new LoadGenerator()
  pin(generator.pid, '1')
  for (let i = 0; i < pace.rounds; i++) {
    await using asks = await GatewayProcess.start({ models, ...guards(issuer) })
    await using open = await GatewayProcess.start({ models })
    const pair = await compare({ generator, asks, open, request, ...pace })
    rounds.push(pair)
    say(`  round ${i + 1}: ${pair.guardedUs.toFixed(1)} µs over ${pair.openUs.toFixed(1)}`)
  }
  return report(rounds)
}

const fullPace = { rounds: 9, pairs: 3, sliceMs: 1_000, warmUpMs: 3_000 }
const quickPace = { rounds: 2, pairs: 2, sliceMs: 500, warmUpMs: 2_000 }

interface Rig {
  readonly generator: LoadGenerator
  readonly asks: GatewayProcess
  readonly open: GatewayProcess
  /** With a token, which the gateway that asks nobody does not look at. */
  readonly request: HttpRequest
  readonly pairs: number
  readonly sliceMs: number
  readonly warmUpMs: number
}

async function compare({ generator, asks, open, request, ...pace }: Rig): Promise<Round> {
  for (const { pid } of [asks, open]) pin(pid, '0')
  const loads = [await generator.open(asks, setting, request), await generator.open(open, setting, request)] as const
  for (const load of loads) await load.slice(pace.warmUpMs)
  const { pairs } = await interleave({
    pairs: pace.pairs,
    a: () => loads[0].slice(pace.sliceMs),
    b: () => loads[1].slice(pace.sliceMs),
  })
  for (const load of loads) await load.close()
  return {
    guardedUs: medianOf(pairs.map(({ a }) => cpuPerWork(a) * 1_000)),
    openUs: medianOf(pairs.map(({ b }) => cpuPerWork(b) * 1_000)),
  }
}

function report(rounds: readonly Round[]): Report {
  const guardedUs = spreadOf(rounds.map((each) => each.guardedUs))
  const openUs = spreadOf(rounds.map((each) => each.openUs))
  const ratio = guardedUs.median / openUs.median
  return {
    figures: {
      ratio: round(ratio, 3),
      guardedUs: roundSpread(guardedUs),
      openUs: roundSpread(openUs),
      rounds: rounds.length,
    },
    targets: { ratio: `<= ${maxRatio}` },
    pass: ratio <= maxRatio,
    table: {
      head: ['ratio of the medians', 'with, µs', 'without, µs', 'rounds'],
      rows: [[ratio.toFixed(2), showSpread(guardedUs), showSpread(openUs), String(rounds.length)]],
    },
    notes: [
      'CPU of the whole process per request, 32 connections, the gateway on one core and the generator on the other; new processes' +
        ' in each round. The same requests, with a token in each, to both gateways in turn: one asks for a known token of an issuer' +
        ' with keys in a file, three rules and four limits in memory (two of requests, one of rows, one of compute); the other has' +
        ' `auth: none`.',
    ],
  }
}
