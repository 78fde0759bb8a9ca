/** What the gateway adds to the cheapest server on Node's own HTTP that reads the same request, by protocol. */
import type { Bench, BenchOptions, Report } from './support/bench.ts'
import { makeCertificates, type Certificates } from './support/certificates.ts'
import type { Wire } from './support/generator.ts'
import { guards, shown } from './support/guards.ts'
import { cpuPerWork, interleave, medianOf, round, roundSpread, showSpread, spreadOf } from './support/interleave.ts'
import type { Pairs, Spread } from './support/interleave.ts'
import { makeIssuer } from './support/issuer.ts'
import { LoadGenerator, sendOnce, type HttpTarget } from './support/load.ts'
import { everyCore, GatewayProcess, Peer, pin } from './support/processes.ts'
import { tabular, tabularRequest, type HttpRequest } from './support/requests.ts'

const { model, version } = tabular

interface Setting {
  readonly wire: Wire
  readonly front: 'lean' | 'node'
  readonly connections: number
  /** Requests at once on each connection. */
  readonly streams: number
  /** The server on one core, the generator on the other. */
  readonly pinned: boolean
  /** The largest ratio that it may have. */
  readonly target?: number
}

const lean = { wire: 'http', front: 'lean', streams: 1, pinned: false } as const
const node = { ...lean, front: 'node' } as const
const h2 = { ...lean, wire: 'h2' } as const

const settings: Readonly<Record<string, Setting>> = {
  at1: { ...lean, connections: 1 },
  at8: { ...lean, connections: 8 },
  at32: { ...lean, connections: 32, target: 0.75 },
  at128: { ...lean, connections: 128 },
  at32pinned: { ...lean, connections: 32, pinned: true },
  at128pinned: { ...lean, connections: 128, pinned: true, target: 0.6 },
  node32: { ...node, connections: 32 },
  node128pinned: { ...node, connections: 128, pinned: true },
  https32: { ...lean, wire: 'https', connections: 32, target: 0.75 },
  nodeHttps32: { ...node, wire: 'https', connections: 32 },
  http2of32: { ...h2, connections: 32 },
  http2of4x8: { ...h2, connections: 4, streams: 8 },
}

/** One setting in one round. */
interface Round extends Pairs {
  /** Rows in a mean run of the gateway. */
  readonly batchRows: number
}

export const overhead: Bench = {
  name: 'overhead',
  question:
    'CPU of the gateway for a small JSON request, over that of a bare Node server of the same protocol which parses it',
  measure,
}

/**
 * Two processes of one program differ by more than what is asked about, for as long as they live. So each round has new
 * ones.
 */
async function measure({ quick, say }: BenchOptions): Promise<Report> {
  await using issuer = await makeIssuer('ES256')
  await using generator = new LoadGenerator()
  const request = await shown(await tabularRequest(), issuer)
  const rig: Rig = {
    generator,
    request,
    certificates: makeCertificates(),
    gateway: { models: { [model]: { version } }, ...guards(issuer) },
    ...(quick ? quickPace : fullPace),
  }
  const rounds = new Map<string, Round[]>(Object.keys(settings).map((name) => [name, []]))
  for (let i = 0; i < rig.rounds; i++) {
    for (const [kind, own] of Map.groupBy(Object.entries(settings), ([, { wire, front }]) => `${front} ${wire}`)) {
      for (const [name, result] of await inNewProcesses(rig, own)) rounds.get(name)!.push(result)
      say(`  round ${i + 1} of ${rig.rounds}: ${kind}`)
    }
  }
  const figures = Object.fromEntries([...rounds].map(([name, own]) => [name, figureOf(own)]))
  for (const [name, figure] of Object.entries(figures)) say(showLine(settings[name]!, figure))
  return report(figures)
}

interface Pace {
  readonly rounds: number
  readonly pairs: number
  readonly sliceMs: number
  readonly warmUpMs: number
}

const fullPace: Pace = { rounds: 4, pairs: 3, sliceMs: 1_000, warmUpMs: 8_000 }
const quickPace: Pace = { rounds: 1, pairs: 2, sliceMs: 500, warmUpMs: 2_000 }

interface Rig extends Pace {
  readonly generator: LoadGenerator
  readonly request: HttpRequest
  readonly certificates: Certificates
  /** Its settings. */
  readonly gateway: object
}

async function inNewProcesses(rig: Rig, own: readonly (readonly [string, Setting])[]): Promise<[string, Round][]> {
  const { wire, front } = own[0]![1]
  const { certificates, request } = rig
  const secure = wire === 'http' ? undefined : certificates
  await using gateway = await GatewayProcess.start(rig.gateway, { http1: front }, secure)
  await using floor = new Peer(new URL('support/floor.ts', import.meta.url))
  const answer = (await sendOnce(gateway, request)).toString()
  const floorPort = await floor.ask<number>({ wire, answer, ...certificates })
  const servers = { gateway, floor: { pid: floor.pid, port: floorPort, ca: certificates.ca } }
  // Until the code is compiled a server costs several times what it does later.
  for (const target of Object.values(servers)) await load(rig, target, wire, rig.warmUpMs)
  const rounds: [string, Round][] = []
  for (const [name, setting] of own) rounds.push([name, await compare(rig, servers, setting)])
  return rounds
}

interface Servers {
  readonly gateway: GatewayProcess
  readonly floor: HttpTarget
}

