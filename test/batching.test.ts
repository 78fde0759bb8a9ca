/** Which requests share a run, which never do, and that nobody notices but by the statistics. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { stringify } from 'yaml'
import { drawFrom } from './support/draw.ts'
import { admin, edgeWith, fixed, queuedRows, samples, statsOf, until } from './support/client.ts'
import { folderWith, startGateway, tensor, type Reply, type TestGateway } from './support/gateway.ts'
import { slow } from './support/models.ts'
import { identity, onnx } from './support/onnx.ts'
import { penstock } from './support/process.ts'
import { Wire, wireRequest } from './support/socket.ts'

const softmaxOverRows = onnx({
  inputs: [{ name: 'x', type: 'FP32', shape: ['n', 3] }],
  outputs: [{ name: 'y', type: 'FP32', shape: ['n', 3] }],
  nodes: [{ op: 'Softmax', inputs: ['x'], outputs: ['y'], attributes: { axis: 0 } }],
})
const manifest = (rows: string) => stringify({ summary: 's', owner: 'o', licence: 'l', batching: { rows } })
const store = { 'echo.onnx': identity('INT64', ['n']), 'grid.onnx': identity('INT64', ['n', 'len']) }

/** Longer than any test waits: only full batches run. */
const onlyFull = (maxRows: number) => ({ batching: fixed(maxRows, 30_000) })

function sendEcho(gateway: TestGateway, ...data: number[]): Promise<Reply> {
  return gateway.infer('echo', { inputs: [tensor('x', 'INT64', [data.length], data)] })
}

function answer({ status, json }: Reply): unknown {
  assert.equal(status, 200, JSON.stringify(json))
  return json.outputs[0].data
}

/** [rows, runs] of every size of run there was. */
async function runsOf(gateway: TestGateway, model: string): Promise<[number, number][]> {
  const stats = await statsOf(gateway, model)
  return stats.batch_stats.map((each: any) => [each.batch_size, each.compute_infer.count])
}

async function queued(gateway: TestGateway, model: string, rows: number): Promise<void> {
  await until(`${rows} rows of ${model} are queued`, async () => (await queuedRows(gateway, model)) === rows)
}

test('requests that wait together share a run, and each gets its own answer', async (t) => {
  const gateway = await startGateway(t, { store, settings: onlyFull(8) })
  const numbers = [0, 1, 2, 3, 4, 5, 6, 7]
  const replies = await Promise.all(numbers.map((number) => sendEcho(gateway, number)))
  assert.deepEqual(
    replies.map(answer),
    numbers.map((number) => [number]),
  )
  assert.deepEqual(await runsOf(gateway, 'echo'), [[8, 1]])
  const { inference_count: rows, execution_count: runs } = await statsOf(gateway, 'echo')
  assert.deepEqual([rows, runs], [8, 1])
})

test('a request of several rows counts as that many and is never split', async (t) => {
  const gateway = await startGateway(t, { store, settings: onlyFull(8) })
  const first = sendEcho(gateway, 1, 2, 3, 4, 5)
  await queued(gateway, 'echo', 5)
  const second = sendEcho(gateway, 6, 7, 8, 9, 10)
  assert.deepEqual(answer(await first), [1, 2, 3, 4, 5])
  await queued(gateway, 'echo', 5)
  const third = sendEcho(gateway, 11, 12, 13)
  assert.deepEqual((await Promise.all([second, third])).map(answer), [
    [6, 7, 8, 9, 10],
    [11, 12, 13],
  ])
  assert.deepEqual(await runsOf(gateway, 'echo'), [
    [5, 1],
    [8, 1],
  ])
})

test('a request with more rows than a batch may have runs alone', async (t) => {
  const gateway = await startGateway(t, { store, settings: onlyFull(8) })
  const small = sendEcho(gateway, 1)
  await queued(gateway, 'echo', 1)
  const numbers = Array.from({ length: 20 }, (_, i) => i)
  const large = sendEcho(gateway, ...numbers)
  assert.deepEqual((await Promise.all([small, large])).map(answer), [[1], numbers])
  assert.deepEqual(await runsOf(gateway, 'echo'), [
    [1, 1],
    [20, 1],
  ])
})

