/** What the workers run: graphs of every form, workers that die, and several workers side by side. */
import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import {
  binaryTensor,
  byteStrings,
  edgeWith,
  fixed,
  post,
  queuedRows,
  samples,
  statsOf,
  until,
  wholeFile,
  withBinary,
} from './support/client.ts'
import { startGateway, tensor, type Reply, type TestGateway } from './support/gateway.ts'
import { slow } from './support/models.ts'
import { identity, onnx, type Value } from './support/onnx.ts'

const value = (name: string, type: Value['type'], shape: Value['shape']): Value => ({ name, type, shape })

/** A leaky sum: state and input in, new state and what came out of it. */
const stateful = onnx({
  inputs: [value('x', 'FP32', ['n', 2]), value('state', 'FP32', ['n', 2])],
  outputs: [value('next', 'FP32', ['n', 2]), value('product', 'FP32', ['n', 2]), value('ticks', 'INT64', [1])],
  constants: [{ name: 'one', type: 'INT64', shape: [1], data: [1] }],
  nodes: [
    { op: 'Add', inputs: ['x', 'state'], outputs: ['next'] },
    { op: 'Mul', inputs: ['x', 'state'], outputs: ['product'] },
    { op: 'Identity', inputs: ['one'], outputs: ['ticks'] },
  ],
})

/** Where the elements other than 0 are: as many as there are. */
const nonZero = onnx({
  inputs: [value('x', 'INT32', ['n'])],
  outputs: [value('where', 'INT64', [1, 'found'])],
  nodes: [{ op: 'NonZero', inputs: ['x'], outputs: ['where'] }],
})

/** As above, with as many rows out as are found: the first axis varies, but it is another one. */
const nonZeroRows = onnx({
  inputs: [value('x', 'INT32', ['n'])],
  outputs: [value('where', 'INT64', ['found', 1])],
  nodes: [
    { op: 'NonZero', inputs: ['x'], outputs: ['flat'] },
    { op: 'Transpose', inputs: ['flat'], outputs: ['where'], attributes: { perm: [1, 0] } },
  ],
})

/** Lets the words through that are to be kept. */
const sieve = onnx({
  inputs: [value('words', 'BYTES', ['n']), value('keep', 'BOOL', ['n'])],
  outputs: [value('kept', 'BYTES', ['m'])],
  nodes: [{ op: 'Compress', inputs: ['words', 'keep'], outputs: ['kept'], attributes: { axis: 0 } }],
})

const unnamed = onnx({
  inputs: [value('x', 'INT32', ['', '']), value('words', 'BYTES', ['', 2])],
  outputs: [value('y', 'INT32', ['', '']), value('again', 'BYTES', ['', '']), value('size', 'INT64', [2])],
  nodes: [
    { op: 'Identity', inputs: ['x'], outputs: ['y'] },
    { op: 'Identity', inputs: ['words'], outputs: ['again'] },
    { op: 'Shape', inputs: ['x'], outputs: ['size'] },
  ],
})

const widened = onnx({
  inputs: [value('x', 'FP32', ['n', 1])],
  outputs: [value('y', 'FP32', ['n', 300_000])],
  constants: [{ name: 'wide', type: 'INT64', shape: [2], data: [1, 300_000] }],
  nodes: [{ op: 'Expand', inputs: ['x', 'wide'], outputs: ['y'] }],
})

const noInput = onnx({
  inputs: [],
  outputs: [value('y', 'FP32', [3])],
  constants: [{ name: 'c', type: 'FP32', shape: [3], data: [1, 2, 3] }],
  nodes: [{ op: 'Identity', inputs: ['c'], outputs: ['y'] }],
})

const grid = identity('INT32', ['n', 'w'])
const gateway = await startGateway(wholeFile, {
  store: {
    'stateful.onnx': stateful,
    'nonzero.onnx': nonZero,
    'nonzero-rows.onnx': nonZeroRows,
    'unnamed.onnx': unnamed,
    'widened.onnx': widened,
    'nothing.onnx': noInput,
    'scalar.onnx': identity('FP64', []),
    'flag.onnx': identity('BOOL', [1]),
    'deep.onnx': identity('INT8', ['n', 1, 2, 1, 2, 1, 'w', 1]),
    'words.onnx': identity('BYTES', ['n', 'w']),
    'grid.onnx': grid,
  },
})

function outputs({ status, json }: Reply): Record<string, any> {
  assert.equal(status, 200, JSON.stringify(json).slice(0, 500))
  return Object.fromEntries(json.outputs.map((output: any) => [output.name, output]))
}

test('state that a client feeds back goes through call after call', async () => {
  let state = [0, 0]
  for (const x of [
    [1, 10],
    [2, 20],
    [3, -30],
    [0.5, 0],
  ]) {
    const inputs = [tensor('x', 'FP32', [1, 2], x), tensor('state', 'FP32', [1, 2], state)]
    const { next, product, ticks } = outputs(await gateway.infer('stateful', { inputs }))
    assert.deepEqual(
      product.data,
      x.map((each, i) => each * state[i]!),
    )
    assert.deepEqual(
      next.data,
      x.map((each, i) => each + state[i]!),
    )
    assert.deepEqual([ticks.shape, ticks.data], [[1], [1]])
    state = next.data
  }
  assert.deepEqual(state, [6.5, 0])
})

