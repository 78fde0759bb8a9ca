/** Versions that go for good: what they still answer, and what is remembered of them. */
import assert from 'node:assert/strict'
import { suite, test, type TestContext } from 'node:test'
import { systemClock, type Clock } from '../src/core/clock.ts'
import { isBad, loadVersion } from '../src/models/fleet.ts'
import { scanStore } from '../src/models/store.ts'
import type { Deployment } from '../src/runtime/deployment.ts'
import { defaultPool } from '../src/runtime/options.ts'
import { until } from './support/client.ts'
import { ask, plus, startRuntime, workOf, type Options } from './support/fleet.ts'
import { folderWith } from './support/gateway.ts'
import { looping } from './support/models.ts'

/** A version of its own, ready to run. */
async function deployed(t: TestContext, graph: Buffer, more: Options = {}) {
  const manifest = 'batching: { rows: independent }'
  const path = await folderWith({ 'm/1/m.onnx': graph, 'm/1/manifest.yaml': manifest })
  const { runtime, runner } = startRuntime(t, more)
  const { bundles } = await scanStore(path)
  const version = await loadVersion(bundles[0]!, undefined, runner)
  assert.ok(!isBad(version))
  const deployment = runtime.deployments[version.program.id] as Deployment
  return { runtime, version, deployment, bundle: bundles[0]!, runner }
}

suite('a version that is retired', { concurrency: 2 }, () => {
  test('answers what it has been given, and what waits for it, and then takes nothing more', async (t) => {
    const { runtime, version, deployment } = await deployed(t, looping)
    let isAsked = true
    deployment.isAsked = () => isAsked
    let isGone = false
    const running = ask(runtime, version, 200_000)
    const retiring = runtime.retire(deployment.id).then(() => (isGone = true))
    assert.equal(await running, 200_000)
    assert.equal(await ask(runtime, version, 3), 3, 'what waited for it')
    assert.deepEqual([isGone, deployment.refused()], [false, undefined])
    isAsked = false
    await Promise.all([retiring, runtime.retire(deployment.id)])
    assert.deepEqual([runtime.deployments, runtime.bytes], [{}, 0])
    assert.equal(runtime.pools.get(defaultPool)![0]!.takes(version.program), false)
    assert.equal(deployment.refused()!.code, 'not_ready')
    deployment.use(0)
    assert.equal(deployment.state, 'unloaded')
    assert.equal(await runtime.retire(deployment.id), undefined)
  })

  test('has a number that no other gets', async (t) => {
    const { runtime, version, deployment, bundle, runner } = await deployed(t, plus(1))
    await runtime.retire(deployment.id)
    Object.defineProperty(deployment, 'bytes', { value: 7 })
    assert.equal(runtime.bytes, 0, 'it is no longer counted')
    assert.equal(runtime.alive, true)
    const next = await loadVersion(bundle, undefined, runner)
    assert.ok(!isBad(next))
    assert.notEqual(next.program.id, version.program.id)
    assert.equal(await ask(runtime, version, 1), undefined)
    assert.equal(await ask(runtime, next, 1), 2)
  })

  test('with a thread that hangs is not forgotten when it is asked whether all is gone', async (t) => {
    let isHurried = false
    const loadMs = 30_000
    const after: Clock['after'] = (ms, callback) => systemClock.after(isHurried && ms === loadMs ? 20 : ms, callback)
    const clock = { ...systemClock, after }
    const { runtime, version, deployment } = await deployed(t, looping, { clock, watchdog: { loadMs, hungThreads: 0 } })
    isHurried = true
    const ran = await deployment.run(version.program, [workOf(400_000)])
    assert.equal(ran.kind, 'lost')
    await runtime.retire(deployment.id)
    assert.deepEqual(runtime.deployments, {})
    assert.equal(await runtime.close(100), false)
    // A process that ends while a thread is in a run is aborted.
    await until('the thread has come back', () => Promise.resolve(deployment.hungThreads === 0))
  })
})