test('a window ends the wait of a batch that does not fill', async (t) => {
  const gateway = await startGateway(t, { store, settings: { batching: fixed(1_000, 20) } })
  assert.deepEqual(answer(await sendEcho(gateway, 1, 2)), [1, 2])
})

test('without a window, what arrives while the worker is busy runs together when it is free', async (t) => {
  const settings = { runtime: { executors: 1 } }
  const gateway = await startGateway(t, { store: { ...store, 'slow.onnx': slow(120) }, settings })
  const busy = await Wire.open(t, gateway.url)
  busy.write(wireRequest('slow', JSON.stringify({ inputs: [tensor('x', 'FP32', [1, 1], [1])] })))
  // By the time of a later request's answer it has been read, and runs.
  for (let turn = 0; turn < 3; turn++) await queued(gateway, 'slow', 0)
  const first = sendEcho(gateway, 0)
  await queued(gateway, 'echo', 1)
  const others = [1, 2, 3, 4].map((number) => sendEcho(gateway, number, -number))
  await queued(gateway, 'echo', 9)
  const expected = [[0], ...[1, 2, 3, 4].map((number) => [number, -number])]
  assert.deepEqual((await Promise.all([first, ...others])).map(answer), expected)
  assert.equal((await busy.reply()).status, 200)
  assert.deepEqual(await runsOf(gateway, 'echo'), [[9, 1]])
})

test('only requests of one shape share a run', async (t) => {
  const gateway = await startGateway(t, { store, settings: onlyFull(4) })
  const send = (length: number, number: number) => {
    const data = Array.from({ length }, (_, i) => number * 10 + i)
    return gateway.infer('grid', { inputs: [tensor('x', 'INT64', [1, length], data)] })
  }
  const first = [send(2, 1), send(3, 2), send(2, 3), send(3, 4), send(2, 5), send(3, 6)]
  await queued(gateway, 'grid', 6)
  const replies = await Promise.all([...first, send(2, 7), send(3, 8)])
  const expected = [
    [10, 11],
    [20, 21, 22],
    [30, 31],
    [40, 41, 42],
    [50, 51],
    [60, 61, 62],
    [70, 71],
    [80, 81, 82],
  ]
  assert.deepEqual(replies.map(answer), expected)
  assert.deepEqual(await runsOf(gateway, 'grid'), [[4, 2]])
})

test('rows of different requests never mix, whatever their sizes and order', async (t) => {
  const gateway = await startGateway(t, { store, settings: { batching: fixed(16, 2) } })
  const draw = drawFrom(7)
  let next = 0
  const requests = Array.from({ length: 300 }, () => Array.from({ length: 1 + draw(9) }, () => next++))
  const replies = await Promise.all(requests.map((rows) => sendEcho(gateway, ...rows)))
  assert.deepEqual(replies.map(answer), requests)
  const { inference_count: rows, execution_count: runs } = await statsOf(gateway, 'echo')
  assert.equal(rows, next)
  assert.ok(runs < requests.length / 2, `${runs} runs`)
})

test('the trained models answer in a batch as they answer alone', async (t) => {
  const settings = { batching: fixed(12, 3) }
  const [alone, together] = [await startGateway(t), await startGateway(t, { settings })]
  const draw = drawFrom(11)
  const list = (length: number, make: () => number) => Array.from({ length }, make)
  const spam = (rows: number, length: number) => [
    tensor(
      'input_ids',
      'INT64',
      [rows, length],
      list(rows * length, () => 1 + draw(256)),
    ),
    tensor(
      'attention_mask',
      'INT64',
      [rows, length],
      list(rows * length, () => draw(2)),
    ),
  ]
  const digits = (rows: number) => [
    tensor(
      'image',
      'UINT8',
      [rows, 1, 28, 28],
      list(rows * 784, () => draw(256)),
    ),
  ]
  const requests = list(60, () => 1 + draw(4)).flatMap((rows): [string, object][] => [
    ['spam', { inputs: spam(rows, 16 * (1 + draw(3))) }],
    ['digits/versions/1', { inputs: digits(rows) }],
    ['digits/versions/2', { inputs: digits(rows) }],
  ])
  const shared = await Promise.all(requests.map(([model, request]) => together.infer(model, request)))
  for (const [i, [model, request]] of requests.entries()) {
    const own = answer(await alone.infer(model, request)) as number[]
    const beside = answer(shared[i]!) as number[]
    assert.equal(beside.length, own.length)
    for (const [at, value] of own.entries()) assert.ok(Math.abs(value - beside[at]!) <= 1e-6, `${model} ${at}`)
  }
  const { inference_count: rows, execution_count: runs } = await statsOf(together, 'spam/versions/2')
  assert.ok(runs * 2 < rows, `${runs} runs of ${rows} rows`)
})

