/** A canary at the front door: it takes its steps by itself, and is rolled back for each of the reasons that there are. */
import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import {
  ask,
  askMany,
  bad,
  canaryWith,
  edit,
  experimentOf,
  good,
  lookup,
  onTrial,
  phaseOf,
  quickStep,
  rowsOf,
  splitOf,
  startTrial,
  untilPhase,
  type Got,
} from './support/canary.ts'
import { edgeWith, fixed, post, queuedRows, samples, until } from './support/client.ts'
import { tensor, type TestGateway } from './support/gateway.ts'
import { slow } from './support/models.ts'
import { Wire, wireRequest } from './support/socket.ts'

const longStep = { share: 0.5, holdS: 600, minRequests: 1, below: 'off' }

function start(t: TestContext, settings: object, store: Record<string, Buffer> = onTrial): Promise<TestGateway> {
  return startTrial(t, { store, settings })
}

/** Every answer is of one arm and of the version of that arm. */
function fitTogether(got: readonly Got[]): void {
  for (const { arm, version, json, fallback } of got) {
    assert.equal(version, arm === 'canary' ? '2' : '1')
    assert.equal(json.parameters.arm, arm)
    assert.equal(json.model_version, fallback === 'rescue' ? '1' : version)
  }
}

test('a good canary goes from step to step by itself, and is promoted', async (t) => {
  const steps = [quickStep(0.3), quickStep(0.6)]
  const gateway = await start(t, canaryWith({ steps }))
  const seen = new Set<string>()
  const got = await askMany(gateway, good, 20_000, async () => {
    const { phase, step, share } = await experimentOf(gateway)
    seen.add(`${phase} ${step} ${share}`)
    return phase === 'promoted'
  })
  assert.deepEqual([...seen], ['ramping 0 0.3', 'ramping 1 0.6', 'promoted 1 1'])
  fitTogether(got)
  assert.ok(got.every(({ status, fallback }) => status === 200 && fallback === null))
  const after = await askMany(gateway, good, 40)
  assert.ok(after.every(({ arm, version }) => arm === 'canary' && version === '2'))
  const { arms, history, experiment } = await splitOf(gateway)
  assert.deepEqual(
    arms.map(({ arm, share, configured }: any) => [arm, share, configured]),
    [
      ['stable', 0, 80],
      ['canary', 1, 20],
    ],
  )
  assert.deepEqual(
    history.map(({ who, what }: any) => `${who}: ${what}`),
    ['the experiment: ramping, share 0.6: step 2 of 2', 'the experiment: promoted, share 1: it went well'],
  )
  assert.equal(experiment.why, 'it went well')
})

test('one that fails on everything is rolled back at once, and clients do not notice', async (t) => {
  const gateway = await start(t, canaryWith({ steps: [longStep] }))
  const got = await askMany(gateway, bad, 500, async () => (await phaseOf(gateway)) === 'rolled-back')
  const rescued = got.filter(({ arm }) => arm === 'canary')
  assert.ok(got.length < 120, `${got.length} requests`)
  assert.ok(got.every(({ status, json }) => status === 200 && json.outputs[0].data[0] === bad))
  assert.ok(rescued.length >= 5)
  assert.ok(rescued.every(({ fallback, json }) => fallback === 'rescue' && json.parameters.fallback === 'rescue'))
  fitTogether(got)
  const { evidence, why, sounding } = await experimentOf(gateway)
  assert.deepEqual(evidence.failed, { control: 0, treatment: rescued.length })
  assert.match(why, /^it fails more often than the control/)
  assert.deepEqual(
    sounding.map(({ guard }: any) => guard),
    ['failures'],
  )
  assert.ok(
    [...(await samples(gateway))].some(([name, count]) => /fallback="rescue"/.test(name) && count === rescued.length),
  )
})

