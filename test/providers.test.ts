/** Which provider runs a model: a GPU (SwiftShader, one in software), part of one, none, and one that is lost. */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite, test, type TestContext } from 'node:test'
import { admin, edgeWith, fixed, queuedRows, samples, statsOf, until, wholeFile } from './support/client.ts'
import { configWith, ownStore, startGateway, tensor, type Reply, type TestGateway } from './support/gateway.ts'
import { onnx, type Node, type Value } from './support/onnx.ts'
import { noFaults, noGpu, withFaultyGpu, withGpu, withoutGpu, type FaultyGpu } from './support/swiftshader.ts'

const value = (name: string, shape: Value['shape'] = ['n', 4]): Value => ({ name, type: 'FP32', shape })
const graph = (...nodes: Node[]) => onnx({ inputs: [value('x')], outputs: [value('y')], nodes })
const double = graph({ op: 'Add', inputs: ['x', 'x'], outputs: ['y'] })
const twice: Node = { op: 'Add', inputs: ['x', 'x'], outputs: ['twice'] }
/** WebGPU has no Round. */
const partial = graph(twice, { op: 'Round', inputs: ['twice'], outputs: ['y'] })
/** Fails on inputs of different widths. */
const sum = onnx({
  inputs: [value('a', ['n', 'p']), value('b', ['n', 'q'])],
  outputs: [value('y', ['n', 'r'])],
  nodes: [{ op: 'Add', inputs: ['a', 'b'], outputs: ['y'] }],
})

const on = (...providers: string[]) => ({ isolation: 'process', providers })

/** One worker on these providers, runs of one row, and a watchdog that lets it be. */
function settingsFor(...providers: string[]) {
  return {
    batching: { policy: { kind: 'adaptive', maxRows: 1 } },
    runtime: { executors: 1, warmUpMs: 100, watchdog: { leastMs: 20_000 }, worker: on(...providers) },
  }
}

function start(t: TestContext, model: Buffer, ...providers: string[]): Promise<TestGateway> {
  return startGateway(t, { store: { 'm.onnx': model }, settings: settingsFor(...providers) })
}

/** What the gateway says of a version. */
async function statusOf(gateway: TestGateway, model = 'm', version = '1'): Promise<any> {
  const { models } = await admin(gateway, '/admin/status')
  return models.find((each: any) => each.name === model).versions.find((each: any) => each.version === version)
}

async function deaths(gateway: TestGateway): Promise<number> {
  return (await statusOf(gateway)).workers.deaths
}

/** The series of the metric that say what runs a model. */
async function providersOf(gateway: TestGateway, model = 'm'): Promise<string[]> {
  const names = [...(await samples(gateway)).keys()]
  return names.filter((name) => name.startsWith(`penstock_provider_info{model="${model}"`))
}

function ask(gateway: TestGateway, x: number, model = 'm'): Promise<Reply> {
  return gateway.infer(model, { inputs: [tensor('x', 'FP32', [1, 4], [x, 0, 1, -x])] })
}

function check({ status, json }: Reply, x: number): void {
  assert.deepEqual([status, json.outputs?.[0].data], [200, [2 * x, 0, 2, -2 * x]], JSON.stringify(json))
}

if (!noGpu) withGpu(wholeFile)

