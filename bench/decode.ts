/** What it costs to read a tensor that comes as JSON, and to write one: between a connection's bytes and typed memory. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Arena, Lease } from '../src/core/arena.ts'
import type { Answer } from '../src/core/call.ts'
import { isRefusal } from '../src/core/refusal.ts'
import type { Signature } from '../src/core/signature.ts'
import { RequestDecoder } from '../src/edge/codecs/request.ts'
import { AnswerEncoder, type Payload } from '../src/edge/codecs/response.ts'
import { edgeOptions } from '../src/edge/options.ts'
import type { Bench, BenchOptions, Report } from './support/bench.ts'
import { cpuPerWork, interleave, medianOf, round, roundSpread, showSpread, spreadOf } from './support/interleave.ts'
import type { Slice, Spread } from './support/interleave.ts'
import { repository } from './support/processes.ts'

const image = [1, 3, 224, 224]
/** As much of a body as a connection gives at once. */
const chunkBytes = 65_536

interface Setting {
  readonly name: string
  readonly shown: string
  /** Of what is read or written, for the table. */
  readonly bytes: number
  /** The least that the plain way must cost over ours; undefined where none is promised. */
  readonly minRatio: number | undefined
  readonly ours: () => void
  readonly plain: () => void
}

interface Figure {
  readonly ratio: Spread
  readonly oursUs: number
  readonly plainUs: number
}

export const decode: Bench = {
  name: 'decode',
  question:
    'CPU of JSON.parse and a store into a typed array over that of the scanner, and of JSON.stringify over that of the encoder',
  measure,
}

async function measure({ quick, say }: BenchOptions): Promise<Report> {
  const pace = quick ? { pairs: 5, sliceMs: 150 } : { pairs: 15, sliceMs: 400 }
  const settings = [...(await decodings()), ...encodings()]
  const figures: Record<string, Figure> = {}
  // All of them first: a gateway's code has seen every kind of request, not only one.
  for (const { ours, plain, bytes } of settings) {
    slice(ours, bytes, pace.sliceMs)
    slice(plain, bytes, pace.sliceMs)
  }
  for (const { name, shown, ours, plain, bytes } of settings) {
    const { pairs } = await interleave({
      pairs: pace.pairs,
      a: () => Promise.resolve(slice(plain, bytes, pace.sliceMs)),
      b: () => Promise.resolve(slice(ours, bytes, pace.sliceMs)),
    })
    const figure = {
      ratio: spreadOf(pairs.map(({ a, b }) => cpuPerWork(a) / cpuPerWork(b))),
      oursUs: medianOf(pairs.map(({ b }) => cpuPerWork(b) * 1_000)),
      plainUs: medianOf(pairs.map(({ a }) => cpuPerWork(a) * 1_000)),
    }
    figures[name] = figure
    say(`  ${shown}: ${showSpread(figure.ratio)}, ${figure.plainUs.toFixed(2)} µs over ${figure.oursUs.toFixed(2)}`)
  }
  return report(settings, figures)
}

function slice(run: () => void, bytes: number, ms: number): Slice {
  const until = performance.now() + ms
  const before = process.cpuUsage()
  let work = 0
  // The clock costs as much as a small request.
  const atOnce = Math.ceil(20_000 / bytes)
  while (performance.now() < until) {
    for (let i = 0; i < atOnce; i++) run()
    work += atOnce
  }
  const { user, system } = process.cpuUsage(before)
  return { work, cpuMs: (user + system) / 1_000, bad: 0, p50Ms: 0 }
}

let sink: unknown

async function decodings(): Promise<Setting[]> {
  const count = image.reduce((product, dim) => product * dim)
  const random = seeded(1)
  const values = Array.from({ length: count }, () => random() * 4 - 2)
  const sample = await readFile(join(repository, 'config/models/breast-cancer/1/samples/malignant.json'))
  const small = contractOf('features', ['batch', 30])
  return [
    decoding('decimals4', 'read an image, 4 decimals', 2.5, imageBody(values.map((each) => each.toFixed(4)).join())),
    decoding(
      'spaced4',
      'read an image, 4 decimals, a space behind each comma',
      undefined,
      imageBody(values.map((each) => each.toFixed(4)).join(', ')),
    ),
    decoding(
      'fullPrecision',
      'read an image, float32 printed as doubles',
      1.5,
      imageBody(values.map((each) => String(Math.fround(each))).join()),
    ),
    decoding('small', 'read the sample of breast-cancer, 30 numbers', undefined, { body: sample, contract: small }),
  ]
}

interface Body {
  readonly body: Buffer
  readonly contract: Signature
}

function decoding(name: string, shown: string, minRatio: number | undefined, { body, contract }: Body): Setting {
  return { name, shown, minRatio, bytes: body.length, ours: () => scan(body, contract), plain: () => parse(body) }
}

const arena = new Arena(2 ** 28)
const { json, tensors } = edgeOptions.parse({})
const options = { json, tensors, nonFinite: false }

/** In chunks as they come from a connection. */
function scan(body: Buffer, contract: Signature): void {
  const lease = new Lease(arena)
  const decoder = new RequestDecoder({ jsonBytes: undefined, length: body.length, options, lease }, contract)
  for (let at = 0; at < body.length; at += chunkBytes) {
    const refusal = decoder.write(body.length <= chunkBytes ? body : body.subarray(at, at + chunkBytes))
    if (refusal) throw new Error(refusal.message)
  }
  let request = decoder.end()
  while (!request) request = decoder.end()
  if (isRefusal(request)) throw new Error(request.message)
  sink = request
  lease.release()
}

