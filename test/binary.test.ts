/** The binary tensor extension, in both directions, and the raw form without JSON. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { binaryTensor, byteStrings, bytesOf, post, wholeFile, withBinary, type RawReply } from './support/client.ts'
import { startGateway, tensor } from './support/gateway.ts'
import { identity, onnx, type Graph } from './support/onnx.ts'
import { Wire, wireRequest } from './support/socket.ts'

/** Gives back four tensors whose elements are 1, 8, 2 and 8 bytes wide, of any length each. */
const fourTypes = { u: 'UINT8', d: 'FP64', s: 'INT16', l: 'INT64' } as const
const four = onnx({
  inputs: Object.entries(fourTypes).map(([name, type]) => ({ name, type, shape: [1, `len_${name}`] })),
  outputs: Object.entries(fourTypes).map(([name, type]) => ({ name: `${name}2`, type, shape: [1, `len_${name}`] })),
  nodes: Object.keys(fourTypes).map((name) => ({ op: 'Identity', inputs: [name], outputs: [`${name}2`] })),
})

const addition: Graph = {
  inputs: [
    { name: 'a', type: 'FP32', shape: ['n'] },
    { name: 'b', type: 'FP32', shape: ['n'] },
  ],
  outputs: [
    { name: 'sum', type: 'FP32', shape: ['n'] },
    { name: 'difference', type: 'FP32', shape: ['n'] },
  ],
  nodes: [
    { op: 'Add', inputs: ['a', 'b'], outputs: ['sum'] },
    { op: 'Sub', inputs: ['a', 'b'], outputs: ['difference'] },
  ],
}

const gateway = await startGateway(wholeFile, {
  store: {
    'echo.onnx': identity('FP32', ['n']),
    'wide.onnx': identity('INT16', ['n', 'w']),
    'box.onnx': identity('FP32', ['n', 3]),
    'grid.onnx': identity('FP32', ['n', 'h', 'w']),
    'flag.onnx': identity('BOOL', ['n']),
    'words.onnx': identity('BYTES', ['n']),
    'word.onnx': identity('BYTES', [1]),
    'four.onnx': four,
    'add.onnx': onnx(addition),
  },
})

const floats = new Float32Array([1.5, -2.25, 3e-40])
const echoInput = binaryTensor('x', 'FP32', [3], 12)

async function send(model: string, request: object | string, ...parts: Parameters<typeof bytesOf>[0][]) {
  const { body, headers } = withBinary(request, ...parts)
  return post(gateway, model, body, headers)
}

function refused({ status, json }: RawReply, words: RegExp): void {
  assert.deepEqual([status, json.code], [400, 'invalid'])
  assert.match(json.error, words)
}

test('binary input is read, and the answer is JSON unless binary is asked for', async () => {
  const { status, headers, json, binary } = await send('echo', { inputs: [echoInput] }, floats)
  assert.equal(status, 200)
  assert.equal(headers.get('inference-header-content-length'), null)
  assert.equal(headers.get('content-type'), 'application/json')
  const [output] = json.outputs
  assert.deepEqual({ ...output, data: [] }, { name: 'y', datatype: 'FP32', shape: [3], data: [] })
  assert.deepEqual(new Float32Array(output.data), floats)
  assert.equal(binary.byteLength, 0)
})

test('a binary answer is JSON followed by the bytes, and its head says where they begin', async () => {
  const outputs = [{ name: 'y', parameters: { binary_data: true } }]
  const { status, headers, json, binary } = await send('echo', { id: 'é', inputs: [echoInput], outputs }, floats)
  assert.equal(status, 200)
  assert.equal(headers.get('content-type'), 'application/octet-stream')
  const y = { name: 'y', datatype: 'FP32', shape: [3], parameters: { binary_data_size: 12 } }
  assert.deepEqual(json, { model_name: 'echo', model_version: '1', id: 'é', outputs: [y] })
  assert.deepEqual(binary, bytesOf(floats))
})

