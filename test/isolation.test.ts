/** What becomes of workers that die, eat memory or give nonsense, as threads and as processes, and of who shares them. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { suite, test, type TestContext } from 'node:test'
import { admin, binaryTensor, byteStrings, bytesOf, fixed, outcomes, post, samples } from './support/client.ts'
import { statsOf, until, withBinary } from './support/client.ts'
import { drawFrom } from './support/draw.ts'
import { ownStore, startGateway, tensor, type Reply, type TestGateway } from './support/gateway.ts'
import { contradictory, everyType, hungry, liar, looping, sieve } from './support/models.ts'
import { identity, onnx, type OnnxType, type Value } from './support/onnx.ts'

const isolations = ['thread', 'process'] as const
const value = (name: string, type: OnnxType, shape: Value['shape']): Value => ({ name, type, shape })
const manifest = (more: string) => `{ summary: s, owner: o, licence: l, batching: { rows: independent }${more} }`

/** Looks numbers up among sixteen, each its own square; a run fails on one beyond them. */
const lookup = onnx({
  inputs: [value('x', 'INT64', ['n', 1])],
  outputs: [value('y', 'INT64', ['n', 1])],
  constants: [{ name: 'table', type: 'INT64', shape: [16], data: Array.from({ length: 16 }, (_, i) => i * i) }],
  nodes: [{ op: 'Gather', inputs: ['table', 'x'], outputs: ['y'] }],
})

/** A model alone with its executor, and one beside it with another. */
function beside(model: object, runtime: object = {}) {
  return {
    runtime: { executors: 1, pools: { other: { executors: 1 } }, ...runtime },
    models: { m: model, echo: { pool: 'other' } },
  }
}
const echo = { 'echo.onnx': identity('INT64', ['n', 1]) }
const inProcess = { isolation: 'process' }

const ask = (served: TestGateway, x: number, model: string = 'm') =>
  served.infer(model, { inputs: [tensor('x', 'INT64', [1, 1], [x])] })
const askAll = (served: TestGateway, xs: readonly number[]) => Promise.all(xs.map((x) => ask(served, x)))

function dataOf({ status, json }: Reply): number[] {
  assert.equal(status, 200, JSON.stringify(json))
  return json.outputs[0].data
}

function failed({ status, json }: Reply): void {
  assert.deepEqual([status, json.code], [500, 'model_failed'])
}

/** The worker processes of this test's gateways. */
function processes(): number[] {
  const children = readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8')
  return children.split(' ').filter(Boolean).map(Number)
}

/** Hundredths of a second that a process has computed. */
function computed(pid: number): number {
  const [, fields] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')
  return Number(fields!.split(' ')[11])
}

/** Settles in the middle of a run, with the process that computes. */
async function inRun(): Promise<number> {
  const [pid] = processes()
  const before = computed(pid!)
  await until('it computes', async () => computed(pid!) - before >= 4)
  return pid!
}

async function workersOf(served: TestGateway) {
  const { models } = await admin(served, '/admin/status')
  return models.find(({ name }: { name: string }) => name === 'm').versions[0].workers
}

async function extraRuns(served: TestGateway): Promise<number> {
  return (await samples(served)).get('penstock_extra_runs_total{model="m",version="1"}') ?? 0
}

/** Four requests that are a batch, long enough under way to be killed. */
const long = [200_000, 200_001, 200_002, 200_003]

/** A gateway with one worker process. */
function killable(t: TestContext, runtime: object = {}, more: string = '') {
  const store = { 'm/1/model.onnx': looping, 'm/1/manifest.yaml': manifest(more), ...echo }
  const settings = beside({ worker: inProcess, batching: fixed(4, 30_000) }, runtime)
  return startGateway(t, { store, settings })
}

/** Adds weights that lie in a file beside the graph. */
function weighed(location: string, offset: number) {
  const external = { location, offset, length: 8 }
  const model = onnx({
    inputs: [value('x', 'FP32', ['n', 2])],
    outputs: [value('y', 'FP32', ['n', 2])],
    constants: [{ name: 'w', type: 'FP32', shape: [2], data: [], external }],
    nodes: [{ op: 'Add', inputs: ['x', 'w'], outputs: ['y'] }],
  })
  const weights = bytesOf(Float32Array.of(0, 10, 20))
  return { 'm/1/model.onnx': model, 'm/1/weights.bin': weights, 'm/secret.bin': weights, ...echo }
}