// On each test and not on a suite: skipped suites are not counted.
suite('digits on a GPU', async () => {
  const onGpu = { digits: { worker: on('webgpu') } }
  const common = { batching: fixed(32, 100), runtime: { executors: 1, warmUpMs: 1_000 } }
  const cpu = noGpu ? undefined : await startGateway(wholeFile, { settings: common })
  const gpu = noGpu ? undefined : await startGateway(wholeFile, { settings: { ...common, models: onGpu } })

  test(
    'status, metadata and metrics name the provider and the device, and the model is warm',
    { skip: noGpu },
    async () => {
      for (const version of ['1', '2']) {
        const { provider, device, missed } = await statusOf(gpu!, 'digits', version)
        assert.deepEqual([provider, missed], ['webgpu', []])
        assert.match(device, /SwiftShader/)
        const { parameters } = (await gpu!.get(`/v2/models/digits/versions/${version}`)).json
        assert.deepEqual([parameters.provider, parameters.device], ['webgpu', device])
        const series = `penstock_provider_info{model="digits",version="${version}",provider="webgpu",device="${device}"}`
        assert.equal((await samples(gpu!)).get(series), 1)
      }
      // Nobody has asked yet.
      assert.equal((await gpu!.get('/v2/models/digits/versions/1/stats')).json.model_stats[0].inference_count, 0)
      const { runMs } = await statusOf(gpu!, 'digits', '1')
      assert.ok(runMs.baseMs + runMs.rowMs > 0)
      const { parameters } = (await gpu!.get('/v2/models/digits/versions/1')).json
      assert.deepEqual([parameters.run_base_ms, parameters.run_row_ms], [runMs.baseMs, runMs.rowMs])
      assert.match((await providersOf(gpu!, 'spam')).join(), /provider="cpu"/)
    },
  )

  for (const version of ['1', '2']) {
    test(`version ${version} answers as on the CPU, alone and in company`, { skip: noGpu }, async () => {
      const model = `digits/versions/${version}`
      const folder = join(ownStore, 'digits', version, 'samples')
      const own = readdirSync(folder).map((name) => JSON.parse(readFileSync(join(folder, name), 'utf8')))
      const pixels = own.flatMap(({ inputs }) => inputs[0].data as number[])
      const many = Array.from({ length: 70 * 784 }, (_, i) => pixels[(i * 3) % pixels.length])
      const large = { inputs: [tensor('image', 'UINT8', [70, 1, 28, 28], many)] }
      const compare = async (requests: readonly object[]) => {
        const expected = await Promise.all(requests.map((request) => cpu!.infer(model, request)))
        const replies = await Promise.all(requests.map((request) => gpu!.infer(model, request)))
        for (const [i, { status, json }] of replies.entries()) {
          assert.equal(status, 200, JSON.stringify(json).slice(0, 500))
          assertClose(json.outputs[0], expected[i]!.json.outputs[0])
        }
      }
      for (const request of own) await compare([request])
      await compare(Array.from({ length: 24 }, (_, i) => own[i % own.length]))
      await compare([large])
      const { batch_stats: runs } = await statsOf(gpu!, model)
      assert.ok(
        runs.some(({ batch_size: rows }: any) => rows > 16 && rows <= 32),
        'some shared a run',
      )
    })
  }
})

interface Output {
  readonly shape: readonly number[]
  readonly data: readonly number[]
}

function assertClose(output: Output, expected: Output): void {
  assert.deepEqual(output.shape, expected.shape)
  assert.equal(output.data.length, expected.data.length)
  for (const [i, each] of output.data.entries())
    assert.ok(Math.abs(each - expected.data[i]!) <= 1e-5, `${i}: ${each} instead of ${expected.data[i]}`)
}

test('what a GPU knows only in part is refused, unless the CPU may run the rest', { skip: noGpu }, async (t) => {
  await assert.rejects(start(t, partial, 'webgpu'), /m\.onnx: provider webgpu: .*every operator.*add `cpu`/)
  const gateway = await start(t, partial, 'webgpu', 'cpu')
  const { provider, device, missed } = await statusOf(gateway)
  assert.deepEqual([provider, missed], ['webgpu+cpu', []])
  assert.match(device, /SwiftShader/)
  assert.match((await providersOf(gateway)).join(), /provider="webgpu\+cpu"/)
  const inputs = [tensor('x', 'FP32', [2, 4], [0.7, 1.2, -3.6, 0, 10, 20, 0.1, 0.4])]
  const { json } = await gateway.infer('m', { inputs })
  assert.deepEqual(json.outputs[0].data, [1, 2, -7, 0, 20, 40, 0, 1])
})

test('without a GPU webgpu is a mistake, unless something else may run the model', async (t) => {
  withoutGpu(t)
  await assert.rejects(start(t, double, 'webgpu'), /m\.onnx: provider webgpu: no GPU was found.*libvulkan/)
  const gateway = await start(t, double, 'webgpu', 'cpu')
  const { provider, missed } = await statusOf(gateway)
  assert.deepEqual([provider, missed.length, missed[0].provider], ['cpu', 1, 'webgpu'])
  assert.match(missed[0].why, /no GPU was found.*libvulkan/)
  assert.equal((await gateway.get('/v2/models/m')).json.parameters.provider, 'cpu')
  check(await ask(gateway, 3), 3)
})

test('a file that is no model is called so, whatever was to run it', { skip: noGpu }, async (t) => {
  for (const providers of [['webgpu'], ['webgpu', 'cpu'], ['cuda', 'webgpu', 'cpu']])
    await assert.rejects(start(t, Buffer.from('hello'), ...providers), /m\.onnx: not an ONNX model/)
})