test('each output comes as it was asked for, and the request says what holds for the others', async () => {
  const inputs = [tensor('a', 'FP32', [2], [1, 2]), tensor('b', 'FP32', [2], [10, 20])]
  const ask = (parameters: object, outputs?: object[]) =>
    post(gateway, 'add', JSON.stringify({ inputs, parameters, outputs }))
  const binarySum = { name: 'sum', parameters: { binary_data: true } }
  const jsonSum = { name: 'sum', parameters: { binary_data: false } }
  const difference = { name: 'difference' }
  const [sums, differences] = [new Float32Array([11, 22]), new Float32Array([-9, -18])].map(bytesOf)
  const cases: [RawReply, unknown[], Buffer[]][] = [
    [await ask({}, [difference, binarySum]), [[-9, -18], undefined], [sums!]],
    [await ask({ binary_data_output: true }), [undefined, undefined], [sums!, differences!]],
    [await ask({ binary_data_output: true }, [difference, binarySum]), [undefined, undefined], [differences!, sums!]],
    [await ask({ binary_data_output: true }, [jsonSum, difference]), [[11, 22], undefined], [differences!]],
    [
      await ask({ binary_data_output: false }, [jsonSum, difference]),
      [
        [11, 22],
        [-9, -18],
      ],
      [],
    ],
  ]
  for (const [{ json, binary }, data, parts] of cases) {
    assert.deepEqual(
      json.outputs.map((output: any) => output.data),
      data,
    )
    assert.deepEqual(binary, Buffer.concat(parts))
  }
})

test('binary and JSON inputs mix, and binary data lies in the order of the request', async () => {
  const a = new Float32Array([1, 2])
  const b = new Float32Array([10, 20])
  const [inA, inB] = [binaryTensor('a', 'FP32', [2], 8), binaryTensor('b', 'FP32', [2], 8)]
  const sums = async (reply: Promise<RawReply>) => (await reply).json.outputs[1].data
  assert.deepEqual(await sums(send('add', { inputs: [inB, inA] }, b, a)), [-9, -18])
  assert.deepEqual(await sums(send('add', { inputs: [tensor('b', 'FP32', [2], [...b]), inA] }, a)), [-9, -18])
  assert.deepEqual(await sums(send('add', { inputs: [inB, tensor('a', 'FP32', [2], [...a])] }, b)), [-9, -18])
})

test('strings travel in binary behind their lengths', async () => {
  const strings = byteStrings('', 'a', 'grüße 😀', 'x'.repeat(70_000))
  const request = {
    inputs: [binaryTensor('x', 'BYTES', [4], strings.byteLength)],
    parameters: { binary_data_output: true },
  }
  const { status, json, binary } = await send('words', request, strings)
  assert.equal(status, 200)
  assert.deepEqual(json.outputs[0].parameters, { binary_data_size: strings.byteLength })
  assert.deepEqual(binary, strings)
})

test('a length header may stand over a body that is all JSON', async () => {
  const { status, json } = await send('echo', { inputs: [tensor('x', 'FP32', [1], [7])] })
  assert.deepEqual([status, json.outputs[0].data], [200, [7]])
})

test('bytes that are missing are refused', async () => {
  refused(await send('echo', { inputs: [echoInput] }, floats.subarray(1)), /"x".*ends before/)
  refused(await send('echo', { inputs: [binaryTensor('x', 'FP32', [3], 8)] }, floats.subarray(1)), /"x".*8.*needs 12/)
  refused(await post(gateway, 'echo', JSON.stringify({ inputs: [echoInput] })), /"x".*ends before/)
})

test('bytes that no tensor claims are refused', async () => {
  refused(await send('echo', { inputs: [echoInput] }, floats, Buffer.alloc(1)), /1 bytes.*no input/)
  refused(await send('echo', { inputs: [tensor('x', 'FP32', [1], [1])] }, floats), /12 bytes.*no input/)
  refused(await send('echo', { inputs: [binaryTensor('x', 'FP32', [2], 12)] }, floats), /"x".*12.*needs 8/)
})