test('requests of a model without a row axis run one at a time, and do not wait for each other', async (t) => {
  const gateway = await startGateway(t, { store: { 'pair.onnx': identity('INT32', [2]) }, settings: onlyFull(2) })
  const numbers = [1, 2, 3, 4, 5]
  const replies = numbers.map((number) => gateway.infer('pair', { inputs: [tensor('x', 'INT32', [2], [number, 0])] }))
  assert.deepEqual(
    (await Promise.all(replies)).map(answer),
    numbers.map((number) => [number, 0]),
  )
  assert.deepEqual(await runsOf(gateway, 'pair'), [[1, 5]])
})

async function versionStatus(gateway: TestGateway, model: string): Promise<any> {
  const { models } = await admin(gateway, '/admin/status')
  return models.find(({ name }: { name: string }) => name === model).versions[0]
}

test('a model whose rows influence each other is found out at load and not batched', async (t) => {
  const gateway = await startGateway(t, { store: { 'soft.onnx': softmaxOverRows }, settings: onlyFull(4) })
  const { batched, batchedWhy } = await versionStatus(gateway, 'soft')
  assert.equal(batched, false)
  assert.match(batchedWhy, /probe: .*another answer/)
  const replies = [1, 2, 3, 4].map((number) => {
    return gateway.infer('soft', { inputs: [tensor('x', 'FP32', [1, 3], [number, -number, 9])] })
  })
  assert.deepEqual(
    (await Promise.all(replies)).map(answer),
    [1, 2, 3, 4].map(() => [1, 1, 1]),
  )
  assert.deepEqual(await runsOf(gateway, 'soft'), [[1, 4]])
})

test('a manifest decides whether rows may share a run, without a probe', async (t) => {
  const files = {
    'soft/1/model.onnx': softmaxOverRows,
    'soft/1/manifest.yaml': manifest('independent'),
    'echo/1/model.onnx': store['echo.onnx'],
    'echo/1/manifest.yaml': manifest('dependent'),
  }
  const gateway = await startGateway(t, { store: files, settings: onlyFull(2) })
  assert.deepEqual(
    [(await versionStatus(gateway, 'soft')).batched, (await versionStatus(gateway, 'echo')).batched],
    [true, false],
  )
  assert.deepEqual((await Promise.all([sendEcho(gateway, 1), sendEcho(gateway, 2)])).map(answer), [[1], [2]])
  assert.deepEqual(await runsOf(gateway, 'echo'), [[1, 2]])
})

test('a row that the model fails on takes none of its neighbours with it', async (t) => {
  for (const poisoned of [0, 3, 6]) {
    const gateway = await startGateway(t, { settings: onlyFull(7) })
    const alone = await startGateway(t)
    const requests = [0, 1, 2, 3, 4, 5, 6].map((place) => {
      const ids = [70 + place, 80, place === poisoned ? 9_999 : 90]
      return {
        inputs: [tensor('input_ids', 'INT64', [1, 3], ids), tensor('attention_mask', 'INT64', [1, 3], [1, 1, 1])],
      }
    })
    const replies = await Promise.all(requests.map((request) => gateway.infer('spam', request)))
    for (const [place, reply] of replies.entries()) {
      if (place === poisoned) {
        assert.deepEqual([reply.status, reply.json.code], [500, 'model_failed'])
        assert.doesNotMatch(reply.json.error, /9999|onnx|gather|indices/i)
        continue
      }
      const own = answer(await alone.infer('spam', requests[place])) as number[]
      for (const [at, value] of (answer(reply) as number[]).entries()) assert.ok(Math.abs(value - own[at]!) <= 1e-6)
    }
  }
})