test('what was rolled back gets nothing, by weight, by rule or by force; whoever names it is served', async (t) => {
  const gateway = await start(t, canaryWith({ steps: [longStep] }))
  assert.equal((await ask(gateway, good, { 'x-beta': 'yes' })).arm, 'canary')
  await askMany(gateway, bad, 500, async () => (await phaseOf(gateway)) === 'rolled-back')
  const before = (await experimentOf(gateway)).evidence.units.treatment
  for (const headers of [{}, { 'x-beta': 'yes' }, { 'x-penstock-arm': 'canary' }]) {
    for (let i = 0; i < 30; i++) {
      const { arm, version, status } = await ask(gateway, good, headers)
      assert.deepEqual([status, arm, version], [200, 'stable', '1'], JSON.stringify(headers))
    }
  }
  const pinned = await ask(gateway, good, {}, 'm/versions/2')
  assert.deepEqual([pinned.status, pinned.json.model_version, pinned.json.outputs[0].data], [200, '2', [103]])
  assert.equal((await experimentOf(gateway)).evidence.units.treatment, before)
  for (const action of ['pause', 'resume', 'promote', 'rollback'])
    assert.equal((await edit(gateway, { action })).status, 409, action)
  assert.equal((await edit(gateway, { weights: { canary: 5 } })).status, 409)
})

test('without rescue its clients get its failures', async (t) => {
  const gateway = await start(t, canaryWith({ steps: [longStep], rescue: false }))
  const got = await askMany(gateway, bad, 500, async () => (await phaseOf(gateway)) === 'rolled-back')
  const failed = got.filter(({ status }) => status !== 200)
  assert.ok(failed.every(({ status, json, fallback }) => status === 500 && json.code === 'model_failed' && !fallback))
  assert.ok(got.every(({ status, arm }) => status === 500 || arm === 'stable'))
  assert.deepEqual((await experimentOf(gateway)).evidence.failed, { control: 0, treatment: failed.length })
})

test('requests on which both versions fail say nothing against the canary', async (t) => {
  const store = { 'm/1/model.onnx': lookup, 'm/2/model.onnx': lookup }
  const gateway = await start(t, canaryWith({ steps: [longStep] }), store)
  const got = await askMany(gateway, bad, 120)
  assert.ok(got.every(({ status, fallback }) => status === 500 && fallback === null))
  const { phase, evidence, sounding } = await experimentOf(gateway)
  assert.deepEqual([phase, sounding], ['ramping', []])
  assert.equal(evidence.failed.control + evidence.failed.treatment, 120)
})

test('one whose requests are only ever shed is rolled back', async (t) => {
  // Three rows run at once; two that wait fill the queue of their version.
  const batching = { ...fixed(3, 30_000), maxQueueRows: 2 }
  const quickEnd = edgeWith({ drain: { idleMs: 0, timeoutMs: 20 } })
  for (const rescue of [false, true]) {
    const gateway = await start(t, { ...quickEnd, ...canaryWith({ steps: [longStep], rescue }, { batching }) })
    const wire = await Wire.open(t, gateway.url)
    wire.write(wireRequest('m/versions/2', JSON.stringify(rowsOf(1, 2))))
    await until('they wait', async () => (await queuedRows(gateway, 'm')) === 2)
    const statuses = new Set<number>()
    await until('it is rolled back', async () => {
      statuses.add((await gateway.infer('m', rowsOf(1, 2, 3))).status)
      return (await phaseOf(gateway)) === 'rolled-back'
    })
    assert.deepEqual(statuses, new Set(rescue ? [200] : [200, 503]))
    const { evidence } = await experimentOf(gateway)
    assert.ok(evidence.failed.treatment >= 5 && evidence.failed.treatment === evidence.units.treatment)
  }
})

const cell = { inputs: [tensor('x', 'FP32', [1, 1], [1])] }

test('one that only ever lets the time run out is rolled back', async (t) => {
  const store = { 'm/1/model.onnx': slow(1, 16), 'm/2/model.onnx': slow(10, 512) }
  const gateway = await start(t, canaryWith({ steps: [longStep] }), store)
  const timed = async (target: string) => {
    const began = performance.now()
    await gateway.infer(target, cell)
    return performance.now() - began
  }
  const takes = [await timed('m/versions/2'), await timed('m/versions/2'), await timed('m/versions/2')]
  // A run that is not waited for any more holds the control up, but for less than its time.
  const headers = { 'x-request-timeout-ms': (0.7 * Math.min(...takes)).toFixed(3) }
  const said = new Set<string>()
  await until('it is rolled back', async () => {
    const { status, json } = await post(gateway, 'm', JSON.stringify(cell), headers)
    said.add(json.code ?? `${status} ${json.model_version}`)
    return (await phaseOf(gateway)) === 'rolled-back'
  })
  const { evidence, why } = await experimentOf(gateway)
  assert.match(why, /^it fails more often/)
  assert.ok(evidence.failed.treatment >= 5 && evidence.failed.treatment > evidence.failed.control)
  assert.ok(said.has('200 1'), [...said].join())
})

