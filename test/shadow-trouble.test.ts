/** Shadows in trouble: they hang, die, fail, are slow or unloaded, and nobody who waits for an answer notices. */
import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { admin, binaryTensor, post, samples, until, withBinary } from './support/client.ts'
import { startGateway, tensor, type TestGateway } from './support/gateway.ts'
import { forever, hungry, looping } from './support/models.ts'
import { identity, onnx } from './support/onnx.ts'

const echo = identity('INT64', ['n', 1])
/** Gives numbers back; a run fails on one beyond fifteen. */
const narrow = onnx({
  inputs: [{ name: 'x', type: 'INT64', shape: ['n', 1] }],
  outputs: [{ name: 'y', type: 'INT64', shape: ['n', 1] }],
  constants: [{ name: 'table', type: 'INT64', shape: [16], data: Array.from({ length: 16 }, (_, i) => i) }],
  nodes: [{ op: 'Gather', inputs: ['table', 'x'], outputs: ['y'] }],
})

const arms = { stable: { version: '1', weight: 1 }, canary: { version: '2', weight: 0 } }
const split = { arms, default: 'stable', shadows: [{ version: '2', share: 1 }] }
const canary = {
  kind: 'canary',
  afterShadow: true,
  steps: [{ share: 0.5, below: 'off' }],
  comparison: { minPairs: 10, targetAgreement: 0.5 },
}
const inProcess = { isolation: 'process' }
const thread = { worker: { isolation: 'thread' } }
/** A watchdog that does nothing for as long as a test takes. */
const patient = { leastMs: 60_000, mostMs: 60_000, factor: 2 }
const watchful = { leastMs: 300, mostMs: 300, factor: 2 }
/** Nobody waits long for what hangs when the gateway is told to stop. */
const edge = { port: 0, drain: { idleMs: 0, timeoutMs: 500 } }

interface Setup {
  readonly control?: Buffer
  readonly model?: object
  readonly runtime?: object
}

/** One executor for those who wait. */
function start(t: TestContext, shadow: Buffer, { control = echo, model = {}, runtime = {} }: Setup = {}) {
  const store = { 'm/1/model.onnx': control, 'm/2/model.onnx': shadow }
  const m = { split, experiment: canary, worker: inProcess, ...model }
  return startGateway(t, { store, settings: { edge, runtime: { executors: 1, ...runtime }, models: { m } } })
}

/** All of them are answered, by the control. */
async function askAll(served: TestGateway, x: number, times: number): Promise<void> {
  for (let i = 0; i < times; i++) {
    const { status, json } = await served.infer('m', { inputs: [tensor('x', 'INT64', [1, 1], [x])] })
    assert.deepEqual([status, json.outputs?.[0].data, json.parameters?.arm], [200, [x], 'stable'], JSON.stringify(json))
  }
}

const experiment = (served: TestGateway) => admin(served, '/admin/models/m/experiment')

async function outcome(served: TestGateway, name: string): Promise<number> {
  const key = `penstock_shadows_total{model="m",version="2",outcome="${name}"}`
  return (await samples(served)).get(key) ?? 0
}

test('a shadow that hangs holds nobody up: 32 are in flight, the others dropped and counted', async (t) => {
  const served = await start(t, looping, { runtime: { watchdog: patient } })
  await askAll(served, forever, 100)
  const { phase, shadow } = await experiment(served)
  assert.deepEqual([phase, shadow.dropped, shadow.pairs], ['shadow', 68, 0])
  assert.equal(await outcome(served, 'busy'), 68)
  // They are in flight still.
  assert.deepEqual([await outcome(served, 'failed'), await outcome(served, 'compared')], [0, 0])
})

test('a shadow that hangs again and again ends its canary, and then is run no more', async (t) => {
  const served = await start(t, looping, { runtime: { watchdog: watchful } })
  await until('it is rolled back', async () => {
    await askAll(served, forever, 10)
    return (await experiment(served)).phase === 'rolled-back'
  })
  const { why, shadow } = await experiment(served)
  assert.match(why, /its shadow failed \d+ times where the control answered, and answered 0 times where/)
  assert.ok(shadow.failures.worse >= 11, JSON.stringify(shadow.failures))
  // Were it run, more would come than may be in flight.
  const busy = await outcome(served, 'busy')
  await askAll(served, forever, 40)
  assert.equal(await outcome(served, 'busy'), busy)
})

