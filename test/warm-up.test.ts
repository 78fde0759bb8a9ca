/** What workers try before they are given requests: which sizes, for how long, and that nobody's requests notice. */
import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import type { Clock } from '../src/core/clock.ts'
import { noPadding, type Padding } from '../src/core/padding.ts'
import type { Program } from '../src/core/signature.ts'
import { sizeClasses, warmUp } from '../src/models/warm-up.ts'
import { admin, binaryTensor, byteStrings, edgeWith, fixed, post, samples } from './support/client.ts'
import { statsOf, withBinary } from './support/client.ts'
import { startGateway, tensor, type Reply, type TestGateway } from './support/gateway.ts'
import { endless } from './support/models.ts'
import { identity, onnx } from './support/onnx.ts'

const echo = identity('INT64', ['n', 'width'])
const one = { inputs: [tensor('x', 'INT64', [1, 1], [4])] }
const manifest = (more: string) => `{ summary: s, owner: o, licence: l, ${more} }`

/** Takes rows of seven, or of a multiple of it: no row that is made up has such a size. */
const sevens = onnx({
  inputs: [{ name: 'x', type: 'INT64', shape: ['n', 'width'] }],
  outputs: [{ name: 'y', type: 'INT64', shape: ['m', 7] }],
  constants: [{ name: 'seven', type: 'INT64', shape: [2], data: [-1, 7] }],
  nodes: [{ op: 'Reshape', inputs: ['x', 'seven'], outputs: ['y'] }],
})

async function versionOf(served: TestGateway, model: string): Promise<any> {
  const { models } = await admin(served, '/admin/status')
  return models.find(({ name }: { name: string }) => name === model).versions[0]
}

function dataOf({ status, json }: Reply): unknown[] {
  assert.equal(status, 200, JSON.stringify(json))
  return json.outputs[0].data
}

async function baseMs(served: TestGateway, model: string): Promise<unknown> {
  const { json } = await served.get(`/v2/models/${model}`)
  return json.parameters.run_base_ms
}

/** Runs of requests, as all three places say that count them. */
async function runsOf(served: TestGateway, model: string): Promise<number[]> {
  const seen = await samples(served)
  const { execution_count, inference_count } = await statsOf(served, model)
  return [seen.get(`penstock_batch_rows_count{model="${model}",version="1"}`) ?? 0, execution_count, inference_count]
}

for (const isolation of ['thread', 'process'])
  test(`in a ${isolation} it is known how long runs take before there is a request, and none is counted`, async (t) => {
    const runtime = { executors: 2, worker: { isolation } }
    const served = await startGateway(t, { store: { 'm.onnx': echo }, settings: { runtime } })
    const { runMs, workers } = await versionOf(served, 'm')
    assert.equal(typeof runMs?.baseMs, 'number')
    assert.equal(workers.ready, 2)
    assert.equal(await baseMs(served, 'm'), runMs.baseMs)
    assert.ok((await samples(served)).has('penstock_run_base_seconds{model="m",version="1"}'))
    assert.deepEqual(await runsOf(served, 'm'), [0, 0, 0])
    assert.deepEqual(dataOf(await served.infer('m', one)), [4])
    assert.deepEqual(await runsOf(served, 'm'), [1, 1, 1])
  })

test('it is known as well of a model that takes one row at a time', async (t) => {
  const store = { 'single.onnx': identity('INT64', [1, 1]), 'm.onnx': echo }
  const settings = { runtime: { executors: 1 }, models: { m: { batching: fixed(1, 0) } } }
  const served = await startGateway(t, { store, settings })
  for (const model of ['single', 'm']) {
    const { runMs } = await versionOf(served, model)
    assert.equal(typeof runMs?.baseMs, 'number', model)
    assert.equal(await baseMs(served, model), runMs.baseMs)
  }
})

test('without time for it there is none', async (t) => {
  const settings = { runtime: { executors: 1, warmUpMs: 0 } }
  const served = await startGateway(t, { store: { 'm.onnx': echo }, settings })
  const { runMs, batched } = await versionOf(served, 'm')
  assert.deepEqual([runMs, batched, await baseMs(served, 'm')], [undefined, true, undefined])
  assert.deepEqual(dataOf(await served.infer('m', one)), [4])
})

test('a model that takes nothing that could be made up is served all the same', async (t) => {
  const served = await startGateway(t, { store: { 'm.onnx': sevens } })
  const { runMs, state } = await versionOf(served, 'm')
  assert.deepEqual([runMs, state], [undefined, 'loaded'])
  const numbers = [1, 2, 3, 4, 5, 6, 7]
  assert.deepEqual(dataOf(await served.infer('m', { inputs: [tensor('x', 'INT64', [1, 7], numbers)] })), numbers)
})

test('a model with side effects is not run before it is asked', async (t) => {
  const rows = 'batching: { rows: independent }'
  const store = {
    'm/1/m.onnx': echo,
    'm/1/manifest.yaml': manifest(`sideEffects: true, ${rows}`),
    'plain/1/m.onnx': echo,
    'plain/1/manifest.yaml': manifest(rows),
    // Whoever ran it once would never be ready.
    'endless/1/m.onnx': endless,
    'endless/1/manifest.yaml': manifest(`sideEffects: true, ${rows}`),
    'undecided/1/m.onnx': endless,
    'undecided/1/manifest.yaml': manifest('sideEffects: true'),
  }
  const worker = { isolation: 'process' }
  const runtime = { executors: 1, watchdog: { loadMs: 5_000 } }
  const settings = { runtime, models: { endless: { worker }, undecided: { worker } } }
  const served = await startGateway(t, { store, settings })
  for (const model of ['m', 'endless', 'undecided']) {
    const { state, workers, runMs } = await versionOf(served, model)
    assert.deepEqual([state, workers.ready, workers.deaths, runMs], ['loaded', 1, 0, undefined], model)
  }
  assert.equal(typeof (await versionOf(served, 'plain')).runMs?.baseMs, 'number')
  assert.deepEqual(dataOf(await served.infer('m', one)), [4])
})