test('a full queue refuses with 503 from the head alone, and says when to come again', async (t) => {
  const settings = { batching: { ...fixed(100, 30_000), maxQueueRows: 2 } }
  const gateway = await startGateway(t, { store, settings })
  const wires = await Promise.all([1, 2].map(() => Wire.open(t, gateway.url)))
  for (const wire of wires)
    wire.write(wireRequest('echo', JSON.stringify({ inputs: [tensor('x', 'INT64', [1], [1])] })))
  await queued(gateway, 'echo', 2)
  const { status, headers, json } = await sendEcho(gateway, 3)
  assert.deepEqual([status, json.code], [503, 'overloaded'])
  assert.match(headers.get('retry-after')!, /^[1-9]\d*$/)
  const expecting = await Wire.open(t, gateway.url)
  expecting.write(wireRequest('echo', '', { expect: '100-continue', 'content-length': '100' }))
  assert.equal((await expecting.reply()).status, 503)
  expecting.hangUp()
  for (const wire of wires) wire.hangUp()
  await queued(gateway, 'echo', 0)
  const abandoned = (await samples(gateway)).get(
    'penstock_requests_total{route="echo",model="echo",version="1",code="abandoned"}',
  )
  assert.equal(abandoned, 2)
  assert.equal((await sendEcho(gateway, ...Array.from({ length: 100 }, () => 0))).status, 200)
})

test('a request whose time runs out in the queue is answered 504 and frees its place', async (t) => {
  const gateway = await startGateway(t, { store, settings: { ...onlyFull(3), ...edgeWith({ deadlineMs: 500 }) } })
  const { status, json, headers } = await sendEcho(gateway, 1)
  assert.deepEqual([status, json.code], [504, 'expired'])
  assert.notEqual(headers.get('retry-after'), null)
  assert.equal(await queuedRows(gateway, 'echo'), 0)
  const replies = await Promise.all([sendEcho(gateway, 2), sendEcho(gateway, 3), sendEcho(gateway, 4)])
  assert.deepEqual(replies.map(answer), [[2], [3], [4]])
  assert.deepEqual(await runsOf(gateway, 'echo'), [[3, 1]])
})

test('a request whose time runs out in the run is answered 504, and later ones as ever', async (t) => {
  const settings = { ...edgeWith({ deadlineMs: 100 }), runtime: { executors: 1 } }
  const gateway = await startGateway(t, { store: { ...store, 'slow.onnx': slow(150) }, settings })
  const { status, json } = await gateway.infer('slow', { inputs: [tensor('x', 'FP32', [1, 1], [1])] })
  assert.deepEqual([status, json.code], [504, 'expired'])
  await until('the worker is free again', async () => (await sendEcho(gateway, 8)).status === 200)
})

test(
  'a client that hangs up leaves nothing behind that keeps the process from ending',
  { timeout: 20_000 },
  async (t) => {
    const config = {
      auth: 'none',
      edge: { port: 0, drain: { idleMs: 0 } },
      metrics: { port: 0 },
      admin: { port: 0 },
      batching: fixed(100, 60_000),
    }
    const folder = await folderWith({
      'penstock.yaml': stringify(config),
      'models/echo.onnx': store['echo.onnx'],
    })
    const spawned = penstock(t, ['serve', `${folder}/penstock.yaml`])
    const [, url = '', adminUrl = ''] = await spawned.said(/at (\S+), metrics at \S+, status at (\S+)\/admin\/status\n/)
    const wire = await Wire.open(t, url)
    wire.write(wireRequest('echo', JSON.stringify({ inputs: [tensor('x', 'INT64', [1], [1])] })))
    const served = { adminUrl } as TestGateway
    await queued(served, 'echo', 1)
    wire.hangUp()
    await queued(served, 'echo', 0)
    spawned.child.kill('SIGTERM')
    assert.equal((await spawned.finished).code, 0)
  },
)
