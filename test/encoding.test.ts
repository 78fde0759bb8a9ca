/** Answers onto the wire, written in slices: what comes is what JSON.stringify would give, and the bytes behind it. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Answer, WantedOutput } from '../src/core/call.ts'
import type { Datatype, NumericArray } from '../src/core/datatype.ts'
import { isRefusal, type Refusal } from '../src/core/refusal.ts'
import { joinStrings, type Tensor, type TensorData } from '../src/core/tensor.ts'
import { AnswerEncoder, type Payload } from '../src/edge/codecs/response.ts'
import { byteStrings, bytesOf } from './support/client.ts'
import { drawFrom } from './support/draw.ts'

/** What a test puts into a tensor, with strings as strings. */
type Values = NumericArray | readonly string[]

interface Output {
  readonly name: string
  readonly datatype: Datatype
  readonly values: Values
  readonly shape?: readonly number[]
}

function tensorOf({ name, datatype, values, shape = [values.length] }: Output): Tensor {
  const isText = Array.isArray(values)
  const data = isText ? joinStrings(values.map((value) => Buffer.from(value))) : (values as TensorData)
  return { name, datatype, shape, data }
}

interface Asked {
  readonly id?: string
  readonly model?: string
  /** All of them as JSON, if it is not said. */
  readonly wanted?: readonly WantedOutput[]
  readonly nonFinite?: boolean
}

function encoderOf(outputs: readonly Output[], asked: Asked = {}): AnswerEncoder {
  const { id, model = 'm', wanted = outputs.map(({ name }) => ({ name, binary: false })), nonFinite = false } = asked
  const answer: Answer = { model, version: '1', arm: undefined, id, outputs: outputs.map(tensorOf), wanted }
  return new AnswerEncoder(answer, { nonFinite })
}

function finished(encoder: AnswerEncoder): { readonly payload: Payload | Refusal; readonly slices: number } {
  for (let slices = 1; ; slices++) {
    const payload = encoder.next()
    if (payload) return { payload, slices }
  }
}

interface Encoded {
  readonly json: any
  readonly text: string
  readonly binary: Buffer
  readonly slices: number
}

/** Whole numbers that a double cannot hold come as bigints. */
const exactly = (_: string, value: unknown, { source }: { source?: string } = {}): unknown =>
  typeof value === 'number' && !Number.isSafeInteger(value) && /^-?\d+$/.test(source!) ? BigInt(source!) : value

function encode(outputs: readonly Output[], asked: Asked = {}): Encoded {
  const { payload, slices } = finished(encoderOf(outputs, asked))
  const { text, binary } = bytesIn(payload)
  // To look at each number's text is slow.
  const isExact = outputs.some(({ datatype }) => datatype.endsWith('INT64'))
  return { json: isExact ? JSON.parse(text, exactly) : JSON.parse(text), text, binary, slices }
}

function bytesIn(payload: Payload | Refusal): { readonly text: string; readonly binary: Buffer } {
  if (isRefusal(payload)) assert.fail(payload.message)
  for (const piece of payload.pieces)
    if (typeof piece === 'string') assert.equal(Buffer.byteLength(piece), piece.length, 'a piece that is text is ASCII')
  const whole = Buffer.concat(payload.pieces.map((piece) => (typeof piece === 'string' ? Buffer.from(piece) : piece)))
  const jsonBytes = payload.jsonBytes ?? whole.length
  return { text: whole.toString('utf8', 0, jsonBytes), binary: whole.subarray(jsonBytes) }
}