async function compare(rig: Rig, { gateway, floor }: Servers, setting: Setting): Promise<Round> {
  const { generator, request, pairs, sliceMs } = rig
  const pids = [gateway.pid, floor.pid]
  if (setting.pinned) {
    for (const pid of pids) pin(pid, '0')
    pin(generator.pid, '1')
  }
  const loads = [
    await generator.open(gateway, setting, request),
    await generator.open(floor, setting, request),
  ] as const
  for (const each of loads) await each.slice(sliceMs / 2)
  const before = await gateway.batches(model, version)
  const measured = await interleave({ pairs, a: () => loads[0].slice(sliceMs), b: () => loads[1].slice(sliceMs) })
  const after = await gateway.batches(model, version)
  for (const each of loads) await each.close()
  if (setting.pinned) for (const pid of [...pids, generator.pid]) pin(pid, everyCore)
  return { ...measured, batchRows: (after.rows - before.rows) / (after.runs - before.runs) }
}

async function load({ generator, request }: Rig, target: HttpTarget, wire: Wire, ms: number): Promise<void> {
  const load32 = await generator.open(target, { wire, connections: 32, streams: 1 }, request)
  await load32.slice(ms)
  await load32.close()
}

/** One setting's outcome. CPU in microseconds per request, of the whole process. */
interface Figure {
  readonly ratio: Spread
  readonly gatewayCpuUs: number
  readonly floorCpuUs: number
  readonly gatewayP50Ms: number
  readonly floorP50Ms: number
  readonly batchRows: number
  readonly voided: number
}

function figureOf(rounds: readonly Round[]): Figure {
  const pairs = rounds.flatMap((each) => each.pairs)
  return {
    ratio: spreadOf(pairs.map(({ a, b }) => cpuPerWork(a) / cpuPerWork(b))),
    gatewayCpuUs: medianOf(pairs.map(({ a }) => cpuPerWork(a) * 1_000)),
    floorCpuUs: medianOf(pairs.map(({ b }) => cpuPerWork(b) * 1_000)),
    gatewayP50Ms: medianOf(pairs.map(({ a }) => a.p50Ms)),
    floorP50Ms: medianOf(pairs.map(({ b }) => b.p50Ms)),
    batchRows: medianOf(rounds.map((each) => each.batchRows)),
    voided: rounds.reduce((sum, each) => sum + each.voided, 0),
  }
}

function report(figures: Readonly<Record<string, Figure>>): Report {
  const judged = Object.entries(settings).filter(([, { target }]) => target !== undefined)
  const rows = Object.entries(settings).map(([name, setting]) => {
    const { ratio, gatewayCpuUs, floorCpuUs, gatewayP50Ms, floorP50Ms, batchRows, voided } = figures[name]!
    const cpu = [gatewayCpuUs.toFixed(0), floorCpuUs.toFixed(0)]
    const latency = [gatewayP50Ms.toFixed(2), floorP50Ms.toFixed(2)]
    const target = setting.target === undefined ? '' : `<= ${setting.target}`
    return [show(setting), target, showSpread(ratio), ...cpu, ...latency, batchRows.toFixed(1), String(voided)]
  })
  const columns =
    'protocol, connections|target|CPU ratio|gateway µs|floor µs|gateway p50 ms|floor p50 ms|rows per run|void'
  return {
    figures: Object.fromEntries(Object.entries(figures).map(([name, figure]) => [name, rounded(figure)])),
    targets: Object.fromEntries(judged.map(([name, { target }]) => [`${name}.ratio`, `<= ${target}`])),
    pass: judged.every(([name, { target }]) => figures[name]!.ratio.median <= target!),
    table: { head: columns.split('|'), rows },
    notes: [
      'CPU is that of the whole process with its workers, user and kernel, per request. The gateway asks for a token (a known' +
        ' one), three rules and four limits, decodes, queues, batches, runs a model of 30 inputs, counts and encodes; the floor' +
        ' reads the body, parses it and answers the same bytes. Closed loop, keep-alive, not pipelined. Pinned: all threads of' +
        ' the server on one core, the generator on another.',
    ],
  }
}

function rounded(figure: Figure): object {
  const { ratio, voided, ...rest } = figure
  const numbers = Object.entries(rest).map(([name, value]) => [name, round(value, 2)])
  return { ratio: roundSpread(ratio), ...Object.fromEntries(numbers), voided }
}

const wireNames = { http: 'HTTP/1.1', https: 'HTTPS', h2: 'HTTP/2' }

function show({ wire, front, connections, streams, pinned }: Setting): string {
  const of = streams > 1 ? ` of ${streams} streams` : ''
  return `${wireNames[wire]}${front === 'node' ? ' on node:http' : ''}, ${connections}${of}${pinned ? ', pinned' : ''}`
}

function showLine(setting: Setting, { ratio, gatewayCpuUs, floorCpuUs, batchRows, ...rest }: Figure): string {
  const cpu = `${gatewayCpuUs.toFixed(0)} µs over ${floorCpuUs.toFixed(0)}`
  const latency = `p50 ${rest.gatewayP50Ms.toFixed(2)} ms over ${rest.floorP50Ms.toFixed(2)}`
  return `  ${show(setting).padEnd(36)} ${showSpread(ratio)}  ${cpu}, ${latency}, ${batchRows.toFixed(1)} rows per run`
}