test('a worker that stands in for one that died answers, and what was known of runs still is', async (t) => {
  const settings = {
    ...edgeWith({ body: { maxBytes: 2 ** 27 } }),
    runtime: { executors: 1, worker: { heapMb: 32 } },
  }
  const served = await startGateway(t, { store: { 'm.onnx': identity('BYTES', ['n']) }, settings })
  const before = await versionOf(served, 'm')
  const words = byteStrings(...Array.from({ length: 300 }, (_, i) => `word ${i}`.padEnd(250_000)))
  const { body, headers } = withBinary({ inputs: [binaryTensor('x', 'BYTES', [300], words.byteLength)] }, words)
  assert.equal((await post(served, 'm', body, headers)).status, 500)
  assert.deepEqual(dataOf(await served.infer('m', { inputs: [tensor('x', 'BYTES', [2], ['a', 'b'])] })), ['a', 'b'])
  const { workers, runMs, coldStarts } = await versionOf(served, 'm')
  assert.deepEqual([workers.ready, workers.deaths, coldStarts], [1, 2, 0])
  assert.equal(typeof before.runMs?.baseMs, 'number')
  assert.equal(typeof runMs?.baseMs, 'number')
  assert.deepEqual(await runsOf(served, 'm'), [1, 1, 2])
})

suite('size classes', () => {
  for (const [batched, runRows, expected] of [
    [true, 1, [1]],
    [true, 2, [1, 2]],
    [true, 3, [1, 2, 3]],
    [true, 8, [1, 2, 4, 8]],
    [true, 9, [1, 2, 4, 8, 9]],
    [true, 64, [1, 2, 4, 8, 16, 32, 64]],
    [false, 64, [1]],
    [false, 1, [1]],
  ] as const)
    test(`of ${batched ? 'a batched' : 'an unbatched'} model with up to ${runRows} rows are ${expected.join(', ')}`, () => {
      assert.deepEqual(sizeClasses({ batched, runRows }), expected)
    })
})

/** A program of one input, and a worker in which a run of b rows takes 10 + b milliseconds of a clock held in the hand. */
function trial({ padding = noPadding, takes = () => true }: { padding?: Padding; takes?: (width: number) => boolean }) {
  const spec = { name: 'x', datatype: 'INT64', shape: ['n', 'width'] } as const
  const port = { spec, graph: { ...spec, index: 0 } }
  const program: Program = {
    id: 0,
    inputs: [port],
    outputs: [port],
    batched: true,
    runRows: 4,
    repeatable: true,
    padding,
  }
  let now = 0
  const sizes: number[] = []
  const widths = new Set<number>()
  const learnt: [key: string, rows: number, ms: number][] = []
  const note = (key: string, rows: number, ms: number) => void learnt.push([key, rows, ms])
  const warm = (budgetMs: number, isNew: boolean = true) =>
    warmUp({ program, budgetMs, clock: { now: () => now } as Clock, learn: isNew ? note : undefined }, (_, works) => {
      const width = works[0]!.inputs[0]!.shape[1]!
      if (!takes(width)) return Promise.resolve({ kind: 'failed', reason: 'no' })
      sizes.push(works.length)
      widths.add(width)
      now += 10 + works.length
      return Promise.resolve({ kind: 'done', outputs: [], computeMs: 10 + works.length })
    })
  return { warm, sizes, widths, learnt }
}

suite('a warm-up', () => {
  test('tries every size, and learns from all but the first run of each', async () => {
    const { warm, sizes, learnt } = trial({})
    await warm(10_000)
    assert.deepEqual([...new Set(sizes)], [1, 2, 4])
    for (const rows of [1, 2, 4]) {
      const runs = sizes.filter((size) => size === rows).length
      const times = learnt.filter(([, size]) => size === rows)
      // One more of a single row finds out what the model takes.
      assert.equal(times.length, runs - (rows === 1 ? 2 : 1))
      assert.ok(times.length > 0)
      for (const time of times) assert.deepEqual(time, ['4', rows, 10 + rows])
    }
  })

  test('of which nothing is to be learnt tries every size once', async () => {
    const { warm, sizes, learnt } = trial({})
    await warm(10_000, false)
    assert.deepEqual([sizes, learnt], [[1, 1, 2, 4], []])
  })

  test('begins with no other size when its time is over', async () => {
    const { warm, sizes } = trial({})
    await warm(1)
    assert.deepEqual(new Set(sizes), new Set([1]))
  })

  test('that has no time runs nothing', async () => {
    const { warm, sizes } = trial({})
    await warm(0)
    assert.deepEqual(sizes, [])
  })

  test('looks for a size that the model takes', async () => {
    for (const size of [1, 4, 8]) {
      const { warm, widths } = trial({ takes: (width) => width === size })
      await warm(100)
      assert.deepEqual([...widths], [size])
    }
    const { warm, learnt } = trial({ takes: () => false })
    await warm(100)
    assert.deepEqual(learnt, [])
  })

  test('learns under the size to which requests are filled up', async () => {
    const { warm, learnt } = trial({ padding: new Map([['width', { buckets: [6, 12], values: new Map() }]]) })
    await warm(1_000)
    assert.deepEqual([...new Set(learnt.map(([key]) => key))], ['6'])
  })
})
