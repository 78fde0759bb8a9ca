/** Every datatype of the protocol through a model that gives back what it takes, in JSON and in binary; and shapes. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { binaryTensor, byteStrings, bytesOf, post, wholeFile, withBinary } from './support/client.ts'
import { startGateway, tensor } from './support/gateway.ts'
import { identity, onnx, onnxTypes, type OnnxType } from './support/onnx.ts'

function unary(op: string): Buffer {
  return onnx({
    inputs: [{ name: 'x', type: 'FP32', shape: ['n'] }],
    outputs: [{ name: 'y', type: 'FP32', shape: ['n'] }],
    nodes: [{ op, inputs: ['x'], outputs: ['y'] }],
  })
}

const pair = onnx({
  inputs: ['a', 'b'].map((name) => ({ name, type: 'INT64' as const, shape: ['n', 'len'] })),
  outputs: [{ name: 'sum', type: 'INT64', shape: ['n', 'len'] }],
  nodes: [{ op: 'Add', inputs: ['a', 'b'], outputs: ['sum'] }],
})

const datatypes = (Object.keys(onnxTypes) as OnnxType[]).filter((type) => type !== 'BF16')
const echoes = Object.fromEntries(datatypes.map((type) => [`${type}.onnx`, identity(type, ['n'])]))
const gateway = await startGateway(wholeFile, {
  store: {
    ...echoes,
    'root.onnx': unary('Sqrt'),
    'log.onnx': unary('Log'),
    'rows.onnx': identity('FP32', ['n', 2]),
    'pair.onnx': pair,
  },
})

/** `data` is the literal JSON between the brackets, so that nothing on the way here rounds it. */
async function sendJson(datatype: string, data: string, count: number, model: string = datatype) {
  return post(gateway, model, `{"inputs":[{"name":"x","datatype":"${datatype}","shape":[${count}],"data":[${data}]}]}`)
}

/** The literal JSON of the answer's elements. */
function literal(text: string): string {
  return /"data":\[(.*)\]\}\]\}$/.exec(text)![1]!
}

async function sendBinary(datatype: string, count: number, bytes: Uint8Array) {
  const inputs = [binaryTensor('x', datatype, [count], bytes.byteLength)]
  const { body, headers } = withBinary({ inputs, parameters: { binary_data_output: true } }, bytes)
  return post(gateway, datatype, body, headers)
}

const whole: [OnnxType, string, Uint8Array][] = [
  ['BOOL', 'true,false', Uint8Array.of(1, 0)],
  ['UINT8', '0,1,255', Uint8Array.of(0, 1, 255)],
  ['UINT16', '0,65535', bytesOf(Uint16Array.of(0, 65_535))],
  ['UINT32', '0,2147483648,4294967295', bytesOf(Uint32Array.of(0, 2 ** 31, 2 ** 32 - 1))],
  ['UINT64', '0,9007199254740993,18446744073709551615', bytesOf(BigUint64Array.of(0n, 2n ** 53n + 1n, 2n ** 64n - 1n))],
  ['INT8', '-128,0,127', bytesOf(Int8Array.of(-128, 0, 127))],
  ['INT16', '-32768,0,32767', bytesOf(Int16Array.of(-32_768, 0, 32_767))],
  ['INT32', '-2147483648,0,2147483647', bytesOf(Int32Array.of(-(2 ** 31), 0, 2 ** 31 - 1))],
  [
    'INT64',
    '-9223372036854775808,-9007199254740993,9007199254740993,9223372036854775807',
    bytesOf(BigInt64Array.of(-(2n ** 63n), -(2n ** 53n) - 1n, 2n ** 53n + 1n, 2n ** 63n - 1n)),
  ],
]

test('whole numbers keep every digit through JSON, up to the ends of their range', async () => {
  for (const [datatype, data] of whole) {
    const { status, json, text } = await sendJson(datatype, data, data.split(',').length)
    assert.equal(status, 200, datatype)
    assert.equal(json.outputs[0].datatype, datatype)
    assert.equal(literal(text), data)
  }
})

test('whole numbers of 64 bits may be written as small ones, and as doubles that are whole', async () => {
  for (const datatype of ['INT64', 'UINT64']) {
    assert.equal(literal((await sendJson(datatype, '1e3,7.0,9007199254740991', 3)).text), '1000,7,9007199254740991')
  }
})