test('an output may have another size at every call, and be empty', async () => {
  for (const x of [[0, 5, 0, 7], [1], [0, 0], [1, 1, 1, 1, 1, 1]]) {
    const found = x.flatMap((each, i) => (each === 0 ? [] : [i]))
    const request = { inputs: [tensor('x', 'INT32', [x.length], x)] }
    const { where } = outputs(await gateway.infer('nonzero', request))
    assert.deepEqual([where.shape, where.data], [[1, found.length], found])
    const { where: rows } = outputs(await gateway.infer('nonzero-rows', request))
    assert.deepEqual([rows.shape, rows.data], [[found.length, 1], found])
  }
})

test('a model whose outputs have rows of their own is not batched', async () => {
  const requests = [
    [0, 5],
    [0, 0],
    [3, 3],
  ].map((x) => gateway.infer('nonzero-rows', { inputs: [tensor('x', 'INT32', [2], x)] }))
  const replies = await Promise.all(requests)
  assert.deepEqual(
    replies.map((reply) => outputs(reply)['where'].data),
    [[1], [], [0, 1]],
  )
})

test('outputs that do not have a row for each row are refused, whatever the manifest says', async (t) => {
  const manifest = '{ summary: s, owner: o, licence: l, batching: { rows: independent } }'
  const found = { 'found/1/m.onnx': nonZeroRows, 'found/1/manifest.yaml': manifest }
  const store = { ...found, 'sieve/1/m.onnx': sieve, 'sieve/1/manifest.yaml': manifest }
  const served = await startGateway(t, { store, settings: { batching: fixed(2, 30_000) } })
  const find = (x: number[]) => served.infer('found', { inputs: [tensor('x', 'INT32', [2], x)] })
  const words = tensor('words', 'BYTES', [2], ['a', 'b'])
  const keep = (which: boolean[]) => served.infer('sieve', { inputs: [words, tensor('keep', 'BOOL', [2], which)] })
  for (const { status, json } of [await find([0, 5]), await keep([false, true])]) {
    assert.deepEqual([status, json.code], [500, 'model_failed'])
  }
  assert.deepEqual(outputs(await find([3, 3]))['where'].data, [0, 1])
  assert.deepEqual(outputs(await keep([true, true]))['kept'].data, ['a', 'b'])
})

test('dimensions without a name take any size', async () => {
  for (const [rows, width] of [
    [1, 3],
    [4, 1],
    [2, 2],
  ] as const) {
    const x = Array.from({ length: rows * width }, (_, i) => i - 2)
    const words = Array.from({ length: rows * 2 }, (_, i) => 'é'.repeat(i))
    const inputs = [tensor('x', 'INT32', [rows, width], x), tensor('words', 'BYTES', [rows, 2], words)]
    const { y, again, size } = outputs(await gateway.infer('unnamed', { inputs }))
    assert.deepEqual([y.shape, y.data], [[rows, width], x])
    assert.deepEqual([again.shape, again.data], [[rows, 2], words])
    assert.deepEqual(size.data, [rows, width])
  }
})

test('strings of several requests share a run and find their way back', async (t) => {
  const store = { 'words.onnx': identity('BYTES', ['n', 'w']) }
  const together = await startGateway(t, { store, settings: { batching: fixed(7, 30_000) } })
  const requests = [
    ['a', ''],
    ['', '', 'ü', 'b'],
    ['x'.repeat(70_000), '😀'],
    ['c', 'd', 'e', 'f', 'g', ''],
  ]
  const send = (words: string[]) =>
    together.infer('words', { inputs: [tensor('x', 'BYTES', [words.length / 2, 2], words)] })
  const replies = await Promise.all(requests.map(send))
  assert.deepEqual(
    replies.map((reply) => outputs(reply)['y'].data),
    requests,
  )
  assert.equal((await statsOf(together, 'words')).execution_count, 1)
})

test('scalars, single elements and eight dimensions are served', async () => {
  const scalar = outputs(await gateway.infer('scalar', { inputs: [tensor('x', 'FP64', [], [2.5])] }))
  assert.deepEqual([scalar['y'].shape, scalar['y'].data], [[], [2.5]])
  const flag = outputs(await gateway.infer('flag', { inputs: [tensor('x', 'BOOL', [1], [true])] }))
  assert.deepEqual([flag['y'].shape, flag['y'].data], [[1], [true]])
  const shape = [2, 1, 2, 1, 2, 1, 3, 1]
  const data = Array.from({ length: 24 }, (_, i) => i - 12)
  const deep = outputs(await gateway.infer('deep', { inputs: [tensor('x', 'INT8', shape, data)] }))
  assert.deepEqual([deep['y'].shape, deep['y'].data], [shape, data])
})

