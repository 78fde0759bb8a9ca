/** How long a body or an answer holds the event loop at a time, at worst: the longest single piece of work on it. */
import type { Datatype, NumericArray } from '../src/core/datatype.ts'
import { Arena, Lease } from '../src/core/arena.ts'
import type { Answer } from '../src/core/call.ts'
import { isRefusal } from '../src/core/refusal.ts'
import type { Dim } from '../src/core/signature.ts'

import { sliceBytes } from '../src/edge/codecs/decoder.ts'
import { RequestDecoder } from '../src/edge/codecs/request.ts'
import { AnswerEncoder } from '../src/edge/codecs/response.ts'
import { edgeOptions } from '../src/edge/options.ts'
import { turnBytes } from '../src/edge/turns.ts'
import type { Bench, BenchOptions, Report } from './support/bench.ts'
import { round } from './support/interleave.ts'

const maxMs = 5
/** As much as all bodies together get in a turn of the event loop: the last chunk may go beyond the turn's own. */
const pieceBytes = turnBytes + sliceBytes
const bodyBytes = 16_777_216

const { json, tensors } = edgeOptions.parse({})
const arena = new Arena(2 ** 30)

export const slices: Bench = {
  name: 'slices',
  question: 'the longest time that decoding a body of 16 MiB, or encoding as much, holds the event loop at once',
  measure,
}

interface Work {
  readonly name: string
  /** Does it all, a piece at a time; yields between. */
  readonly run: () => Generator<void>
}

interface Figure {
  readonly name: string
  readonly pieces: number
  readonly longestMs: number
  /** In the worst of the repetitions: with whatever the collector and the machine had to do meanwhile. */
  readonly worstMs: number
}

function measure({ quick, say }: BenchOptions): Promise<Report> {
  const repetitions = quick ? 3 : 9
  const figures = [...decodings(), ...encodings()].map((work) => {
    const figure = longest(work, repetitions)
    say(
      `  ${figure.name}: ${figure.longestMs.toFixed(2)} ms of ${figure.pieces} pieces, at worst ${figure.worstMs.toFixed(2)}`,
    )
    return figure
  })
  return Promise.resolve(report(figures, repetitions))
}

/** What a piece takes is the least of what it took; the longest of the pieces counts. */
function longest({ name, run }: Work, repetitions: number): Figure {
  const least: number[] = []
  let worstMs = 0
  for (let i = 0; i < repetitions; i++) {
    let piece = 0
    let before = performance.now()
    for (const _ of run()) {
      const took = performance.now() - before
      least[piece] = Math.min(least[piece] ?? took, took)
      worstMs = Math.max(worstMs, took)
      piece++
      before = performance.now()
    }
  }
  return { name, pieces: least.length, longestMs: Math.max(...least), worstMs }
}

function decodings(): Work[] {
  return [
    many('numbers of 4 decimals', '0.1234,'),
    many('numbers of 17 digits', '0.12345678901234567,'),
    many('numbers halfway between two float32', '1.00000005960464477539062500000000000000000000000000001,'),
    many('numbers with exponents', '1.7976931348623157e-308,'),
    many('integers as INT64', '-9223372036854775807,', 'INT64'),
    many('one digit each', '1,', 'UINT8'),
    many('white space', `${' '.repeat(60)}1,`),
    many('a list for each number', '[1],', 'FP32', ['n', 'w', 1]),
    many('true and false', 'true,false,', 'BOOL'),
    many('short strings', '"ab",', 'BYTES'),
    many('strings of escapes', `"${'\\u00e9'.repeat(300)}",`, 'BYTES'),
    many('strings of emojis', `"${'😀'.repeat(300)}",`, 'BYTES'),
    oneString('one string', 'x'),
    oneString('one string of escapes', '\\ud83d\\ude00'),
    decoding('data before its shape', dataFirst('0.1234,', 'FP32')),
    decoding('strings before their shape', dataFirst('"ab",', 'BYTES'), 'BYTES'),
    decoding('keys and names without end', Buffer.from(manyKeys())),
    decoding('one number', Buffer.from(`{"id":${'1'.repeat(bodyBytes)}}`)),
    decoding('binary float32', binary('FP32'), 'FP32', binaryHead('FP32').length),
    decoding('binary strings', binary('BYTES'), 'BYTES', binaryHead('BYTES').length),
  ]
}

function decoding(name: string, body: Buffer, datatype: Datatype = 'FP32', jsonBytes?: number): Work {
  return { name, run: () => decode(body, datatype, ['n', 'w'], jsonBytes) }
}

/** A tensor of one row made of the same text again and again. */
function many(name: string, element: string, datatype: Datatype = 'FP32', shape: readonly Dim[] = ['n', 'w']): Work {
  const most = datatype === 'BYTES' ? tensors.maxStrings : tensors.maxElements
  const perText = element.split(',').length - 1
  const texts = Math.floor(Math.min(bodyBytes / Buffer.byteLength(element), most / perText))
  const isNested = shape.length > 2
  const sent = [1, texts * perText, ...(isNested ? [1] : [])]
  const data = element.repeat(texts).slice(0, -1)
  const body = ofTensor(datatype, sent, isNested ? `[${data}]` : data)
  return { name, run: () => decode(body, datatype, shape) }
}