test('an input has its data in one place only', async () => {
  refused(await send('echo', { inputs: [{ ...echoInput, data: [...floats] }] }, floats), /"x".*both/)
  refused(await send('echo', { inputs: [{ name: 'x', datatype: 'FP32', shape: [3] }] }), /"x".*no data/)
})

test('a data size that is no whole number of bytes is refused', async () => {
  for (const size of [-1, 1.5, '12', null, 1e300, [12]]) {
    const input = { ...echoInput, parameters: { binary_data_size: size } }
    refused(await send('echo', { inputs: [input] }, floats), /"x".*(binary_data_size|ends before)/)
  }
})

test('shared memory is refused with the words to do without', async () => {
  const input = { ...echoInput, parameters: { shared_memory_region: 'r', shared_memory_byte_size: 12 } }
  refused(await send('echo', { inputs: [input] }), /shared memory.*send the data/)
  const outputs = [{ name: 'y', parameters: { shared_memory_region: 'r' } }]
  refused(await send('echo', { inputs: [echoInput], outputs }, floats), /"y".*shared memory/)
})

test('strings that are cut short, too many or too few are refused', async () => {
  const strings = byteStrings('ab', 'c')
  const over = Buffer.concat([strings, Buffer.from([255, 255, 255, 255])])
  const ask = (count: number, bytes: Buffer) =>
    send('words', { inputs: [binaryTensor('x', 'BYTES', [count], bytes.byteLength)] }, bytes)
  refused(await ask(2, strings.subarray(0, -1)), /element 1 is cut short/)
  refused(await ask(2, strings.subarray(0, 8)), /element 1 is cut short/)
  refused(await ask(3, strings.subarray(0, 8)), /8 bytes, which are too few/)
  refused(await ask(3, over), /element 2 is cut short/)
  refused(await ask(3, byteStrings('ab', 'cccc')), /2 BYTES elements.*needs 3/)
  refused(await ask(1, strings), /more BYTES elements.*needs 1/)
})

test('a BOOL byte other than 0 and 1 is refused', async () => {
  const input = binaryTensor('x', 'BOOL', [3], 3)
  refused(await send('flag', { inputs: [input] }, Buffer.from([0, 1, 2])), /"x".*BOOL/)
  assert.deepEqual((await send('flag', { inputs: [input] }, Buffer.from([0, 1, 1]))).json.outputs[0].data, [
    false,
    true,
    true,
  ])
})

test('a header length that is malformed or beyond the body is refused', async () => {
  const { body } = withBinary({ inputs: [echoInput] }, floats)
  for (const length of ['', '-1', '1.5', '0x10', 'many', '9'.repeat(20), String(body.byteLength + 1), '12, 12']) {
    const reply = await post(gateway, 'echo', body, { 'inference-header-content-length': length })
    refused(reply, /"inference-header-content-length" must be/)
  }
})

test('a header length beyond a chunked body is refused', async () => {
  const body = JSON.stringify({ inputs: [echoInput] })
  const headers = { 'inference-header-content-length': String(body.length + 1) }
  refused(await post(gateway, 'echo', new Blob([body]).stream(), headers), /shorter than its JSON/)
})

test('a header length that cuts the JSON is refused', async () => {
  const { body, headers } = withBinary({ inputs: [echoInput] }, floats)
  const length = Number(headers['inference-header-content-length'])
  for (const wrong of [length - 1, length + 1, 1]) {
    refused(await post(gateway, 'echo', body, { 'inference-header-content-length': String(wrong) }), /not (JSON|UTF-8)/)
  }
})

test('a chunked body is read to the same result, however it is cut', async (t) => {
  const { body, headers } = withBinary({ inputs: [echoInput], parameters: { binary_data_output: true } }, floats)
  const wire = await Wire.open(t, gateway.url)
  for (const size of [1, 7, body.byteLength]) {
    wire.write(wireRequest('echo', '', { ...headers, 'transfer-encoding': 'chunked' }))
    for (let at = 0; at < body.byteLength; at += size) {
      const chunk = body.subarray(at, at + size)
      wire.write(Buffer.concat([Buffer.from(`${chunk.byteLength.toString(16)}\r\n`), chunk, Buffer.from('\r\n')]))
    }
    wire.write('0\r\n\r\n')
    const { status, binary } = await wire.reply()
    assert.equal(status, 200)
    assert.deepEqual(binary, bytesOf(floats))
  }
})

