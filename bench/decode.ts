/** What it costs to read a tensor that comes as JSON: from the request's bytes to typed memory. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isRefusal } from '../src/core/refusal.ts'
import type { Signature } from '../src/core/signature.ts'
import { decodeRequest } from '../src/edge/codecs/request.ts'
import type { Bench, BenchOptions, Report } from './support/bench.ts'
import { cpuPerWork, interleave, medianOf, round, roundSpread, showSpread, spreadOf } from './support/interleave.ts'
import type { Slice, Spread } from './support/interleave.ts'
import { repository } from './support/processes.ts'

const image = [1, 3, 224, 224]

interface Setting {
  readonly name: string
  readonly shown: string
  /** The least that JSON.parse must cost over the scanner; undefined where none is promised. */
  readonly minRatio: number | undefined
  readonly contract: Signature
  readonly body: Buffer
}

interface Figure {
  readonly ratio: Spread
  readonly scannerUs: number
  readonly parseUs: number
}

export const decode: Bench = {
  name: 'decode',
  question:
    'CPU of JSON.parse and a store into a typed array, over that of the scanner, for the same inference request',
  measure,
}

async function measure({ quick, say }: BenchOptions): Promise<Report> {
  const pace = quick ? { pairs: 5, sliceMs: 150 } : { pairs: 15, sliceMs: 400 }
  const settings = await allSettings()
  const figures: Record<string, Figure> = {}
  // All of them first: a gateway's scanner has seen every kind of request, not only one.
  for (const setting of settings) {
    slice(setting, scan, pace.sliceMs)
    slice(setting, parse, pace.sliceMs)
  }
  for (const setting of settings) {
    const { pairs } = await interleave({
      pairs: pace.pairs,
      a: () => Promise.resolve(slice(setting, parse, pace.sliceMs)),
      b: () => Promise.resolve(slice(setting, scan, pace.sliceMs)),
    })
    const figure = {
      ratio: spreadOf(pairs.map(({ a, b }) => cpuPerWork(a) / cpuPerWork(b))),
      scannerUs: medianOf(pairs.map(({ b }) => cpuPerWork(b) * 1_000)),
      parseUs: medianOf(pairs.map(({ a }) => cpuPerWork(a) * 1_000)),
    }
    figures[setting.name] = figure
    say(`  ${setting.shown}: ${showSpread(figure.ratio)}, ${showUs(figure)}`)
  }
  return report(settings, figures)
}

type Decode = (setting: Setting) => void

function slice(setting: Setting, run: Decode, ms: number): Slice {
  const until = performance.now() + ms
  const before = process.cpuUsage()
  let work = 0
  // The clock costs as much as a small request.
  const atOnce = Math.ceil(20_000 / setting.body.byteLength)
  while (performance.now() < until) {
    for (let i = 0; i < atOnce; i++) run(setting)
    work += atOnce
  }
  const { user, system } = process.cpuUsage(before)
  return { work, cpuMs: (user + system) / 1_000, bad: 0, p50Ms: 0 }
}

let sink: unknown

function scan({ body, contract }: Setting): void {
  const request = decodeRequest(body, body.byteLength, contract)
  if (isRefusal(request)) throw new Error(request.message)
  sink = request
}

/** No contract and no rules but that each element is a finite number: the least that a gateway could do. */
function parse({ body }: Setting): void {
  const { inputs } = JSON.parse(body.toString()) as { inputs: { data: unknown[] }[] }
  const { data } = inputs[0]!
  const memory = new Float32Array(data.length)
  for (let i = 0; i < data.length; i++) {
    const element = data[i]
    if (typeof element !== 'number') throw new Error('not a number')
    memory[i] = element
    if (!Number.isFinite(memory[i])) throw new Error('not finite')
  }
  sink = memory
}

async function allSettings(): Promise<Setting[]> {
  const count = image.reduce((product, dim) => product * dim)
  const random = seeded(1)
  const values = Array.from({ length: count }, () => random() * 4 - 2)
  const sample = await readFile(join(repository, 'config/models/breast-cancer/1/samples/malignant.json'))
  return [
    large(
      { name: 'decimals4', shown: 'image, 4 decimals', minRatio: 2.5 },
      values.map((each) => each.toFixed(4)).join(),
    ),
    large(
      { name: 'spaced4', shown: 'image, 4 decimals, a space behind each comma', minRatio: undefined },
      values.map((each) => each.toFixed(4)).join(', '),
    ),
    large(
      { name: 'fullPrecision', shown: 'image, float32 printed as doubles', minRatio: 1.5 },
      values.map((each) => String(Math.fround(each))).join(),
    ),
    {
      name: 'small',
      shown: 'the sample of breast-cancer, 30 numbers',
      minRatio: undefined,
      contract: contractOf('features', ['batch', 30]),
      body: sample,
    },
  ]
}

function large(names: Pick<Setting, 'name' | 'shown' | 'minRatio'>, data: string): Setting {
  const text = `{"inputs":[{"name":"image","datatype":"FP32","shape":[${image.join()}],"data":[${data}]}]}`
  return { ...names, contract: contractOf('image', ['batch', ...image.slice(1)]), body: Buffer.from(text) }
}

function contractOf(name: string, shape: readonly (number | string)[]): Signature {
  return {
    inputs: [{ name, datatype: 'FP32', shape }],
    outputs: [{ name: 'y', datatype: 'FP32', shape: ['batch'] }],
  }
}

/** A linear congruential generator: the same numbers in every run. */
function seeded(seed: number): () => number {
  let state = seed
  return () => (state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0) / 2 ** 32
}

function report(settings: readonly Setting[], figures: Record<string, Figure>): Report {
  if (sink === undefined) throw new Error('nothing was decoded')
  const judged = settings.filter(({ minRatio }) => minRatio !== undefined)
  return {
    figures: Object.fromEntries(
      Object.entries(figures).map(([name, { ratio, scannerUs, parseUs }]) => [
        name,
        { ratio: roundSpread(ratio), scannerUs: round(scannerUs, 2), parseUs: round(parseUs, 2) },
      ]),
    ),
    targets: Object.fromEntries(judged.map(({ name, minRatio }) => [`${name}.ratio`, `>= ${minRatio}`])),
    pass: judged.every(({ name, minRatio }) => figures[name]!.ratio.median >= minRatio!),
    table: {
      head: ['request', 'body', 'ratio', 'JSON.parse µs', 'scanner µs'],
      rows: settings.map(({ name, shown, body }) => {
        const { ratio, parseUs, scannerUs } = figures[name]!
        return [shown, `${body.byteLength} bytes`, showSpread(ratio), parseUs.toFixed(1), scannerUs.toFixed(1)]
      }),
    },
    notes: [
      `The image is FP32 of shape ${image.join('x')}. The scanner's side is all of \`decodeRequest\`: UTF-8, the contract, shapes;` +
        " the other parses, checks that numbers are finite and stores them. CPU is that of the process, the collector's threads too.",
    ],
  }
}

function showUs({ parseUs, scannerUs }: Figure): string {
  return `${parseUs.toFixed(1)} µs over ${scannerUs.toFixed(1)}`
}