test('one that computes longer is rolled back, though its answers come in no time', async (t) => {
  const store = { 'm/1/model.onnx': slow(1, 64), 'm/2/model.onnx': slow(1, 384) }
  const gateway = await start(t, canaryWith({ steps: [longStep] }), store)
  await until('it is rolled back', async () => {
    const all = await Promise.all(Array.from({ length: 8 }, () => gateway.infer('m', cell)))
    assert.ok(all.every(({ status }) => status === 200))
    return (await phaseOf(gateway)) === 'rolled-back'
  })
  const { why, evidence } = await experimentOf(gateway)
  assert.match(why, /^its runs take [\d.]+ times as long as the control's/)
  assert.deepEqual(evidence.failed, { control: 0, treatment: 0 })
  const { control, treatment } = evidence.slowness.medianRatios
  assert.ok(treatment > 1.15 * control)
})

test('a guard may pause a canary instead, or only be told of', async (t) => {
  for (const [action, phase] of [
    ['pause', 'paused'],
    ['alert', 'ramping'],
  ]) {
    const gateway = await start(t, canaryWith({ steps: [longStep], failures: { action } }))
    await until('it sounds', async () => {
      await ask(gateway, bad)
      return (await experimentOf(gateway)).sounding.length > 0
    })
    await until('that has its effect', async () => (await phaseOf(gateway)) === phase)
    const { sounding, share } = await experimentOf(gateway)
    assert.deepEqual([sounding[0].guard, sounding[0].action, share], ['failures', action, 0.5])
  }
})

test('a canary without steps keeps its weight and is guarded', async (t) => {
  const gateway = await start(t, canaryWith({}))
  assert.equal(await phaseOf(gateway), 'steady')
  const shares = (await splitOf(gateway)).arms.map(({ share }: any) => share)
  assert.deepEqual(shares, [0.8, 0.2])
  await askMany(gateway, bad, 2_000, async () => (await phaseOf(gateway)) === 'rolled-back')
  assert.equal(await phaseOf(gateway), 'rolled-back')
})

test('one that is released begins anew, without the evidence that ended it', async (t) => {
  const gateway = await start(t, canaryWith({ steps: [quickStep(0.5)] }))
  await askMany(gateway, bad, 500, async () => (await phaseOf(gateway)) === 'rolled-back')
  const released = await edit(gateway, { action: 'release' })
  assert.equal(released.status, 200)
  const { phase, step, share, evidence, sounding, round } = await experimentOf(gateway)
  assert.deepEqual([phase, step, share, round, sounding], ['ramping', 0, 0.5, 1, []])
  assert.deepEqual(evidence.units, { control: 0, treatment: 0 })
  await askMany(gateway, good, 20_000, async () => (await phaseOf(gateway)) === 'promoted')
  assert.equal(await phaseOf(gateway), 'promoted')
})

test('one that is released and still fails is rolled back again, though the same callers have failed before', async (t) => {
  const { models } = canaryWith({ steps: [longStep] })
  const unit = { by: 'header', name: 'x-user' }
  const gateway = await start(t, { models: { m: { ...models.m, split: { ...models.m.split, unit } } } })
  const failing = async () => {
    for (let i = 0; i < 200 && (await phaseOf(gateway)) !== 'rolled-back'; i++)
      await ask(gateway, bad, { 'x-user': `u${i}` })
    return phaseOf(gateway)
  }
  assert.equal(await failing(), 'rolled-back')
  assert.equal((await edit(gateway, { action: 'release' })).status, 200)
  assert.equal(await failing(), 'rolled-back')
  await untilPhase(gateway, 'rolled-back')
})
