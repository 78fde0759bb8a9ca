/** What the gateway adds to the cheapest server on Node's own HTTP that reads the same request, by protocol. */
import type { Bench, BenchOptions, Report } from './support/bench.ts'
import { cpuPerWork, interleave, medianOf, round, roundSpread, showSpread, spreadOf } from './support/interleave.ts'
import type { Pairs, Spread } from './support/interleave.ts'
import { makeCertificates } from './support/certificates.ts'
import type { Wire } from './support/generator.ts'
import { LoadGenerator, sendOnce, type HttpRequest, type HttpTarget } from './support/load.ts'
import { everyCore, GatewayProcess, Peer, pin } from './support/processes.ts'
import { tabular, tabularRequest } from './support/requests.ts'

const { model, version } = tabular
const maxRatio = 1.3

interface Setting {
  readonly name: string
  readonly wire: Wire
  readonly connections: number
  /** Requests at once on each connection. */
  readonly streams: number
  /** The server on one core, the generator on the other. */
  readonly pinned: boolean
}

const judged = 'at32'
const settings: readonly Setting[] = [
  { name: 'at1', wire: 'http', connections: 1, streams: 1, pinned: false },
  { name: 'at8', wire: 'http', connections: 8, streams: 1, pinned: false },
  { name: judged, wire: 'http', connections: 32, streams: 1, pinned: false },
  { name: 'at128', wire: 'http', connections: 128, streams: 1, pinned: false },
  { name: 'at32pinned', wire: 'http', connections: 32, streams: 1, pinned: true },
  { name: 'https32', wire: 'https', connections: 32, streams: 1, pinned: false },
  { name: 'http2of32', wire: 'h2', connections: 32, streams: 1, pinned: false },
  { name: 'http2of4x8', wire: 'h2', connections: 4, streams: 8, pinned: false },
]

/** One setting's outcome. CPU in microseconds per request, of the whole process. */
interface Figure {
  readonly ratio: Spread
  readonly gatewayCpuUs: number
  readonly floorCpuUs: number
  readonly gatewayP50Ms: number
  readonly floorP50Ms: number
  /** Rows in a mean run of the gateway. */
  readonly batchRows: number
  readonly voided: number
}

export const overhead: Bench = {
  name: 'overhead',
  question:
    'CPU of the gateway for a small JSON request, over that of a bare Node server of the same protocol which parses it',
  measure,
}

async function measure({ quick, say }: BenchOptions): Promise<Report> {
  const request = await tabularRequest()
  const certificates = makeCertificates()
  const models = { [model]: { version } }
  await using generator = new LoadGenerator()
  const figures: Record<string, Figure> = {}
  for (const [wire, own] of Map.groupBy(settings, (setting) => setting.wire)) {
    await using gateway = await GatewayProcess.start({ models }, {}, wire === 'http' ? undefined : certificates)
    await using floor = new Peer(new URL('support/floor.ts', import.meta.url))
    const answer = (await sendOnce(gateway, request)).toString()
    const floorPort = await floor.ask<number>({ wire, answer, ...certificates })
    const floorTarget = { pid: floor.pid, port: floorPort, ca: certificates.ca }
    const rig: Rig = { gateway, floor: floorTarget, generator, request, ...(quick ? quickPace : fullPace) }
    await warmUp(rig, wire)
    for (const setting of own) {
      const figure = await compare(rig, setting)
      figures[setting.name] = figure
      say(showLine(setting, figure))
    }
  }
  return report(figures)
}

interface Pace {
  readonly pairs: number
  readonly sliceMs: number
  readonly warmUpMs: number
}

const fullPace: Pace = { pairs: 7, sliceMs: 2_000, warmUpMs: 5_000 }
const quickPace: Pace = { pairs: 3, sliceMs: 1_000, warmUpMs: 3_000 }

interface Rig extends Pace {
  readonly gateway: GatewayProcess
  readonly floor: HttpTarget
  readonly generator: LoadGenerator
  readonly request: HttpRequest
}

/** Until the code is compiled a server costs several times what it does later. */
async function warmUp({ gateway, floor, generator, request, warmUpMs }: Rig, wire: Wire): Promise<void> {
  for (const target of [gateway, floor]) {
    const load = await generator.open(target, { wire, connections: 32 }, request)
    await load.slice(warmUpMs)
    await load.close()
  }
}