const floats: [OnnxType, number[], Uint8Array][] = [
  ['FP32', [0, 1.5, -(2 ** -149), 2 ** -126, 0.1], bytesOf(Float32Array.of(0, 1.5, -(2 ** -149), 2 ** -126, 0.1))],
  ['FP32', [3.4028234663852886e38, -3.4028234663852886e38], bytesOf(Float32Array.of(3.4028235e38, -3.4028235e38))],
  ['FP64', [0.1, 5e-324, 2 ** 53 + 2], bytesOf(Float64Array.of(0.1, 5e-324, 2 ** 53 + 2))],
  [
    'FP64',
    [1.7976931348623157e308, -1.7976931348623157e308],
    bytesOf(Float64Array.of(1.7976931348623157e308, -1.7976931348623157e308)),
  ],
]

test('floats come back to the bit through JSON, the largest and the denormal ones too', async () => {
  for (const [datatype, data, bytes] of floats) {
    const { status, json } = await sendJson(datatype, JSON.stringify(data).slice(1, -1), data.length)
    assert.equal(status, 200)
    const array = datatype === 'FP32' ? Float32Array : Float64Array
    assert.deepEqual(bytesOf(array.from(json.outputs[0].data as number[])), bytesOf(bytes))
  }
})

test('minus zero keeps its sign through JSON', async () => {
  for (const datatype of ['FP32', 'FP64']) {
    const { json } = await sendJson(datatype, '-0.0,0', 2)
    assert.deepEqual(
      json.outputs[0].data.map((each: number) => Object.is(each, -0)),
      [true, false],
      datatype,
    )
  }
})

test('numbers come back to the bit through binary', async () => {
  const special = [
    ['FP16', bytesOf(Uint16Array.of(0x0000, 0x8000, 0x0001, 0x3c00, 0x7bff, 0x7c00, 0xfc00, 0x7e01))],
    ['FP32', bytesOf(Uint32Array.of(0x80000000, 1, 0x7f7fffff, 0x7f800000, 0xff800000, 0x7fc00123))],
    ['FP64', bytesOf(BigUint64Array.of(2n ** 63n, 1n, 0x7ff0000000000000n, 0xfff0000000000000n, 0x7ff8000000000123n))],
  ] as const
  for (const [datatype, bytes] of [...whole.map(([type, , wide]) => [type, wide] as const), ...special]) {
    const width = Number(/\d+/.exec(datatype)?.[0] ?? 8) / 8
    const { status, json, binary } = await sendBinary(datatype, bytes.byteLength / width, bytes)
    assert.equal(status, 200, `${datatype} ${JSON.stringify(json)}`)
    assert.equal(json.outputs[0].datatype, datatype)
    assert.deepEqual(binary, bytesOf(bytes))
  }
})

const misfits: Record<string, string[]> = {
  BOOL: ['1', '0', '"true"', 'null'],
  UINT8: ['256', '-7', '1.25', '"44"', 'true', 'null', '1e999', '[7]'],
  UINT16: ['65536', '-7', '1.25'],
  UINT32: ['4294967296', '-7', '1.25'],
  UINT64: ['18446744073709551616', '-7', '1.25', '"44"', 'false', '1e999', '12345678901234567e2'],
  INT8: ['128', '-129', '1.25'],
  INT16: ['32768', '-32769', '1.25'],
  INT32: ['2147483648', '-2147483649', '1.25', '98765432109876543210'],
  INT64: ['9223372036854775808', '-9223372036854775809', '1.25', '-1e999', '12345678901234567e2', 'null'],
  FP32: ['1e39', '-3.5e38', '1e999', '"44"', 'true', 'null', '{}'],
  FP64: ['1e999', '-1e999', '"NaN"', 'false'],
  BYTES: ['44', 'true', 'null', '["word"]'],
}