suite('a worker process', () => {
  for (const signal of ['SIGKILL', 'SIGSEGV', 'SIGABRT'] as const) {
    test(`that ${signal} ends in a run is replaced, and its batch is answered all the same, once`, async (t) => {
      const served = await killable(t)
      const replies = askAll(served, long)
      const pid = await inRun()
      process.kill(pid, signal)
      const others = await Promise.all([1, 2, 3, 4].map((x) => ask(served, x, 'echo')))
      assert.deepEqual(others.map(dataOf), [[1], [2], [3], [4]])
      // Nothing of the batch was answered before, so all of it was tried again.
      assert.equal(await outcomes(served, 'm', 'ok'), 0)
      assert.deepEqual(
        (await replies).map(dataOf),
        long.map((x) => [x]),
      )
      assert.equal(await outcomes(served, 'm', 'ok'), 4)
      assert.equal((await statsOf(served, 'm')).inference_count, 4)
      assert.equal(await extraRuns(served), 2)
      const { ready, deaths, hungThreads } = await workersOf(served)
      assert.deepEqual({ ready, deaths, hungThreads }, { ready: 1, deaths: 1, hungThreads: 0 })
      assert.ok(!processes().includes(pid))
    })
  }

  test('that dies idle, of whatever signal, is replaced, and who asks at that moment is answered', async (t) => {
    const served = await killable(t)
    for (const [i, signal] of (['SIGKILL', 'SIGSEGV', 'SIGABRT'] as const).entries()) {
      const [pid] = processes()
      process.kill(pid!, signal)
      assert.deepEqual((await askAll(served, [5, 6, 7, 8])).map(dataOf), [[5], [6], [7], [8]])
      assert.notDeepEqual(processes(), [pid])
      const { ready, deaths } = await workersOf(served)
      assert.deepEqual({ ready, deaths }, { ready: 1, deaths: i + 1 })
    }
    const seen = await samples(served)
    assert.equal(seen.get('penstock_worker_deaths_total{model="m",version="1"}'), 3)
    assert.equal(seen.get('penstock_worker_deaths_total{model="echo",version="1"}'), 0)
  })

  test('that is stopped in a run is killed by the watchdog, and its batch is answered', async (t) => {
    const served = await killable(t, { watchdog: { leastMs: 2_000, mostMs: 2_000, factor: 2 } })
    const replies = askAll(served, [100_000, 100_001, 100_002, 100_003])
    const pid = await inRun()
    process.kill(pid, 'SIGSTOP')
    assert.deepEqual(dataOf(await ask(served, 1, 'echo')), [1])
    assert.deepEqual((await replies).map(dataOf), [[100_000], [100_001], [100_002], [100_003]])
    assert.equal((await workersOf(served)).deaths, 1)
    assert.equal(await extraRuns(served), 2)
    assert.ok(!processes().includes(pid))
  })

  test('that dies running a model with side effects takes its batch with it: nothing is run again', async (t) => {
    const served = await killable(t, {}, ', sideEffects: true')
    const replies = askAll(served, long)
    process.kill(await inRun(), 'SIGKILL')
    for (const reply of await replies) failed(reply)
    assert.equal(await extraRuns(served), 0)
    // Had a run been repeated, it would have been counted by now.
    assert.deepEqual((await askAll(served, [1, 2, 3, 4])).map(dataOf), [[1], [2], [3], [4]])
    assert.equal((await statsOf(served, 'm')).execution_count, 1)
  })

  test('with a memory limit fails the request that wants more, and serves those before, beside and after', async (t) => {
    const settings = beside({ worker: { isolation: 'process', memoryMb: 256 }, batching: fixed(3, 1_000) })
    const served = await startGateway(t, { store: { 'm.onnx': hungry, ...echo }, settings })
    assert.deepEqual((await askAll(served, [1, 2, 1_000_000])).map(dataOf), [[1], [2], [1_000_000]])
    for (const greed of [400_000_000, 2_000_000_000_000]) {
      const [first, greedy, last] = await askAll(served, [3, greed, 4])
      assert.deepEqual([first!, last!].map(dataOf), [[3], [4]])
      failed(greedy!)
    }
    assert.deepEqual((await askAll(served, [5, 6, 7])).map(dataOf), [[5], [6], [7]])
    assert.equal((await workersOf(served)).ready, 1)
  })
})