for (const [provider, missing] of [
  ['cuda', /CUDA 12, cuDNN and a driver/],
  ['tensorrt', /CUDA 12, cuDNN, TensorRT and a driver/],
] as const) {
  test(`without its libraries ${provider} is a mistake that says how to get them`, async (t) => {
    const said = start(t, double, provider)
    await assert.rejects(said, new RegExp(`provider ${provider}: .*ONNXRUNTIME_NODE_INSTALL=true`))
    await assert.rejects(said, missing)
  })
}

test(
  'the first provider that can be had is taken, and it is said why not those before it',
  { skip: noGpu },
  async (t) => {
    const gateway = await start(t, double, 'cuda', 'webgpu', 'cpu')
    const { provider, missed } = await statusOf(gateway)
    assert.deepEqual([provider, missed.length, missed[0].provider], ['webgpu', 1, 'cuda'])
    assert.match(missed[0].why, /libraries are not here.*CUDA/)
    check(await ask(gateway, 3), 3)
  },
)

test('what threads cannot do, and pools that there are not, are mistakes in the configuration', async () => {
  const worker = (options: object) => configWith({ models: { m: { worker: options } } })
  const webgpu = /models\.m\.worker\.providers.*`isolation: process`/
  await assert.rejects(worker({ isolation: 'thread', providers: ['cpu', 'webgpu'] }), webgpu)
  await assert.rejects(worker({ providers: ['webgpu'] }), webgpu)
  await assert.rejects(worker({ memoryMb: 500 }), /models\.m\.worker\.memoryMb.*`isolation: process`/)
  const common = configWith({ runtime: { worker: { providers: ['webgpu'], memoryMb: 500 } } })
  await assert.rejects(common, /runtime\.worker\.providers.*\n.*runtime\.worker\.memoryMb/)
  await worker({ ...on('webgpu', 'cpu'), memoryMb: 500 })
  const pools = { gpu: { executors: 1 }, night: {} }
  const unknown = configWith({ runtime: { pools }, models: { m: { pool: 'gpus' } } })
  await assert.rejects(unknown, /models\.m\.pool: expected one of default, gpu, night/)
})