test('a shadow whose worker dies of what it is asked fails alone', async (t) => {
  const model = { worker: { isolation: 'process', memoryMb: 256 } }
  const served = await start(t, hungry, { model })
  await askAll(served, 400_000_000, 20)
  await until('it is rolled back', async () => {
    await askAll(served, 400_000_000, 1)
    return (await experiment(served)).phase === 'rolled-back'
  })
  assert.match((await experiment(served)).why, /its shadow failed/)
  await askAll(served, 1, 20)
})

test('a shadow that fails where the control answers ends its canary; nobody was ever sent there', async (t) => {
  const served = await start(t, narrow, { model: thread })
  await askAll(served, 3, 5)
  await askAll(served, 99, 12)
  await until('all are known', async () => (await outcome(served, 'failed')) === 12)
  assert.equal((await experiment(served)).phase, 'shadow')
  await askAll(served, 99, 8)
  await until('it is rolled back', async () => (await experiment(served)).phase === 'rolled-back')
  const { why, evidence } = await experiment(served)
  assert.match(why, /^its shadow failed \d+ times where the control answered, and answered 0 times/)
  assert.deepEqual(evidence.units, { control: 25, treatment: 0 })
  // It is over: neither pairs nor a good shadow lead anywhere.
  await askAll(served, 3, 20)
  assert.equal((await experiment(served)).phase, 'rolled-back')
})

test('where `shadowFailures` only tell, the canary goes on', async (t) => {
  const experimentOf = { ...canary, shadowFailures: { action: 'alert' }, comparison: { minPairs: 1_000 } }
  const served = await start(t, narrow, { model: { ...thread, experiment: experimentOf } })
  await askAll(served, 99, 40)
  await until('all are known', async () => (await outcome(served, 'failed')) === 40)
  const { phase, sounding } = await experiment(served)
  assert.equal(phase, 'shadow')
  assert.deepEqual(
    sounding.map(({ guard, action }: any) => [guard, action]),
    [['shadow', 'alert']],
  )
})

test('what both fail on says nothing, and what only the control fails on speaks for the shadow', async (t) => {
  const fails = async (served: TestGateway) => {
    const { status } = await served.infer('m', { inputs: [tensor('x', 'INT64', [1, 1], [99])] })
    assert.equal(status, 500)
  }
  const both = await start(t, narrow, { control: narrow, model: thread })
  for (let i = 0; i < 20; i++) await fails(both)
  await until('all are known', async () => (await outcome(both, 'failed')) === 20)
  assert.deepEqual((await experiment(both)).shadow.failures, { worse: 0, better: 0 })
  const one = await start(t, echo, { control: narrow, model: thread })
  for (let i = 0; i < 5; i++) await fails(one)
  await until('all are known', async () => (await experiment(one)).shadow.failures.better === 5)
  assert.equal((await experiment(one)).phase, 'shadow')
})

test('what expires before the control answers is no evidence for the shadow', async (t) => {
  const served = await start(t, echo, { control: looping, model: thread, runtime: { watchdog: patient } })
  const body = JSON.stringify({ inputs: [tensor('x', 'INT64', [1, 1], [1_000_000])] })
  assert.equal((await post(served, 'm', body, { 'x-request-timeout-ms': '20' })).json.code, 'expired')
  await askAll(served, 1, 1)
  await until('that is compared', async () => (await outcome(served, 'compared')) === 1)
  assert.deepEqual((await experiment(served)).shadow.failures, { worse: 0, better: 0 })
})

test('a slow shadow lags behind: clients are answered while it runs', async (t) => {
  const served = await start(t, looping, { model: thread, runtime: { watchdog: patient } })
  await askAll(served, 400_000, 1)
  let meanwhile = 0
  for (; (await outcome(served, 'compared')) === 0; meanwhile++) await askAll(served, 1, 1)
  assert.ok(meanwhile > 0)
})