/** Encodes, and holds what comes against what was put in. */
function same(outputs: readonly Output[], asked: Asked = {}): Encoded {
  const { id, model = 'm' } = asked
  const encoded = encode(outputs, asked)
  const got = encoded.json.outputs as { readonly datatype: Datatype; readonly data: unknown[] }[]
  for (const [i, { name, datatype, values, shape = [values.length] }] of outputs.entries()) {
    const { data } = got[i]!
    assert.deepStrictEqual({ ...got[i], data: data.length }, { name, datatype, shape, data: values.length })
    for (const [at, value] of values.entries()) {
      const expected = datatype === 'BOOL' ? value === 1 : asParsed(value)
      // The shortest form of a float32 is another double.
      const given = datatype === 'FP32' ? Math.fround(data[at] as number) : data[at]
      if (!Object.is(given, expected))
        assert.fail(`element ${at} of ${name} is ${String(given)}, not ${String(expected)}`)
    }
  }
  const head = { model_name: model, model_version: '1', ...(id !== undefined && { id }) }
  assert.deepStrictEqual({ ...encoded.json, outputs: got.length }, { ...head, outputs: outputs.length })
  return encoded
}

function asParsed(value: unknown): unknown {
  return typeof value === 'bigint' && Number.isSafeInteger(Number(value)) ? Number(value) : value
}

const odd = 'a"b\\c/\b\f\n\r\t\u0001\u001f\u007fü字😀\u2028\uffff'

const samples: readonly Output[] = [
  { name: 'bool', datatype: 'BOOL', values: Uint8Array.of(1, 0, 1) },
  { name: 'uint8', datatype: 'UINT8', values: Uint8Array.of(0, 255, 1) },
  { name: 'uint16', datatype: 'UINT16', values: Uint16Array.of(0, 65_535) },
  { name: 'uint32', datatype: 'UINT32', values: Uint32Array.of(0, 2 ** 32 - 1) },
  { name: 'uint64', datatype: 'UINT64', values: BigUint64Array.of(0n, 2n ** 64n - 1n, 2n ** 53n + 1n) },
  { name: 'int8', datatype: 'INT8', values: Int8Array.of(-128, 127, 0) },
  { name: 'int16', datatype: 'INT16', values: Int16Array.of(-32_768, 32_767) },
  { name: 'int32', datatype: 'INT32', values: Int32Array.of(-(2 ** 31), 2 ** 31 - 1) },
  { name: 'int64', datatype: 'INT64', values: BigInt64Array.of(-(2n ** 63n), 2n ** 63n - 1n, -1n) },
  { name: 'fp32', datatype: 'FP32', values: Float32Array.of(0, -0, 0.1, -3.4028235e38, 1e-45, 16_777_216, 1e21) },
  { name: 'fp64', datatype: 'FP64', values: Float64Array.of(0, -0, 0.1, -1.7976931348623157e308, 5e-324, 1e21, 1e-7) },
  { name: 'bytes', datatype: 'BYTES', values: ['', odd, 'null', '"', ' '] },
]

test('every datatype comes as JSON.stringify would write it, alone and beside the others', () => {
  for (const sample of samples) same([sample])
  same(samples)
  same([{ name: 'y', datatype: 'FP32', values: Float32Array.of(1, 2, 3, 4), shape: [2, 1, 2] }])
  same([{ name: 'y', datatype: 'FP32', values: Float32Array.of(7), shape: [] }])
  const outputs = [{ name: 'y', datatype: 'INT32', shape: [2], data: [1, -2] }]
  const { text } = encode([{ name: 'y', datatype: 'INT32', values: Int32Array.of(1, -2) }], { id: 'ü' })
  assert.equal(text, JSON.stringify({ model_name: 'm', model_version: '1', id: 'ü', outputs }))
})

test('minus zero keeps its sign', () => {
  for (const datatype of ['FP32', 'FP64'] as const) {
    const values = datatype === 'FP32' ? Float32Array.of(-0, 0) : Float64Array.of(-0, 0)
    assert.match(encode([{ name: 'y', datatype, values }]).text, /"data":\[-0,0\]/)
  }
})

