/** What the gateway adds to the cheapest server on `node:http` that reads the same request. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Bench, BenchOptions, Report } from './support/bench.ts'
import { cpuPerWork, interleave, medianOf, round, roundSpread, showSpread, spreadOf } from './support/interleave.ts'
import type { Pairs, Spread } from './support/interleave.ts'
import { LoadGenerator, sendOnce, type HttpRequest, type HttpTarget } from './support/load.ts'
import { everyCore, GatewayProcess, Peer, pin, repository } from './support/processes.ts'

const model = 'breast-cancer'
const version = '1'
const maxRatio = 1.3

interface Setting {
  readonly name: string
  readonly connections: number
  /** The server on one core, the generator on the other. */
  readonly pinned: boolean
}

const judged = 'at32'
const settings: readonly Setting[] = [
  { name: 'at1', connections: 1, pinned: false },
  { name: 'at8', connections: 8, pinned: false },
  { name: judged, connections: 32, pinned: false },
  { name: 'at128', connections: 128, pinned: false },
  { name: 'at32pinned', connections: 32, pinned: true },
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
    'CPU of the gateway for a small JSON request, over that of a bare node:http server which parses the same bytes',
  measure,
}

async function measure({ quick, say }: BenchOptions): Promise<Report> {
  const request = await sampleRequest()
  await using gateway = await GatewayProcess.start({ models: { [model]: { version } } })
  await using floor = new Peer(new URL('support/floor.ts', import.meta.url))
  await using generator = new LoadGenerator()
  const answer = (await sendOnce(gateway, request)).toString()
  const floorTarget = { pid: floor.pid, port: await floor.ask<number>({ answer }) }
  const rig: Rig = { gateway, floor: floorTarget, generator, request, ...(quick ? quickPace : fullPace) }
  await warmUp(rig)
  const figures: Record<string, Figure> = {}
  for (const setting of settings) {
    const figure = await compare(rig, setting)
    figures[setting.name] = figure
    say(showLine(setting, figure))
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

async function sampleRequest(): Promise<HttpRequest> {
  const body = await readFile(join(repository, `config/models/${model}/${version}/samples/malignant.json`))
  return { path: `/v2/models/${model}/infer`, headers: { 'content-type': 'application/json' }, body }
}

/** Until the code is compiled a server costs several times what it does later. */
async function warmUp({ gateway, floor, generator, request, warmUpMs }: Rig): Promise<void> {
  for (const target of [gateway, floor]) {
    const load = await generator.open(target, 32, request)
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
    await generator.open(gateway, setting.connections, request),
    await generator.open(floor, setting.connections, request),
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
        'connections',
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

function show({ connections, pinned }: Setting): string {
  return `${connections}${pinned ? ', pinned' : ''}`
}

function showLine(setting: Setting, { ratio, gatewayCpuUs, floorCpuUs, batchRows, ...rest }: Figure): string {
  const cpu = `${gatewayCpuUs.toFixed(0)} µs over ${floorCpuUs.toFixed(0)}`
  const latency = `p50 ${rest.gatewayP50Ms.toFixed(2)} ms over ${rest.floorP50Ms.toFixed(2)}`
  return `  ${show(setting).padEnd(12)} ${showSpread(ratio)}  ${cpu}, ${latency}, ${batchRows.toFixed(1)} rows per run`
}