for (const isolation of isolations) {
  suite(`a model in a ${isolation}`, () => {
    const settings = beside({ worker: { isolation }, batching: fixed(4, 30_000) })

    test('that gives another shape than it declares fails that request alone', async (t) => {
      const store = { 'm/1/model.onnx': liar, 'm/1/manifest.yaml': manifest(''), ...echo }
      const served = await startGateway(t, { store, settings })
      const [a, wide, b, c] = await askAll(served, [2, 3, 2, 2])
      assert.deepEqual([a!, b!, c!].map(dataOf), [
        [2, 2],
        [2, 2],
        [2, 2],
      ])
      failed(wide!)
      assert.deepEqual(dataOf((await askAll(served, [2, 2, 1, 1]))[2]!), [1, 1])
      assert.equal((await workersOf(served)).deaths, 0)
    })

    test('whose graph plainly contradicts the shape it declares is served with the shape it has', async (t) => {
      const alone = beside({ worker: { isolation } })
      const served = await startGateway(t, { store: { 'm.onnx': contradictory, ...echo }, settings: alone })
      const { json } = await served.get('/v2/models/m')
      assert.deepEqual(json.outputs[0].shape, [-1, -1])
      assert.deepEqual(dataOf(await ask(served, 7)), [7, 7, 7])
    })

    test('that fails on one input answers the others in its batch', async (t) => {
      const served = await startGateway(t, { store: { 'm.onnx': lookup, ...echo }, settings })
      const [a, b, culprit, c] = await askAll(served, [1, 2, 99, 3])
      assert.deepEqual([a!, b!, c!].map(dataOf), [[1], [4], [9]])
      failed(culprit!)
      assert.equal((await workersOf(served)).deaths, 0)
    })

    test('that has side effects fails the whole batch where one input does, and runs nothing again', async (t) => {
      const store = { 'm/1/model.onnx': lookup, 'm/1/manifest.yaml': manifest(', sideEffects: true'), ...echo }
      const served = await startGateway(t, { store, settings })
      for (const reply of await askAll(served, [1, 2, 99, 3])) failed(reply)
      assert.equal(await extraRuns(served), 0)
      assert.equal((await statsOf(served, 'm')).execution_count, 0)
      // From whoever has sent it nothing more shares a run with others; alone it is served.
      assert.deepEqual((await askAll(served, [1, 2, 3, 4])).map(dataOf), [[1], [4], [9], [16]])
    })
  })
}

suite('weights in a file of their own', () => {
  const start = (t: TestContext, location: string, offset: number) =>
    startGateway(t, { store: weighed(location, offset), settings: beside({}) })

  test('are loaded', async (t) => {
    const inputs = [tensor('x', 'FP32', [2, 2], [1, 2, 3, 4])]
    assert.deepEqual(dataOf(await (await start(t, 'weights.bin', 4)).infer('m', { inputs })), [11, 22, 13, 24])
  })

  for (const { what, location, offset, said } of [
    { what: 'not there', location: 'gone.bin', offset: 0, said: /gone\.bin/ },
    { what: 'cut short', location: 'weights.bin', offset: 8, said: /\bw\b.*out of bounds/ },
    { what: 'outside of the folder', location: '../secret.bin', offset: 0, said: /escapes.*\.\.\/secret\.bin/ },
  ]) {
    test(`that are ${what} are a mistake that names the graph and what it wants`, async (t) => {
      await assert.rejects(start(t, location, offset), ({ message }: Error) => {
        assert.match(message, /\/m\/1\/model\.onnx: /)
        assert.match(message, said)
        // Nobody should have to read where in the source of ONNX Runtime that was found.
        assert.doesNotMatch(message, /onnxruntime_src|\.cc:\d+/)
        return true
      })
    })
  }
})