/** No contract and no rules but that each element is a finite number: the least that a gateway could do. */
function parse(body: Buffer): void {
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

function imageBody(data: string): Body {
  const text = `{"inputs":[{"name":"image","datatype":"FP32","shape":[${image.join()}],"data":[${data}]}]}`
  return { body: Buffer.from(text), contract: contractOf('image', ['batch', ...image.slice(1)]) }
}

function contractOf(name: string, shape: readonly (number | string)[]): Signature {
  return {
    inputs: [{ name, datatype: 'FP32', shape }],
    outputs: [{ name: 'y', datatype: 'FP32', shape: ['batch'] }],
  }
}

/** So many values in all that no cache of printed numbers helps, which V8 has. */
const distinctValues = 40_000

function encodings(): Setting[] {
  return [
    encoding('scores1', 'write 1 score', 2, 1),
    encoding('scores2', 'write 2 class scores', 2, 2),
    encoding('scores10', 'write 10 class scores', 2, 10),
    encoding('scores1000', 'write 1,000 class scores', undefined, 1_000),
  ]
}

function encoding(name: string, shown: string, minRatio: number | undefined, size: number): Setting {
  const random = seeded(size)
  const answers = Array.from({ length: Math.ceil(distinctValues / size) }, () => answerOf(softmax(size, random)))
  const target = Buffer.alloc(1_048_576)
  const turn = (use: (answer: Answer) => unknown) => {
    let i = 0
    return () => void (sink = use(answers[i++ % answers.length]!))
  }
  const bytesOf = (write: (answer: Answer) => string) =>
    answers.reduce((sum, answer) => sum + write(answer).length, 0) / answers.length
  const bytes = bytesOf(encode)
  const share = bytes / bytesOf(stringify)
  byteShares[name] = share
  return {
    name,
    shown: `${shown} (${(100 * share).toFixed(0)} % of the bytes)`,
    minRatio,
    bytes,
    ours: turn((answer) => target.write(encode(answer))),
    plain: turn((answer) => target.write(stringify(answer))),
  }
}

/** Bytes of our answer over those of JSON.stringify. */
const byteShares: Record<string, number> = {}

function encode(answer: Answer): string {
  const { pieces } = new AnswerEncoder(answer, options).next() as Payload
  return pieces.length === 1 ? (pieces[0] as string) : pieces.join('')
}

function stringify({ model, version, outputs }: Answer): string {
  return JSON.stringify({
    model_name: model,
    model_version: version,
    outputs: outputs.map(({ name, datatype, shape, data }) => {
      return { name, datatype, shape, data: Array.from(data as Float32Array) }
    }),
  })
}

function answerOf(data: Float32Array): Answer {
  return {
    model: 'digits',
    version: '2',
    arm: undefined,
    id: undefined,
    wanted: [{ name: 'scores', binary: false }],
    outputs: [{ name: 'scores', datatype: 'FP32', shape: [1, data.length], data }],
  }
}

function softmax(size: number, random: () => number): Float32Array {
  const weights = Array.from({ length: size }, () => Math.exp(random() * 10 - 5))
  const sum = weights.reduce((total, weight) => total + weight, size === 1 ? random() : 0)
  return Float32Array.from(weights, (weight) => weight / sum)
}

/** A linear congruential generator: the same numbers in every run. */
function seeded(seed: number): () => number {
  let state = seed
  return () => (state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0) / 2 ** 32
}

const maxByteShare = 0.6

function report(settings: readonly Setting[], figures: Record<string, Figure>): Report {
  if (sink === undefined) throw new Error('nothing was decoded')
  const judged = settings.filter(({ minRatio }) => minRatio !== undefined)
  const shares = Object.fromEntries(Object.entries(byteShares).map(([name, share]) => [name, round(share)]))
  const isFast = judged.every(({ name, minRatio }) => figures[name]!.ratio.median >= minRatio!)
  return {
    figures: {
      ...Object.fromEntries(
        Object.entries(figures).map(([name, { ratio, oursUs, plainUs }]) => [
          name,
          { ratio: roundSpread(ratio), oursUs: round(oursUs, 2), plainUs: round(plainUs, 2) },
        ]),
      ),
      byteShares: shares,
    },
    targets: {
      ...Object.fromEntries(judged.map(({ name, minRatio }) => [`${name}.ratio`, `>= ${minRatio}`])),
      'byteShares.scores1000': `<= ${maxByteShare}`,
    },
    pass: isFast && byteShares['scores1000']! <= maxByteShare,
    table: {
      head: ['what', 'bytes', 'ratio', 'plain µs', 'ours µs'],
      rows: settings.map(({ name, shown, bytes }) => {
        const { ratio, plainUs, oursUs } = figures[name]!
        return [shown, bytes.toFixed(0), showSpread(ratio), plainUs.toFixed(2), oursUs.toFixed(2)]
      }),
    },
    notes: [
      `The image is FP32 of shape ${image.join('x')}. To read is all of a request's decoding, from chunks of 64 KiB: JSON, the` +
        ' contract, shapes; the plain way parses the whole, checks that numbers are finite and stores them. To write is the' +
        ' whole answer into a buffer, of softmax scores; the plain way is JSON.stringify of the same. CPU is that of the' +
        " process, the collector's threads too.",
    ],
  }
}