test('a model that takes nothing answers a request without inputs', async () => {
  assert.deepEqual(outputs(await gateway.infer('nothing', { inputs: [] }))['y'].data, [1, 2, 3])
})

test('an answer may be far larger than its question', async () => {
  for (const rows of [1, 3]) {
    const data = Array.from({ length: rows }, (_, i) => i + 0.5)
    const request = { inputs: [tensor('x', 'FP32', [rows, 1], data)], parameters: { binary_data_output: true } }
    const { status, json, binary } = await post(gateway, 'widened', JSON.stringify(request))
    assert.equal(status, 200)
    assert.deepEqual(json.outputs[0].shape, [rows, 300_000])
    const numbers = new Float32Array(binary.buffer.slice(binary.byteOffset, binary.byteOffset + binary.byteLength))
    assert.ok(numbers.every((number, i) => number === data[Math.floor(i / 300_000)]))
  }
})

async function sendGrid(served: TestGateway, width: number, first: number): Promise<void> {
  const data = Int32Array.from({ length: width }, (_, i) => first + i)
  const inputs = [binaryTensor('x', 'INT32', [1, width], data.byteLength)]
  const { body, headers } = withBinary({ inputs, parameters: { binary_data_output: true } }, data)
  const { status, binary } = await post(served, 'grid', body, headers)
  assert.equal(status, 200)
  assert.ok(binary.equals(Buffer.from(data.buffer)), `the answer of ${width} elements`)
}

test('large and small requests may take turns', async () => {
  for (const width of [1, 400_000, 2, 100_000, 1, 900_000, 3]) await sendGrid(gateway, width, width)
  await Promise.all([500_000, 1, 2, 700_000, 3, 50_000].map((width, i) => sendGrid(gateway, width, i)))
})

test('a graph with nine dimensions is refused at load', async (t) => {
  const started = startGateway(t, { store: { 'nine.onnx': identity('INT8', [1, 1, 1, 1, 1, 1, 1, 1, 1]) } })
  await assert.rejects(started, /nine\.onnx: .*9 dimensions; 8 is the most/)
})

/** A gateway whose worker has a small heap, and the request that is too much for it: very long strings. */
async function fragile(t: TestContext) {
  const store = { 'words.onnx': identity('BYTES', ['n']), 'grid.onnx': grid }
  const settings = {
    ...edgeWith({ body: { maxBytes: 2 ** 27 }, tensors: { maxElements: 2 ** 26, maxRows: 2 ** 20 } }),
    runtime: { executors: 1, worker: { heapMb: 32 } },
  }
  const served = await startGateway(t, { store, settings })
  const count = 300
  const words = Buffer.concat(Array.from({ length: count }, (_, i) => byteStrings(`word ${i}`.padEnd(250_000))))
  const { body, headers } = withBinary({ inputs: [binaryTensor('x', 'BYTES', [count], words.byteLength)] }, words)
  return { served, kill: () => post(served, 'words', body, headers) }
}

test('a worker that dies is replaced, and only the request that killed it suffers', async (t) => {
  const { served, kill } = await fragile(t)
  await sendGrid(served, 3, 1)
  const killed = kill()
  // Another model's worker runs on, and a request for this one waits for the next worker.
  await Promise.all(Array.from({ length: 20 }, (_, i) => sendGrid(served, 3, i)))
  const { status, json } = await killed
  assert.deepEqual([status, json.code], [500, 'model_failed'])
  const words = outputs(await served.infer('words', { inputs: [tensor('x', 'BYTES', [1], ['a'])] }))
  assert.deepEqual(words['y'].data, ['a'])
  assert.equal((await served.get('/v2/health/ready')).status, 200)
  const seen = await samples(served)
  // It was tried twice: the first death might have been another's fault.
  assert.equal(seen.get('penstock_worker_deaths_total{model="words",version="1"}'), 2)
  assert.equal(seen.get('penstock_worker_deaths_total{model="grid",version="1"}'), 0)
  assert.equal(seen.get('penstock_workers{model="words",version="1"}'), 1)
})

test('two workers share the load, and every answer is right', async (t) => {
  const store = { 'slow.onnx': slow(60), 'grid.onnx': grid }
  const served = await startGateway(t, { store, settings: { runtime: { executors: 2 } } })
  const numbers = [1, 2, 3, 4, 5, 6]
  const replies = numbers.map((number) => served.infer('slow', { inputs: [tensor('x', 'FP32', [1, 1], [number])] }))
  const answered = 'penstock_requests_total{route="slow",model="slow",version="1",code="ok"}'
  await until('two run', async () => (await queuedRows(served, 'slow')) === 4)
  assert.equal((await samples(served)).get(answered), undefined)
  assert.deepEqual(
    (await Promise.all(replies)).map((reply) => outputs(reply)['y'].data),
    numbers.map((number) => [number]),
  )
  await Promise.all(Array.from({ length: 60 }, (_, i) => sendGrid(served, 1 + ((i * 7_919) % 5_000), i)))
})
