/** The keys that sign what predictions are called: other gateways, restarts, new keys, and configurations that change. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { stringify } from 'yaml'
import { strangerCalled } from '../src/core/caller.ts'
import { isRefusal } from '../src/core/refusal.ts'
import { Metrics } from '../src/experiments/feedback/metrics.ts'
import { feedbackOptions } from '../src/experiments/feedback/options.ts'
import type { LiveModel } from '../src/live/model.ts'
import { openPredictions } from '../src/live/predictions.ts'
import type { Kept, States } from '../src/state/states.ts'
import { configWith, folderWith, startGateway, type TestGateway } from './support/gateway.ts'
import { identity } from './support/onnx.ts'
import { StillClock } from './support/limits.ts'
import { metricOf, Product } from './support/product.ts'
import { penstock } from './support/process.ts'
import { openClient } from './support/protocols.ts'

const echo = identity('INT64', ['n', 1])
const store = { 'm/1/model.onnx': echo, 'm/2/model.onnx': echo }
const arms = { stable: { version: '1', weight: 1 }, canary: { version: '2', weight: 1 } }
const click = { click: { kind: 'event', direction: 'more' } }
const split = { arms, default: 'stable' }
const ab = { kind: 'ab', treatment: 'canary', feedback: { metrics: click } }
const unknown = '400 invalid: this is not the id of a prediction of this gateway'

/** Keys of 32 bytes in files of their own, by name; returns their paths. */
async function keys(...names: readonly string[]): Promise<string[]> {
  const folder = await folderWith(Object.fromEntries(names.map((name) => [name, randomBytes(32)])))
  return names.map((name) => join(folder, name))
}

function start(t: TestContext, settings: object, experiment: object | undefined = ab): Promise<TestGateway> {
  return startGateway(t, {
    store,
    settings: { runtime: { executors: 1 }, models: { m: { split, experiment } }, ...settings },
  })
}

const productOf = (t: TestContext, { url }: TestGateway) => new Product(openClient(t, 'http', { url, ca: '' }))

test('a prediction of one gateway is known to another with the same key', async (t) => {
  const keyFiles = await keys('one')
  const [first, second] = [await start(t, { feedback: { keyFiles } }), await start(t, { feedback: { keyFiles } })]
  const prediction = await productOf(t, first).predictBy('canary')
  assert.equal(await productOf(t, second).outcome({ prediction, metric: 'click' }), 'counted')
  assert.equal((await metricOf(second, 'click')).treatment, 1)
  const stranger = await start(t, { feedback: { keyFiles: await keys('other') } })
  assert.equal(await productOf(t, stranger).outcome({ prediction, metric: 'click' }), unknown)
})

test('without a key one is made, and is the same after a restart and for who shares the state', async (t) => {
  const state = { path: join(await folderWith(), 'state') }
  const first = await start(t, { state })
  const prediction = await productOf(t, first).predictBy('stable')
  assert.equal(await productOf(t, await start(t, { state })).outcome({ prediction, metric: 'click' }), 'counted')
  await first.stop()
  assert.equal(await productOf(t, await start(t, { state })).outcome({ prediction, metric: 'click' }), 'counted')
  assert.equal(await productOf(t, await start(t, {})).outcome({ prediction, metric: 'click' }), unknown)
})

test('gateways that start at the same time make one key', async (t) => {
  const state = { path: await folderWith() }
  const all = await Promise.all(Array.from({ length: 4 }, () => start(t, { state })))
  const prediction = await productOf(t, all[0]!).predictBy('stable')
  for (const served of all) assert.equal(await productOf(t, served).outcome({ prediction, metric: 'click' }), 'counted')
})

test('a key is changed without loss: the first signs, all are taken, and what is gone is not', async (t) => {
  const [old, fresh] = await keys('old', 'fresh')
  const before = await start(t, { feedback: { keyFiles: [old] } })
  const both = await start(t, { feedback: { keyFiles: [fresh, old] } })
  const after = await start(t, { feedback: { keyFiles: [fresh] } })
  const [a, b] = [await productOf(t, before).predictBy('stable'), await productOf(t, both).predictBy('stable')]
  const told = async (served: TestGateway, prediction: string) =>
    productOf(t, served).outcome({ prediction, metric: 'click' })
  assert.deepEqual([await told(both, a), await told(both, b)], ['counted', 'counted'])
  assert.deepEqual([await told(after, a), await told(after, b)], [unknown, 'counted'])
  assert.equal(await told(before, b), unknown)
})