test('an element that its datatype cannot hold is refused by its place, never by its value', async () => {
  for (const [datatype, values] of Object.entries(misfits)) {
    const good = { BOOL: 'true', BYTES: '"word"' }[datatype] ?? '1'
    for (const value of values) {
      const { status, json } = await sendJson(datatype, `${good},${good},${value},${good}`, 4)
      assert.deepEqual([status, json.code], [400, 'invalid'], `${datatype} ${value}`)
      assert.match(json.error, /^input "x": element 2 /)
      const bare = value.replaceAll(/["[\]]/g, '')
      if (!/^([027]|1|true|false|null|\{\})$/.test(bare)) assert.ok(!json.error.includes(bare), json.error)
    }
  }
})

test('a whole number beyond 2^53 in another form than all its digits is refused, not rounded', async () => {
  const { status, json } = await sendJson('INT64', '9007199254740993.0', 1)
  assert.deepEqual([status, json.code], [400, 'invalid'])
  assert.match(json.error, /element 0.*all its digits/)
})

test('the literals NaN and Infinity are no JSON, and the refusal does not blame the length of the body', async () => {
  for (const value of ['NaN', 'Infinity', '-Infinity']) {
    const { status, json } = await sendJson('FP32', `1,${value},2`, 3)
    assert.deepEqual([status, json.code], [400, 'invalid'])
    assert.match(json.error, /not JSON/)
    assert.doesNotMatch(json.error, /too early|empty/)
  }
})

test('FP16 has no form in JSON, and the refusal says what to do', async () => {
  const input = await sendJson('FP16', '1', 1)
  assert.equal(input.status, 400)
  assert.match(input.json.error, /input "x".*FP16.*binary/)
  const inputs = [binaryTensor('x', 'FP16', [1], 2)]
  for (const asked of [
    {},
    { parameters: { binary_data_output: true }, outputs: [{ name: 'y', parameters: { binary_data: false } }] },
  ]) {
    const { body, headers } = withBinary({ inputs, ...asked }, Uint8Array.of(0, 0x3c))
    const output = await post(gateway, 'FP16', body, headers)
    assert.equal(output.status, 400)
    assert.match(output.json.error, /output "y".*FP16.*"binary_data": true/)
  }
})

test('a model with BF16 is refused at load, with a way out', async (t) => {
  const started = startGateway(t, { store: { 'brain.onnx': identity('BF16', ['n']) } })
  await assert.rejects(started, /brain\.onnx: .*BF16.*FP16 or FP32/)
})

test('a tensor of another datatype than the model takes is refused with the one that it takes', async () => {
  const { status, json } = await sendJson('FP64', '1', 1, 'FP32')
  assert.deepEqual([status, json.error], [400, 'input "x": its datatype must be FP32'])
})

const strings = [
  '',
  'plain',
  'grüße',
  '😀👩‍👩‍👧',
  '\uFEFFbehind a mark',
  '"quoted\\"\n\t',
  '\u2028',
  'é',
  'x'.repeat(100_000),
]

test('strings come back as they were, through JSON and through binary', async () => {
  const { status, json } = await sendJson('BYTES', JSON.stringify(strings).slice(1, -1), strings.length)
  assert.equal(status, 200)
  assert.deepEqual(json.outputs[0].data, strings)
  const { binary } = await sendBinary('BYTES', strings.length, byteStrings(...strings))
  assert.deepEqual(binary, byteStrings(...strings))
})

// ONNX Runtime's binding for Node takes strings up to the first NUL and drops the rest without a word.
test('a string with a NUL in it is kept whole or refused, never cut', async () => {
  const replies = [
    await sendJson('BYTES', '"ok","a\\u0000b"', 2),
    await sendBinary('BYTES', 2, byteStrings('ok', 'a\0b')),
  ]
  for (const { status, json, binary } of replies) {
    if (status === 200)
      assert.ok(binary.equals(byteStrings('ok', 'a\0b')) || json.outputs[0].data?.[1] === 'a\0b', 'cut')
    else assert.match(json.error, /^input "x": .*element 1/)
  }
})

test('half a surrogate pair is refused', async () => {
  for (const value of ['"\\ud83d"', '"\\ude00"', '"\\ude00\\ud83d"']) {
    const { status, json } = await sendJson('BYTES', `"ok",${value}`, 2)
    assert.deepEqual([status, json.code], [400, 'invalid'])
    assert.match(json.error, /^input "x": element 1 .*surrogate/)
  }
})

test('bytes that are not UTF-8 are refused as strings', async () => {
  for (const bad of [[0xff], [0xc3], [0xed, 0xa0, 0x80], [0xc0, 0x80], [0xf4, 0x90, 0x80, 0x80]]) {
    const { status, json } = await sendBinary('BYTES', 2, byteStrings('ok', Uint8Array.from(bad)))
    assert.deepEqual([status, json.code], [400, 'invalid'])
    assert.match(json.error, /^input "x": .*element 1 is not UTF-8/)
  }
})

test('an answer with NaN or Infinity is refused as JSON with a hint, and sent in binary', async () => {
  for (const [model, values] of [
    ['root', '4,-1'],
    ['log', '1,0'],
  ] as const) {
    const asJson = await sendJson('FP32', values, 2, model)
    assert.deepEqual([asJson.status, asJson.json.code], [500, 'model_failed'])
    assert.match(asJson.json.error, /output "y".*binary/)
    const inputs = `[{"name":"x","datatype":"FP32","shape":[2],"data":[${values}]}]`
    const asBinary = await post(gateway, model, `{"inputs":${inputs},"parameters":{"binary_data_output":true}}`)
    assert.equal(asBinary.status, 200)
    const answer = [asBinary.binary.readFloatLE(0), asBinary.binary.readFloatLE(4)]
    assert.deepEqual(answer, model === 'root' ? [2, Number.NaN] : [0, -Infinity])
  }
})

const x = tensor('x', 'FP32', [1, 2], [1, 2])

/** Each body must be refused as invalid, in words that match. */
async function allRefused(model: string, bodies: readonly [body: unknown, words: RegExp][]): Promise<void> {
  for (const [body, words] of bodies) {
    const { status, json } = await gateway.infer(model, body)
    assert.deepEqual([status, json.code], [400, 'invalid'], JSON.stringify(body).slice(0, 200))
    assert.match(json.error, words)
  }
}

test('a request whose shape does not fit is refused with the shape that would', async () => {
  const shaped = (shape: unknown): unknown => ({ inputs: [{ ...x, shape }] })
  const { json } = await gateway.infer('rows', { inputs: [tensor('x', 'FP32', [1, 3], [1, 2, 3])] })
  assert.equal(json.error, 'input "x": it has shape [1, 3] but the model takes [n, 2]: dimension 1 must be 2')
  await allRefused('rows', [
    [shaped([2]), /takes \[n, 2\]: it needs 2 dimensions/],
    [shaped([1, 2, 1]), /takes \[n, 2\]: it needs 2 dimensions/],
    [{ inputs: [{ ...x, shape: [], data: [1] }] }, /takes \[n, 2\]/],
    ...[
      [-1, 2],
      [0, 2],
      [1.5, 2],
      ['1', 2],
      [null, 2],
      [[1], 2],
      [1e300, 2],
    ].map((shape): [unknown, RegExp] => [shaped(shape), /"x".*shape/]),
    ...['1,2', 2, null, { 0: 1 }, undefined].map((shape): [unknown, RegExp] => [
      shaped(shape),
      /"shape" must be a list/,
    ]),
    [{ inputs: [tensor('x', 'FP32', [0, 2], [])] }, /whole numbers from 1/],
  ])
  for (const [shape, words] of [
    [[1_025, 2], /"x" has shape \[1025, 2\]: 1024 rows are the most/],
    [Array.from({ length: 1_000 }, () => 2), /"x" has 1000 dimensions; 8 are the most/],
  ] as const) {
    const refused = await gateway.infer('rows', shaped(shape))
    assert.deepEqual([refused.status, refused.json.code], [413, 'too_large'])
    assert.match(refused.json.error, words)
  }
})

test('inputs whose shapes do not go together are refused', async () => {
  const of = (name: string, shape: number[]) =>
    tensor(
      name,
      'INT64',
      shape,
      Array.from({ length: shape[0]! * shape[1]! }, () => 1),
    )
  await allRefused('pair', [
    [{ inputs: [of('a', [1, 2]), of('b', [1, 3])] }, /"b".*"len" is 2/],
    [{ inputs: [of('a', [1, 2]), of('b', [2, 2])] }, /"b".*"n" is 1/],
  ])
})

test('data that does not fill its shape is refused', async () => {
  const filled = (data: unknown): unknown => ({ inputs: [tensor('x', 'FP32', [2, 2], data as unknown[])] })
  await allRefused('rows', [
    [filled([1, 2, 3]), /holds 3 elements.*needs 4/],
    [filled([1, 2, 3, 4, 5]), /holds more than 4 elements.*needs 4/],
    [filled([]), /holds 0 elements/],
    [filled([[1, 2], [3]]), /lists of 2/],
    [filled([[1, 2, 3], [4]]), /lists of 2/],
    [filled([[1], [2, 3, 4]]), /lists of 2/],
    [filled([[1, 2]]), /lists of 2/],
    [filled([[1, 2], 3]), /lists of 2/],
    [filled([1, [2, 3], 4, 5]), /element 1 is not a number/],
    [
      filled([
        [[1], 2],
        [3, 4],
      ]),
      /element 0 is not a number/,
    ],
    ...[1, 'text', null, { length: 4 }].map((data): [unknown, RegExp] => [filled(data), /must be a list/]),
  ])
})