test('a shadow that was unloaded is loaded again for what comes, and nobody waits for that', async (t) => {
  const served = await start(t, narrow, { model: { unloadAfterS: 0.2 } })
  await askAll(served, 1, 5)
  await until('compared', async () => (await outcome(served, 'compared')) === 5)
  await until('the versions are unloaded', async () => {
    const { models } = await admin(served, '/admin/status')
    return models[0].versions.every(({ state }: any) => state !== 'loaded')
  })
  await askAll(served, 1, 5)
  await until('compared again', async () => (await outcome(served, 'compared')) === 10)
  assert.deepEqual((await experiment(served)).shadow.failures, { worse: 0, better: 0 })
})

/** The largest of many numbers, after it has counted so far. */
function largest(counts: boolean): Buffer {
  const most = { op: 'ReduceMax', inputs: ['x'], outputs: ['most'], attributes: { axes: [1], keepdims: 1 } }
  const constants = [{ name: 'none', type: 'FP32' as const, shape: [], data: [0] }]
  const counting = [
    { op: 'ReduceMax', inputs: ['x'], outputs: ['all'], attributes: { keepdims: 0 } },
    { op: 'Cast', inputs: ['all'], outputs: ['count'], attributes: { to: 7 } },
    { op: 'Loop', inputs: ['count', '', 'none'], outputs: ['counted'], attributes: { body: addOne } },
    { op: 'Sub', inputs: ['counted', 'counted'], outputs: ['nothing'] },
  ]
  return onnx({
    inputs: [{ name: 'x', type: 'FP32', shape: ['n', 'w'] }],
    outputs: [{ name: 'y', type: 'FP32', shape: ['n', 1] }],
    constants,
    nodes: [
      most,
      ...(counts ? counting : []),
      { op: 'Add', inputs: ['most', counts ? 'nothing' : 'none'], outputs: ['y'] },
    ],
  })
}

const addOne = {
  inputs: [
    { name: 'i', type: 'INT64', shape: [] },
    { name: 'going', type: 'BOOL', shape: [] },
    { name: 'so_far', type: 'FP32', shape: [] },
  ],
  outputs: [
    { name: 'goes_on', type: 'BOOL', shape: [] },
    { name: 'more', type: 'FP32', shape: [] },
  ],
  constants: [{ name: 'step', type: 'FP32', shape: [], data: [1] }],
  nodes: [
    { op: 'Identity', inputs: ['going'], outputs: ['goes_on'] },
    { op: 'Add', inputs: ['so_far', 'step'], outputs: ['more'] },
  ],
} as const

test('copies of inputs are bounded: beyond 64 MiB shadows are dropped and counted', async (t) => {
  const served = await start(t, largest(true), { control: largest(false), runtime: { watchdog: patient } })
  const bytes = 12 * 2 ** 20
  const data = Buffer.alloc(bytes)
  data.writeFloatLE(2 ** 50, 0)
  const { body, headers } = withBinary({ inputs: [binaryTensor('x', 'FP32', [1, bytes / 4], bytes)] }, data)
  const sent = Array.from({ length: 7 }, () => post(served, 'm', body, headers))
  for (const { status, json } of await Promise.all(sent))
    assert.deepEqual([status, json.outputs?.[0].shape], [200, [1, 1]], JSON.stringify(json))
  assert.equal(await outcome(served, 'memory'), 2)
  assert.equal((await experiment(served)).shadow.dropped, 2)
})

test('a version with side effects is no shadow, and its model is served all the same', async (t) => {
  const manifest = '{ summary: s, owner: o, licence: l, sideEffects: true }'
  const store = { 'm/1/model.onnx': echo, 'm/2/model.onnx': echo, 'm/2/manifest.yaml': manifest }
  const served = await startGateway(t, { store, settings: { models: { m: { split } } } })
  await askAll(served, 1, 3)
  assert.deepEqual([await outcome(served, 'compared'), await outcome(served, 'refused')], [0, 3])
})

test('a gateway with a shadow that hangs stops as it should', async (t) => {
  const served = await start(t, looping, { runtime: { watchdog: patient } })
  await askAll(served, forever, 3)
  const { areConnectionsClosed, areWorkersGone } = await served.stop()
  assert.deepEqual([areConnectionsClosed, areWorkersGone], [true, true])
})