suite('threads and processes give the same answers to the bit', () => {
  const both = (t: TestContext, store: Record<string, Buffer>) =>
    Promise.all(
      isolations.map((isolation) => startGateway(t, { store, settings: { runtime: { worker: { isolation } } } })),
    )
  type Part = readonly [name: string, datatype: string, shape: readonly number[], bytes: Uint8Array]

  /** The outputs of an answer; all tensors travel as bytes. */
  async function answer(served: TestGateway, model: string, parts: readonly Part[]) {
    const inputs = parts.map(([name, type, shape, bytes]) => binaryTensor(name, type, shape, bytes.byteLength))
    const request = { inputs, parameters: { binary_data_output: true } }
    const { body, headers } = withBinary(request, ...parts.map(([, , , bytes]) => bytes))
    const { status, json, binary } = await post(served, model, body, headers)
    assert.equal(status, 200, JSON.stringify(json))
    return { outputs: json.outputs, binary }
  }

  test('for every datatype, tensors of megabytes, and sizes that only the run tells', async (t) => {
    const draw = drawFrom(5)
    const bytes = (count: number) => Buffer.from(Array.from({ length: count }, () => draw(256)))
    const bits = (count: number) => bytes(count).map((each) => each & 1)
    const words = byteStrings('', 'ü'.repeat(90_000), 'a')
    const small = (type: OnnxType, width: number): Part => [type, type, [3, 5], bytes(15 * width)]
    const all: Part[] = [
      ...(['FP64', 'INT64', 'UINT64'] as const).map((type) => small(type, 8)),
      ...(['INT32', 'UINT32'] as const).map((type) => small(type, 4)),
      ...(['FP16', 'INT16', 'UINT16'] as const).map((type) => small(type, 2)),
      ...(['INT8', 'UINT8'] as const).map((type) => small(type, 1)),
      ['FP32', 'FP32', [3, 500_000], Buffer.alloc(6_000_000, bytes(9_973))],
      ['BOOL', 'BOOL', [3, 5], bits(15)],
      ['BYTES', 'BYTES', [3, 1], words],
    ]
    const chosen: Part[] = [
      ['x', 'FP16', [50], bytes(100)],
      ['keep', 'BOOL', [50], bits(50)],
    ]
    const none: Part[] = [
      ['x', 'FP16', [1], bytes(2)],
      ['keep', 'BOOL', [1], Buffer.alloc(1)],
    ]
    const store = { 'all.onnx': everyType(all.map(([type]) => type as OnnxType)), 'sieve.onnx': sieve }
    const [thread, child] = await both(t, store)
    for (const parts of [all, chosen, none]) {
      const model = parts === all ? 'all' : 'sieve'
      const own = await answer(thread!, model, parts)
      const other = await answer(child!, model, parts)
      assert.deepEqual(own.outputs, other.outputs)
      assert.ok(own.binary.equals(other.binary), model)
      if (parts === all) assert.ok(own.binary.equals(Buffer.concat(all.map(([, , , sent]) => sent))))
    }
  })

  test('for a trained model', async (t) => {
    const digits = readFileSync(`${ownStore}/digits/2/model.onnx`)
    const [thread, child] = await both(t, { 'digits.onnx': digits })
    const draw = drawFrom(7)
    for (const rows of [1, 2, 7, 33]) {
      const pixels = Buffer.from(Array.from({ length: rows * 784 }, () => draw(256)))
      const parts: Part[] = [['image', 'UINT8', [rows, 1, 28, 28], pixels]]
      assert.deepEqual(await answer(thread!, 'digits', parts), await answer(child!, 'digits', parts))
    }
  })

  test('and nobody gets the answer of another, however many ask at once', async (t) => {
    const send = async (served: TestGateway, i: number) => {
      const width = [1, 3, 2_000, 70_000][i % 4]!
      const part: Part =
        i % 3 === 0
          ? [
              'x',
              'BYTES',
              [1, width % 1_999],
              byteStrings(...Array.from({ length: width % 1_999 }, (_, k) => `${i} ${k}`)),
            ]
          : [
              'x',
              'INT64',
              [1, width],
              bytesOf(BigInt64Array.from({ length: width }, (_, k) => BigInt(i * 100_000 + k))),
            ]
      const { binary } = await answer(served, part[1], [part])
      assert.ok(binary.equals(part[3]), `answer ${i}`)
    }
    const store = { 'BYTES.onnx': identity('BYTES', ['n', 'w']), 'INT64.onnx': identity('INT64', ['n', 'w']) }
    for (const served of await both(t, store)) await Promise.all(Array.from({ length: 120 }, (_, i) => send(served, i)))
  })
})