async function compare(rig: Rig, setting: Setting): Promise<Figure> {
  const { gateway, floor, generator, request, pairs, sliceMs } = rig
  const servers = [gateway.pid, floor.pid]
  if (setting.pinned) {
    for (const pid of servers) pin(pid, '0')
    pin(generator.pid, '1')
  }
  const loads = [
    await generator.open(gateway, setting, request),
    await generator.open(floor, setting, request),
  ] as const
  for (const load of loads) await load.slice(sliceMs / 2)
  const before = await gateway.batches(model, version)
  const measured = await interleave({ pairs, a: () => loads[0].slice(sliceMs), b: () => loads[1].slice(sliceMs) })
  const after = await gateway.batches(model, version)
  for (const load of loads) await load.close()
  if (setting.pinned) for (const pid of [...servers, generator.pid]) pin(pid, everyCore)
  return figureOf(measured, (after.rows - before.rows) / (after.runs - before.runs))
}

function figureOf({ pairs, voided }: Pairs, batchRows: number): Figure {
  return {
    ratio: spreadOf(pairs.map(({ a, b }) => cpuPerWork(a) / cpuPerWork(b))),
    gatewayCpuUs: medianOf(pairs.map(({ a }) => cpuPerWork(a) * 1_000)),
    floorCpuUs: medianOf(pairs.map(({ b }) => cpuPerWork(b) * 1_000)),
    gatewayP50Ms: medianOf(pairs.map(({ a }) => a.p50Ms)),
    floorP50Ms: medianOf(pairs.map(({ b }) => b.p50Ms)),
    batchRows,
    voided,
  }
}

function report(figures: Record<string, Figure>): Report {
  const rows = settings.map((setting) => {
    const { ratio, gatewayCpuUs, floorCpuUs, gatewayP50Ms, floorP50Ms, batchRows, voided } = figures[setting.name]!
    const cpu = [gatewayCpuUs.toFixed(0), floorCpuUs.toFixed(0)]
    const latency = [gatewayP50Ms.toFixed(2), floorP50Ms.toFixed(2)]
    return [show(setting), showSpread(ratio), ...cpu, ...latency, batchRows.toFixed(1), String(voided)]
  })
  return {
    figures: Object.fromEntries(Object.entries(figures).map(([name, figure]) => [name, rounded(figure)])),
    targets: { [`${judged}.ratio`]: `<= ${maxRatio}` },
    pass: figures[judged]!.ratio.median <= maxRatio,
    table: {
      head: [
        'protocol, connections',
        'CPU ratio',
        'gateway µs',
        'floor µs',
        'gateway p50 ms',
        'floor p50 ms',
        'rows per run',
        'void',
      ],
      rows,
    },
    notes: [
      'CPU is that of the whole process with its workers, user and kernel, per request. The gateway decodes, queues, batches, runs a' +
        ' model of 30 inputs and encodes; the floor reads the body, parses it and answers the same bytes. Closed loop, keep-alive,' +
        ' not pipelined. Pinned: all threads of the server on one core, the generator on another.',
    ],
  }
}

function rounded(figure: Figure): object {
  const { ratio, voided, ...rest } = figure
  const numbers = Object.entries(rest).map(([name, value]) => [name, round(value, 2)])
  return { ratio: roundSpread(ratio), ...Object.fromEntries(numbers), voided }
}

const wireNames = { http: 'HTTP/1.1', https: 'HTTPS', h2: 'HTTP/2' }

function show({ wire, connections, streams, pinned }: Setting): string {
  return `${wireNames[wire]}, ${connections}${streams > 1 ? ` of ${streams} streams` : ''}${pinned ? ', pinned' : ''}`
}

function showLine(setting: Setting, { ratio, gatewayCpuUs, floorCpuUs, batchRows, ...rest }: Figure): string {
  const cpu = `${gatewayCpuUs.toFixed(0)} µs over ${floorCpuUs.toFixed(0)}`
  const latency = `p50 ${rest.gatewayP50Ms.toFixed(2)} ms over ${rest.floorP50Ms.toFixed(2)}`
  return `  ${show(setting).padEnd(24)} ${showSpread(ratio)}  ${cpu}, ${latency}, ${batchRows.toFixed(1)} rows per run`
}