test('the raw form takes its shape from the size of the body, and answers in binary', async () => {
  const raw = { 'content-type': 'application/octet-stream', 'inference-header-content-length': '0' }
  const row = bytesOf(floats)
  const box = await post(gateway, 'box', row, raw)
  assert.equal(box.status, 200)
  assert.deepEqual(box.json.outputs[0].shape, [1, 3])
  assert.deepEqual(box.binary, row)
  const wide = await post(gateway, 'wide', new Uint8Array(10), raw)
  assert.deepEqual(wide.json.outputs[0].shape, [1, 5])
  assert.equal(wide.binary.byteLength, 10)
  refused(await post(gateway, 'box', row.subarray(4), raw), /"x".*8 bytes.*needs 12/)
  refused(await post(gateway, 'wide', new Uint8Array(5), raw), /"x".*5 bytes/)
  refused(await post(gateway, 'wide', new Uint8Array(0), raw), /"x".*0 bytes/)
  refused(await post(gateway, 'grid', row, raw), /"x".*2 of its dimensions vary/)
  refused(await post(gateway, 'add', row, raw), /one input only/)
})

// So does Triton: `--data-binary @cat.jpg` for a model that decodes pictures itself (its qa/L0_http, test_byte).
test('the raw form of a string is the string itself, without a length before it', async () => {
  const raw = { 'content-type': 'application/octet-stream', 'inference-header-content-length': '0' }
  for (const model of ['word', 'words']) {
    const { status, binary } = await post(gateway, model, Buffer.from('427 grüße'), raw)
    assert.equal(status, 200)
    assert.deepEqual(binary, byteStrings('427 grüße'))
  }
})

const pattern = (length: number, seed: number) => Uint8Array.from({ length }, (_, i) => (i * 37 + seed * 101) & 255)

test('tensors are read to the bit wherever the JSON before them ends', async () => {
  for (let spaces = 0; spaces < 16; spaces++) {
    const data = {
      u: pattern(1 + spaces, 1),
      d: new Float64Array([Math.PI, -1 / 3, 5e-324].slice(0, 1 + (spaces % 3))),
      s: new Int16Array([-32_768, 12_345, 32_767]),
      l: new BigInt64Array([-(2n ** 63n), 2n ** 63n - 1n]),
    }
    const names = Object.keys(data) as (keyof typeof data)[]
    const order = spaces % 2 ? names : names.toReversed()
    const inputs = order.map((name) =>
      binaryTensor(name, fourTypes[name], [1, data[name].length], data[name].byteLength),
    )
    const request = { inputs, parameters: { binary_data_output: true } }
    const json = JSON.stringify(request) + ' '.repeat(spaces)
    const { status, binary } = await send('four', json, ...order.map((name) => data[name]))
    assert.equal(status, 200)
    assert.deepEqual(binary, Buffer.concat(names.map((name) => bytesOf(data[name]))))
  }
})

test('a large tensor that arrives in many pieces is read to the bit wherever the JSON ends', async () => {
  const l = new BigInt64Array(pattern(262_144 * 8, 3).buffer)
  const rest = [tensor('u', 'UINT8', [1, 1], [1]), tensor('d', 'FP64', [1, 1], [1]), tensor('s', 'INT16', [1, 1], [1])]
  const inputs = [binaryTensor('l', 'INT64', [1, l.length], l.byteLength), ...rest]
  const outputs = [{ name: 'l2', parameters: { binary_data: true } }]
  const json = JSON.stringify({ inputs, outputs })
  for (let spaces = 0; spaces < 8; spaces++) {
    const { status, binary } = await send('four', json + ' '.repeat(spaces), l)
    assert.equal(status, 200)
    assert.ok(binary.equals(bytesOf(l)))
  }
})