test('a key that is missing or short is told by its file, and nothing is served', async (t) => {
  const models = Object.fromEntries(Object.entries(store).map(([name, model]) => [`models/${name}`, model]))
  const configs = Object.fromEntries(
    ['gone', 'short'].map((name) => {
      const settings = { auth: 'none', store: { path: 'models' }, feedback: { keyFiles: [name] } }
      return [`${name}.yaml`, stringify({ ...settings, models: { m: { split, experiment: ab } } })]
    }),
  )
  const folder = await folderWith({ short: randomBytes(31), ...models, ...configs })
  for (const [name, words] of [
    ['gone', /gone: cannot be read \(ENOENT\)/],
    ['short', /short: holds 31 bytes: a key needs 32 or more/],
  ] as const) {
    const { code, stderr } = await penstock(t, ['check', join(folder, `${name}.yaml`)]).finished
    assert.equal(code, 1)
    assert.match(stderr, words)
  }
})

test('where nobody may tell anything, no key is kept', async (t) => {
  const path = await folderWith()
  const served = await start(t, { state: { path } }, { ...ab, feedback: {} })
  await productOf(t, served).ask()
  assert.ok(!(await readdir(path)).some((name) => name.startsWith('feedback-key')))
})

test('predictions of an experiment that is configured later are known after a restart, from the first on', async (t) => {
  const state = { path: await folderWith() }
  const settings = { state, store: { path: await folderWith(store) }, runtime: { executors: 1 } }
  const served = await startGateway(t, {
    store: settings.store.path,
    settings: { ...settings, models: { m: { split } } },
  })
  const product = productOf(t, served)
  assert.equal((await product.ask()).headers['x-penstock-prediction'], undefined)
  const wanted = await configWith({ ...settings, models: { m: { split, experiment: ab } } })
  assert.deepEqual(await served.gateway.reload(wanted), [])
  const prediction = await product.predictBy('stable')
  await served.stop()
  const again = await startGateway(t, {
    store: settings.store.path,
    settings: { ...settings, models: { m: { split, experiment: ab } } },
  })
  assert.equal(await productOf(t, again).outcome({ prediction, metric: 'click' }), 'counted')
})

test('a state that cannot be read costs no prediction, and what is in it is left alone', async (t) => {
  const path = await folderWith({ 'feedback-key.json': 'damaged' })
  const served = await start(t, { state: { path } })
  const product = productOf(t, served)
  const prediction = await product.predictBy('stable')
  assert.equal(await product.outcome({ prediction, metric: 'click' }), 'counted')
  assert.equal(await readFile(join(path, 'feedback-key.json'), 'utf8'), 'damaged')
})

test('while the state cannot be had predictions are signed all the same, and with the common key once it can', async () => {
  let isDown = true
  let kept: Kept | undefined
  const states: States = {
    read: () => Promise.resolve(isDown ? { problem: 'down' } : kept),
    write: (_name, value, revision) => {
      if (isDown) return Promise.resolve({ problem: 'down' })
      if (revision !== (kept?.revision ?? 0)) return Promise.resolve('stale')
      kept = { revision: revision + 1, value }
      return Promise.resolve({ revision: revision + 1 })
    },
    watch: () => () => {},
    close() {},
  }
  const clock = new StillClock()
  const [one, other] = [await gatewayWith(states, clock), await gatewayWith(states, clock)]
  const early = one.name()
  assert.deepEqual([one.tell(early), other.tell(early)], ['counted', 'invalid'])
  isDown = false
  clock.pass(10_000)
  for (const each of [one, other]) {
    each.name()
    await nextTurn()
  }
  assert.deepEqual([other.tell(one.name()), one.tell(other.name())], ['counted', 'counted'])
  // What was signed before is still good where it was.
  assert.equal(one.tell(early), 'duplicate')
})

/** What is of a gateway's predictions, over one model. */
async function gatewayWith(states: States, clock: StillClock) {
  const config = await configWith({ models: { m: { split, experiment: ab } } })
  const options = feedbackOptions.parse(ab.feedback)
  const metrics = new Metrics({ options, control: 'stable', treatment: 'canary', since: 1 })
  const model = { name: 'm', experiment: { metrics }, shareOf: () => 0.5 } as unknown as LiveModel
  const access = { sees: () => true }
  const opened = await openPredictions(config.config, { clock, states, access, models: new Map([['m', model]]) })
  assert.ok(!('mistakes' in opened))
  const caller = strangerCalled('somebody')
  const choice = { arm: 'stable', version: '1', share: 0.5, generation: 1, unit: '', unitKind: 'request' } as const
  return {
    name: () => opened.nameOf(model, { ...choice, decision: 'weight' }, caller)!,
    tell: (prediction: string) => {
      const taken = opened.feedback.take({ prediction, metric: 'click' }, caller)
      return isRefusal(taken) ? taken.code : taken.status
    },
  }
}