suite('a GPU that fails', () => {
  /** Requests of which the first is in its run, the GPU being held, and the others wait. */
  async function heldUp(gateway: TestGateway, gpu: FaultyGpu) {
    await gpu.hold('vkQueueSubmit')
    const replies = [1, 2, 3, 4].map((x) => ask(gateway, x))
    await until('they wait', async () => (await queuedRows(gateway, 'm')) >= 2)
    return replies
  }

  for (const [what, model, ...providers] of [
    ['a GPU', double, 'webgpu'],
    ['a GPU that shares the model with the CPU', partial, 'webgpu', 'cpu'],
  ] as const) {
    test(
      `${what} is lost in a run: the next worker answers what it ran and what waited`,
      { skip: noFaults },
      async (t) => {
        const gpu = await withFaultyGpu(t)
        const gateway = await start(t, model, ...providers)
        check(await ask(gateway, 7), 7)
        const replies = await heldUp(gateway, gpu)
        await gpu.fail('vkQueueSubmit')
        await until('the worker died', async () => (await deaths(gateway)) > 0)
        await gpu.heal()
        for (const [i, reply] of replies.entries()) check(await reply, i + 1)
        const { provider, workers } = await statusOf(gateway)
        assert.deepEqual([provider, workers.ready, workers.deaths], [providers.join('+'), 1, 1])
        check(await ask(gateway, 8), 8)
      },
    )
  }

  test(
    'a GPU that runs nothing any more makes the model not ready, until it is back',
    { skip: noFaults },
    async (t) => {
      const gpu = await withFaultyGpu(t)
      const gateway = await start(t, double, 'webgpu')
      check(await ask(gateway, 7), 7)
      await gpu.fail('vkQueueSubmit')
      const { status, json } = await ask(gateway, 1)
      assert.deepEqual([status, json.code], [503, 'not_ready'])
      assert.equal((await gateway.get('/v2/models/m/ready')).status, 503)
      await gpu.heal()
      await until('it is back', async () => (await gateway.get('/v2/models/m/ready')).status === 200)
      check(await ask(gateway, 4), 4)
      assert.equal((await statusOf(gateway)).provider, 'webgpu')
    },
  )

  test(
    'a GPU that runs nothing any more is replaced by the CPU, if that may run the model',
    { skip: noFaults },
    async (t) => {
      const gpu = await withFaultyGpu(t)
      const gateway = await start(t, double, 'webgpu', 'cpu')
      check(await ask(gateway, 7), 7)
      await gpu.fail('vkQueueSubmit')
      await ask(gateway, 1)
      await until('it is replaced', async () => (await statusOf(gateway)).provider === 'cpu')
      check(await ask(gateway, 2), 2)
      const { missed } = await statusOf(gateway)
      assert.deepEqual(missed, [{ provider: 'webgpu', why: 'it fails on what it has run before' }])
    },
  )

  test('a GPU that stays away is replaced by the CPU, if that may run the model', { skip: noFaults }, async (t) => {
    const gpu = await withFaultyGpu(t)
    const gateway = await start(t, double, 'webgpu', 'cpu')
    check(await ask(gateway, 7), 7)
    assert.match((await providersOf(gateway)).join(), /provider="webgpu"/)
    await gpu.fail('vkCreateInstance')
    process.kill(gpu.worker(), 'SIGKILL')
    await until('the worker is replaced', async () => (await deaths(gateway)) === 1)
    check(await ask(gateway, 8), 8)
    const { provider, missed } = await statusOf(gateway)
    assert.deepEqual([provider, missed.length, missed[0]?.provider], ['cpu', 1, 'webgpu'])
    assert.match(missed[0].why, /no GPU was found/)
    assert.equal((await gateway.get('/v2/models/m')).json.parameters.provider, 'cpu')
    const series = await providersOf(gateway)
    assert.equal(series.length, 1)
    assert.match(series[0]!, /provider="cpu"/)
  })

  test(
    'a GPU that stays away and has no stand-in makes the model not ready, until it is back',
    { skip: noFaults },
    async (t) => {
      const gpu = await withFaultyGpu(t)
      const gateway = await start(t, double, 'webgpu')
      await gpu.fail('vkCreateInstance')
      process.kill(gpu.worker(), 'SIGKILL')
      await until('it is known', async () => (await gateway.get('/v2/models/m/ready')).status === 503)
      const { status, json } = await ask(gateway, 1)
      assert.deepEqual([status, json.code], [503, 'not_ready'])
      await gpu.heal()
      await until('it is back', async () => (await gateway.get('/v2/models/m/ready')).status === 200)
      check(await ask(gateway, 2), 2)
    },
  )

  test('a GPU that hangs costs its worker, and the request is answered by the next', { skip: noFaults }, async (t) => {
    const gpu = await withFaultyGpu(t)
    const settings = settingsFor('webgpu')
    const runtime = { ...settings.runtime, watchdog: { leastMs: 1_000, mostMs: 1_000 } }
    const gateway = await startGateway(t, { store: { 'm.onnx': double }, settings: { ...settings, runtime } })
    await gpu.hold('vkQueueSubmit')
    const reply = ask(gateway, 5)
    await until('the worker was killed', async () => (await deaths(gateway)) === 1)
    await gpu.heal()
    check(await reply, 5)
  })

  test('a slow GPU in a pool of its own keeps nobody waiting', { skip: noFaults }, async (t) => {
    const gpu = await withFaultyGpu(t)
    const { runtime, batching } = settingsFor('cpu')
    const gateway = await startGateway(t, {
      store: { 'm.onnx': double, 'other.onnx': double },
      settings: {
        ...edgeWith({ deadlineMs: 10_000 }),
        batching,
        runtime: { ...runtime, pools: { gpu: { executors: 1 } } },
        models: { m: { pool: 'gpu', worker: on('webgpu') } },
      },
    })
    assert.equal((await statusOf(gateway)).pool, 'gpu')
    const order: string[] = []
    const slow = (await heldUp(gateway, gpu)).map(async (reply, i) => {
      check(await reply, i + 1)
      order.push('gpu')
    })
    for (const x of [5, 6]) {
      check(await ask(gateway, x, 'other'), x)
      order.push('cpu')
    }
    await gpu.heal()
    await Promise.all(slow)
    assert.deepEqual(order, ['cpu', 'cpu', 'gpu', 'gpu', 'gpu', 'gpu'])
  })
})

test('a request on which a model fails costs no worker on a GPU', { skip: noGpu }, async (t) => {
  const gateway = await start(t, sum, 'webgpu')
  const given = (name: string, data: number[]) => tensor(name, 'FP32', [1, data.length], data)
  const add = (a: number[], b: number[]) => gateway.infer('m', { inputs: [given('a', a), given('b', b)] })
  for (let round = 0; round < 3; round++) {
    const bad = await add([1, 2], [1, 2, 3])
    assert.deepEqual([bad.status, bad.json.code], [500, 'model_failed'])
    assert.deepEqual((await add([1, 2], [10, 20])).json.outputs[0].data, [11, 22])
  }
  assert.equal(await deaths(gateway), 0)
})
