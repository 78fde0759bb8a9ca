/** How much of what ONNX Runtime can do arrives at the front door, when all that counts is rows. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Bench, BenchOptions, Report } from './support/bench.ts'
import {
  cpuPerWork,
  interleave,
  medianOf,
  round,
  roundSpread,
  showSpread,
  spreadOf,
  type Slice,
} from './support/interleave.ts'
import { LoadGenerator } from './support/load.ts'
import { cpuMsOf, GatewayProcess, Peer, repository } from './support/processes.ts'
import { binaryRequest, type HttpRequest } from './support/requests.ts'

const model = 'digits'
const version = '2'
const minRatio = 0.85
const rowShape = [1, 28, 28]
const loopBatches = [1, 8, 16, 32, 64, 128, 256, 512]
/** Tried for information; what is judged is the last, fixed beforehand: one slice each would pick a winner by noise. */
const requestRows = [32, 64, 128, 256, 512]
const gatewayRows = 512
const connections = 4

export const offline: Bench = {
  name: 'offline',
  question:
    'Rows per CPU-second of a small CNN through the front door, over those of a bare ONNX Runtime loop at its best batch size',
  measure,
}

interface Pace {
  readonly pairs: number
  readonly sliceMs: number
  readonly tryMs: number
}

const fullPace: Pace = { pairs: 7, sliceMs: 3_000, tryMs: 2_000 }
const quickPace: Pace = { pairs: 3, sliceMs: 1_500, tryMs: 700 }

/** Something that runs rows for a while, so many at a time. */
type Runner = (rows: number, ms: number) => Promise<Slice>

async function measure({ quick, say }: BenchOptions): Promise<Report> {
  const { pairs, sliceMs, tryMs } = quick ? quickPace : fullPace
  const row = await sampleRow()
  await using loop = new Peer(new URL('support/ort-loop.ts', import.meta.url))
  await using generator = new LoadGenerator()
  await loop.ask({
    kind: 'load',
    file: join(repository, `config/models/${model}/${version}/model.onnx`),
    row,
    rowShape,
  })
  const runLoop = loopRunner(loop)
  await runLoop(64, tryMs)
  const loopRates = await rates(runLoop, loopBatches, tryMs)
  say(`  bare loop, rows per CPU-second by batch: ${showRates(loopRates)}`)
  const loopRows = best(loopRates)
  await using gateway = await startGateway(loopRows)
  const runGateway = gatewayRunner(generator, gateway, row)
  await runGateway(64, tryMs)
  const gatewayRates = await rates(runGateway, requestRows, tryMs)
  say(`  gateway, rows per CPU-second by request: ${showRates(gatewayRates)}`)
  await runGateway(gatewayRows, tryMs)
  const before = await gateway.batches(model, version)
  const measured = await interleave({
    pairs,
    a: () => runGateway(gatewayRows, sliceMs),
    b: () => runLoop(loopRows, sliceMs),
  })
  const after = await gateway.batches(model, version)
  const ratio = spreadOf(measured.pairs.map(({ a, b }) => cpuPerWork(b) / cpuPerWork(a)))
  say(`  requests of ${gatewayRows} rows over batches of ${loopRows}: ${showSpread(ratio)}`)
  const figures = {
    ratio: roundSpread(ratio),
    gatewayRowsPerCpuS: round(perCpuSecond(measured.pairs.map(({ a }) => a)), 0),
    loopRowsPerCpuS: round(perCpuSecond(measured.pairs.map(({ b }) => b)), 0),
    requestRows: gatewayRows,
    loopRows,
    batchRows: round((after.rows - before.rows) / (after.runs - before.runs), 1),
    voided: measured.voided,
    loopRates: Object.fromEntries(loopRates),
    gatewayRates: Object.fromEntries(gatewayRates),
  }
  return {
    figures,
    targets: { ratio: `>= ${minRatio}` },
    pass: ratio.median >= minRatio,
    table: {
      head: ['', 'rows at a time', 'rows per CPU-second'],
      rows: [
        ['gateway', `requests of ${gatewayRows}, calls of at most ${loopRows}`, String(figures.gatewayRowsPerCpuS)],
        ['bare loop', String(loopRows), String(figures.loopRowsPerCpuS)],
        ['ratio', '', showSpread(ratio)],
      ],
    },
    notes: [
      `Binary tensors over ${connections} connections into ${model} version ${version}, one worker with one thread; the loop has the same` +
        ` session options and its inputs and outputs ready in memory. CPU is that of the whole process. Void pairs: ${measured.voided}.`,
      `Sizes tried in the same run, rows per CPU-second: loop ${showRates(loopRates)}; gateway ${showRates(gatewayRates)}.`,
    ],
  }
}

/** The model is called with as many rows as in the loop; a larger request is run piece by piece. */
function startGateway(maxRows: number): Promise<GatewayProcess> {
  const batching = { policy: { kind: 'adaptive', maxRows } }
  return GatewayProcess.start({ models: { [model]: { version, batching } } })
}

async function sampleRow(): Promise<Uint8Array> {
  const text = await readFile(join(repository, `config/models/${model}/${version}/samples/seven.json`), 'utf8')
  const { inputs } = JSON.parse(text) as { inputs: { data: number[] }[] }
  return Uint8Array.from(inputs[0]!.data)
}

function loopRunner(loop: Peer): Runner {
  return async (rows, ms) => {
    const before = cpuMsOf(loop.pid)
    const done = await loop.ask<{ rows: number }>({ kind: 'run', rows, ms })
    return { work: done.rows, cpuMs: cpuMsOf(loop.pid) - before, bad: 0, p50Ms: 0 }
  }
}

function gatewayRunner(generator: LoadGenerator, gateway: GatewayProcess, row: Uint8Array): Runner {
  return async (rows, ms) => {
    const load = await generator.open(gateway, { wire: 'http', connections }, requestOf(rows, row))
    const slice = await load.slice(ms)
    await load.close()
    return { ...slice, work: slice.work * rows }
  }
}

function requestOf(rows: number, row: Uint8Array): HttpRequest {
  const data = Buffer.concat(Array.from({ length: rows }, () => row))
  return binaryRequest(model, { name: 'image', datatype: 'UINT8', shape: [rows, ...rowShape], data })
}

function perCpuSecond(slices: readonly Slice[]): number {
  return 1_000 / medianOf(slices.map(cpuPerWork))
}

/** Rows per CPU-second for each number of rows at a time. */
async function rates(run: Runner, sizes: readonly number[], ms: number): Promise<Map<number, number>> {
  const found = new Map<number, number>()
  for (const size of sizes) {
    const slice = await run(size, ms)
    if (slice.bad > 0) throw new Error(`requests of ${size} rows fail, so there is no figure`)
    found.set(size, Math.round(perCpuSecond([slice])))
  }
  return found
}

function best(found: ReadonlyMap<number, number>): number {
  return [...found].reduce((most, each) => (each[1] > most[1] ? each : most))[0]
}

function showRates(found: ReadonlyMap<number, number>): string {
  return [...found].map(([size, rate]) => `${size}: ${rate}`).join(', ')
}