/** A tensor of one string, with the same in it again and again. */
function oneString(name: string, text: string): Work {
  const body = ofTensor('BYTES', [1, 1], `"${text.repeat(bodyBytes / text.length)}"`)
  return { name, run: () => decode(body, 'BYTES', ['n', 'w']) }
}

function ofTensor(datatype: Datatype, shape: readonly number[], data: string): Buffer {
  return Buffer.from(`{"inputs":[{"name":"x","datatype":"${datatype}","shape":[${shape.join()}],"data":[${data}]}]}`)
}

function dataFirst(element: string, datatype: Datatype): Buffer {
  const count = Math.min(Math.floor((bodyBytes - 200) / element.length), tensors.maxStrings)
  const data = element.repeat(count).slice(0, -1)
  return Buffer.from(`{"inputs":[{"data":[${data}],"name":"x","shape":[1,${count}],"datatype":"${datatype}"}]}`)
}

function manyKeys(): string {
  const keys = Array.from({ length: json.maxValues / 2 + 10 }, (_, i) => `"${`key ${i} `.padEnd(1_000, '\\n')}":1`)
  return `{"parameters":{${keys.join()}}}`
}

function binaryHead(datatype: Datatype): string {
  const { count, size } = binarySize(datatype)
  return `{"inputs":[{"name":"x","datatype":"${datatype}","shape":[1,${count}],"parameters":{"binary_data_size":${size}}}]}`
}

/** Strings are of four bytes behind four of their length. */
function binarySize(datatype: Datatype): { readonly count: number; readonly size: number } {
  const count = datatype === 'BYTES' ? tensors.maxStrings : (bodyBytes - 4_096) / 4
  return { count, size: count * (datatype === 'BYTES' ? 8 : 4) }
}

function binary(datatype: Datatype): Buffer {
  const { size } = binarySize(datatype)
  const tensor = Buffer.alloc(size)
  if (datatype === 'BYTES') for (let at = 0; at < size; at += 8) tensor.writeUInt32LE(4, at)
  return Buffer.concat([Buffer.from(binaryHead(datatype)), tensor])
}

function* decode(body: Buffer, datatype: Datatype, shape: readonly Dim[], jsonBytes?: number): Generator<void> {
  const lease = new Lease(arena)
  const options = { json, tensors, nonFinite: false }
  const contract = { inputs: [{ name: 'x', datatype, shape }], outputs: [] }
  const decoder = new RequestDecoder({ jsonBytes, length: body.length, options, lease }, contract)
  for (let at = 0; at < body.length; at += pieceBytes) {
    const refusal = decoder.write(body.subarray(at, at + pieceBytes))
    yield
    if (refusal) break
  }
  for (let request; !request;) {
    request = decoder.end()
    yield
  }
  lease.release()
}

function encodings(): Work[] {
  const count = 2_000_000
  const floats = Float32Array.from({ length: count }, (_, i) => 1 / (i + 3))
  const doubles = Float64Array.from(floats, (value) => value / 7)
  const integers = BigInt64Array.from({ length: count }, (_, i) => -(2n ** 62n) + BigInt(i))
  return [
    encoding('float32 to JSON', 'FP32', floats),
    encoding('float64 to JSON', 'FP64', doubles),
    encoding('INT64 to JSON', 'INT64', integers),
    encoding('float32 to binary', 'FP32', floats, true),
  ]
}

function encoding(name: string, datatype: Datatype, data: NumericArray, isBinary = false): Work {
  const answer: Answer = {
    model: 'm',
    version: '1',
    arm: undefined,
    id: undefined,
    wanted: [{ name: 'y', binary: isBinary }],
    outputs: [{ name: 'y', datatype, shape: [1, data.length], data }],
  }
  return { name, run: () => encode(answer) }
}

function* encode(answer: Answer): Generator<void> {
  const encoder = new AnswerEncoder(answer, { nonFinite: false })
  for (let payload; !payload;) {
    payload = encoder.next()
    yield
    if (payload && isRefusal(payload)) throw new Error(payload.message)
  }
}

function report(figures: readonly Figure[], repetitions: number): Report {
  const longestMs = Math.max(...figures.map((each) => each.longestMs))
  return {
    figures: {
      longestMs: round(longestMs, 2),
      each: Object.fromEntries(figures.map((each) => [each.name, round(each.longestMs, 2)])),
    },
    targets: { longestMs: `<= ${maxMs}` },
    pass: longestMs <= maxMs,
    table: {
      head: ['what', 'pieces', 'longest (ms)', 'at worst (ms)'],
      rows: figures.map(({ name, pieces, longestMs: own, worstMs }) => {
        return [name, String(pieces), own.toFixed(2), worstMs.toFixed(2)]
      }),
    },
    notes: [
      `A piece is what is done before others have their turn: ${pieceBytes / 1_024} KiB of bodies, or one step of encoding. What a piece` +
        ` takes is the least of ${repetitions} repetitions of the same work, because the collector and the machine take their time` +
        ' in some of them; the longest piece counts. Beside it the longest that any piece took in any repetition.',
    ],
  }
}