test('an output without elements is an empty list, whatever its datatype', () => {
  for (const { name, datatype, values } of samples) {
    const none = { name, datatype, values: values.slice(0, 0), shape: [0, 3] }
    same([none])
    same([none, { ...samples[0]!, name: 'some' }, { ...none, name: 'last' }])
  }
})

test('NaN and infinities are refused by the name of their output or written as bare words, as the policy says', () => {
  const notFinite = [1, NaN, Infinity, -Infinity, 0.5]
  for (const [datatype, values] of [
    ['FP32', Float32Array.from(notFinite)],
    ['FP64', Float64Array.from(notFinite)],
  ] as const) {
    const outputs = [samples[0]!, { name: 'bad"', datatype, values }]
    const { payload } = finished(encoderOf(outputs))
    assert.ok(isRefusal(payload))
    assert.deepEqual([payload.code, payload.message.includes('output "bad"')], ['model_failed', true])
    // What was written of the refused one is not in the next.
    same(samples)
    const literal = finished(encoderOf(outputs, { nonFinite: true })).payload as Payload
    assert.match(literal.pieces.join(''), /"data":\[1,NaN,Infinity,-Infinity,0\.5\]\}\]\}$/)
    const binary = encode(outputs, { wanted: [{ name: 'bad"', binary: true }] }).binary
    assert.deepEqual(binary, bytesOf(values))
  }
})

test('binary outputs lie behind the JSON in the order in which they were asked for, and the JSON says how long they are', () => {
  const half: Output = { name: 'fp16', datatype: 'FP16', values: Uint16Array.of(0x3c00, 0x7c00, 0x7e00) }
  const all = [half, ...samples]
  const draw = drawFrom(3)
  for (let i = 0; i < 500; i++) {
    const order = all.toSorted(() => draw(3) - 1).slice(0, 1 + draw(all.length))
    const wanted = order.map(({ name }) => ({ name, binary: name === 'fp16' || draw(2) === 0 }))
    const id = draw(2) === 0 ? odd : undefined
    const { json, text, binary } = encode(all, { wanted, ...(id !== undefined && { id }) })
    assert.deepEqual(
      json.outputs.map(({ name }: Output) => name),
      order.map(({ name }) => name),
    )
    assert.equal(json.id, id)
    const wires: Buffer[] = []
    for (const [at, { name, datatype, values }] of order.entries()) {
      const described = { name, datatype, shape: [values.length] }
      if (wanted[at]!.binary) {
        const wire = Array.isArray(values) ? byteStrings(...values) : bytesOf(values as NumericArray)
        wires.push(wire)
        assert.deepEqual(json.outputs[at], { ...described, parameters: { binary_data_size: wire.length } })
      } else {
        assert.deepEqual({ ...json.outputs[at], data: 0 }, { ...described, data: 0 })
        assert.equal(json.outputs[at].data.length, values.length)
      }
    }
    assert.deepEqual(binary, Buffer.concat(wires))
    assert.equal(text.includes(String.fromCharCode(0xfffd)), false)
  }
})

test('ids and names of any characters and any length come back as they were', () => {
  const long = '"ü\n'.repeat(350_000)
  for (const id of ['', odd, '\ud800', 'x'.repeat(10_922), '字'.repeat(10_922), '字'.repeat(10_923), long]) {
    assert.equal(same([samples[0]!], { id }).json.id, id)
    const { json, binary } = encode([samples[2]!], { id, wanted: [{ name: 'uint16', binary: true }] })
    assert.deepEqual([json.id, binary], [id, bytesOf(Uint16Array.of(0, 65_535))])
  }
  same([{ ...samples[0]!, name: odd }], { model: odd, id: odd })
  same([{ ...samples[0]!, name: 'ü' }])
  same([samples[0]!], { model: 'ü' })
})

const million = 1_000_000
const large: readonly Output[] = [
  { name: 'fp32', datatype: 'FP32', values: Float32Array.from({ length: million }, (_, i) => Math.sin(i) / 7) },
  { name: 'fp64', datatype: 'FP64', values: Float64Array.from({ length: million }, (_, i) => Math.sin(i) * i) },
  { name: 'int64', datatype: 'INT64', values: BigInt64Array.from({ length: million }, (_, i) => BigInt(i) ** 3n) },
  { name: 'bool', datatype: 'BOOL', values: Uint8Array.from({ length: million }, (_, i) => (i % 3) & 1) },
  { name: 'bytes', datatype: 'BYTES', values: Array.from({ length: 200_000 }, (_, i) => `${i}ü"`) },
]

test('a million elements come in many slices, and none is lost between them', () => {
  for (const output of large) assert.ok(same([output]).slices > 10)
})

test('answers that are written in turns, slice by slice, do not mix', () => {
  const draw = drawFrom(9)
  const open = Array.from({ length: 12 }, (_, i) => {
    const { values, ...rest } = large[i % large.length]!
    const outputs = [
      { ...rest, values: values.slice(0, 90_000) },
      { ...samples.at(-1)!, name: String(i) },
    ]
    return { encoder: encoderOf(outputs, { id: `ü${i}` }), expected: encode(outputs, { id: `ü${i}` }).text }
  })
  while (open.length > 0) {
    const at = draw(open.length)
    const { encoder, expected } = open[at]!
    const payload = encoder.next()
    if (!payload) continue
    assert.ok(bytesIn(payload).text === expected)
    open.splice(at, 1)
    same(samples)
  }
})

/** How much text goes into one slice. */
const sliceBytes = (finished(encoderOf([large[0]!])).payload as Payload).pieces[0]!.length

/** An output of zeros, so many that its text fills a slice up to `left` bytes. */
function filling(left: number, id: string): Output {
  const empty = encode([{ name: 'zeros', datatype: 'UINT8', values: new Uint8Array(0) }], { id }).text.length - 2
  return { name: 'zeros', datatype: 'UINT8', values: new Uint8Array((sliceBytes - left - empty) >> 1) }
}

test('an output that ends just where a slice is full takes nothing from the next one', () => {
  const next = [samples[0]!, samples[3]!, samples[4]!, samples[9]!, samples[10]!, samples[11]!]
  for (let left = -20; left < 120; left++) {
    const id = 'i'.repeat(left & 1)
    const zeros = filling(left, id)
    const { json } = encode([zeros, next[(left + 20) % next.length]!, { ...next[0]!, name: 'last' }], { id })
    assert.deepEqual(
      json.outputs.map(({ data }: { data: unknown[] }) => data.length),
      [zeros.values.length, next[(left + 20) % next.length]!.values.length, 3],
    )
  }
})

test('a long text at the end of a slice leaves room for what follows', () => {
  for (const unit of ['x', 'ü', '字', '\u0001', '😀']) {
    for (const length of [5_461, 10_919, 10_920, 10_921, 40_000]) {
      for (let left = 0; left < 260; left += 30) {
        const text = unit.repeat(length)
        const texts: Output = { name: 't'.repeat(100), datatype: 'BYTES', values: [text] }
        const { json } = encode([filling(left + 200, ''), texts, { ...samples[3]!, name: 'n'.repeat(200) }], { id: '' })
        assert.ok(json.outputs[1].data[0] === text)
        assert.deepEqual(json.outputs[2].data, [0, 2 ** 32 - 1])
      }
    }
  }
})

test('an answer may have thousands of outputs, as JSON and as binary', () => {
  const outputs = Array.from({ length: 3_000 }, (_, i): Output => {
    return { name: `a long name of an output, ${i}`, datatype: 'FP32', values: Float32Array.of(i, 0.5) }
  })
  same(outputs)
  const { json, binary } = encode(outputs, { wanted: outputs.map(({ name }) => ({ name, binary: true })) })
  assert.deepEqual([json.outputs.length, binary.length], [3_000, 24_000])
})
