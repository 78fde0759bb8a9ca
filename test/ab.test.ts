/** A/B tests: what may be concluded from what products tell, what follows from it, and what outlives a restart. */
import assert from 'node:assert/strict'
import { suite, test, type TestContext } from 'node:test'
import { admin, until } from './support/client.ts'
import { configWith, folderWith, startGateway, type TestGateway } from './support/gateway.ts'
import { identity } from './support/onnx.ts'
import { metricOf, Product, type Prediction } from './support/product.ts'
import { openClient } from './support/protocols.ts'

const echo = identity('INT64', ['n', 1])
const store = { 'm/1/model.onnx': echo, 'm/2/model.onnx': echo }
const arms = { stable: { version: '1', weight: 1 }, canary: { version: '2', weight: 1 } }
const split = { arms, default: 'stable' }
const metrics = {
  click: { kind: 'event', direction: 'more' },
  complaint: { kind: 'event', direction: 'fewer' },
  revenue: { kind: 'value', direction: 'more' },
}
const ab = { kind: 'ab', treatment: 'canary', feedback: { metrics } }
const runtime = { executors: 1 }

function start(
  t: TestContext,
  { experiment = ab, ...settings }: { experiment?: object; [others: string]: unknown } = {},
) {
  return startGateway(t, { store, settings: { runtime, models: { m: { split, experiment } }, ...settings } })
}

const productOf = (t: TestContext, { url }: TestGateway) => new Product(openClient(t, 'http', { url, ca: '' }))
const experiment = (served: TestGateway) => admin(served, '/admin/models/m/experiment')

/** Predicts until both arms have so many. */
async function predict(product: Product, each: number): Promise<Record<string, Prediction[]>> {
  const made: Record<string, Prediction[]> = { stable: [], canary: [] }
  while (made['stable']!.length < each || made['canary']!.length < each) {
    const prediction = await product.predict()
    made[prediction.arm]!.push(prediction)
  }
  return { stable: made['stable']!.slice(0, each), canary: made['canary']!.slice(0, each) }
}

/** Tells of the predictions of each arm what a function says of the i-th; undefined says nothing. */
async function tell(
  product: Product,
  made: Record<string, Prediction[]>,
  what: (arm: string, i: number) => object | undefined,
) {
  const entries = Object.entries(made).flatMap(([arm, list]) =>
    list.flatMap(({ prediction }, i) => {
      const said = what(arm, i)
      return said ? [{ prediction, ...said }] : []
    }),
  )
  const { json } = await product.tell(entries)
  assert.deepEqual([json.counts?.counted, json.mistakes], [entries.length, []], JSON.stringify(json))
}

/** Of each arm a part of the predictions, which the metric's events follow. */
function events(metric: string, parts: Readonly<Record<string, number>>) {
  return (arm: string, i: number) => (i % 100 < 100 * parts[arm]! ? { metric } : undefined)
}

test('a clear difference of events is a verdict, in the direction that is declared, and is told in one sentence', async (t) => {
  const served = await start(t)
  const product = productOf(t, served)
  const made = await predict(product, 100)
  await tell(product, made, events('click', { stable: 0.1, canary: 0.6 }))
  await tell(product, made, events('complaint', { stable: 0.1, canary: 0.6 }))
  const [click, complaint] = [await metricOf(served, 'click'), await metricOf(served, 'complaint')]
  assert.deepEqual([click.control, click.treatment, click.verdict], [10, 60, 'better'])
  assert.equal(complaint.verdict, 'worse')
  assert.ok(Math.abs(click.estimate - 5) < 1e-9 && click.interval.low > 0 && click.interval.high > click.estimate)
  assert.match(
    click.words,
    /^click \(events: 10 of the control and 60 of the treatment\): \+500\.0 % against the control \(95 %: \+\d+\.\d % to \+\d+\.\d %\)\. The treatment is better; that holds however often one has looked\.$/,
  )
  // An A/B test tells, and does nothing.
  assert.equal((await experiment(served)).phase, 'steady')
})

test('without a difference the verdict is open, with how long it would take to see one', async (t) => {
  const served = await start(t)
  const product = productOf(t, served)
  assert.match((await metricOf(served, 'click')).words, /too little is known to say anything/)
  await tell(product, await predict(product, 100), events('click', { stable: 0.3, canary: 0.3 }))
  const { verdict, estimate, interval, secondsLeft, words } = await metricOf(served, 'click')
  assert.equal(verdict, 'open')
  assert.ok(Math.abs(estimate) < 1e-9 && interval.low < 0 && interval.high > 0 && secondsLeft > 0)
  assert.match(
    words,
    /Nothing can be concluded yet\. A difference of \+10\.0 % would show in about [\d.]+ (s|min|h|days) at this pace\.$/,
  )
})

test('values are compared by their means', async (t) => {
  const served = await start(t)
  const product = productOf(t, served)
  const made = await predict(product, 150)
  await tell(product, made, (arm, i) => ({ metric: 'revenue', value: (arm === 'canary' ? 13 : 10) + (i % 5) - 2 }))
  const { control, treatment, estimate, verdict, words } = await metricOf(served, 'revenue')
  assert.deepEqual([control, treatment, verdict], [150, 150, 'better'])
  assert.ok(Math.abs(estimate - 0.3) < 1e-9)
  assert.match(words, /^revenue \(values: 150 of the control and 150 of the treatment\): \+30\.0 % against the control/)
})

// Metrics are looked at every ten seconds.
suite('a canary that is worse by a metric', { concurrency: 3 }, () => {
  for (const [action, phase] of [
    ['rollback', 'rolled-back'],
    ['pause', 'paused'],
    ['alert', 'steady'],
  ] as const)
    test(`is ${phase} with \`metricAction: ${action}\``, async (t) => {
      const canary = { kind: 'canary', treatment: 'canary', feedback: { metrics }, metricAction: action }
      const served = await start(t, { experiment: canary })
      const product = productOf(t, served)
      await tell(product, await predict(product, 100), events('complaint', { stable: 0.02, canary: 0.9 }))
      await until('it sounds', async () => (await experiment(served)).sounding.length > 0)
      const report = await experiment(served)
      const [{ guard, words }] = report.sounding
      assert.deepEqual([guard, report.phase], ['metric complaint', phase])
      assert.match(words, /^by the metric "complaint" it is worse than the control: \+\d+\.\d % to/)
      if (action !== 'alert') assert.equal(report.why, words)
      const seen = new Set<string>()
      for (let i = 0; i < 60; i++) seen.add((await product.predict()).arm)
      assert.deepEqual([...seen].toSorted(), action === 'rollback' ? ['stable'] : ['canary', 'stable'])
    })
})

test('what was told outlives a restart, and more may be told then of predictions that were made before', async (t) => {
  const settings = { state: { path: await folderWith() } }
  const first = await start(t, settings)
  const product = productOf(t, first)
  const made = await predict(product, 20)
  await tell(product, made, events('click', { stable: 0.05, canary: 0.1 }))
  await tell(product, made, (_arm, i) => ({ metric: 'revenue', value: i }))
  const before = await metricOf(first, 'revenue')
  await first.stop()
  const second = await start(t, settings)
  const after = await metricOf(second, 'revenue')
  assert.deepEqual(
    [after.control, after.treatment, after.estimate, after.interval],
    [before.control, before.treatment, before.estimate, before.interval],
  )
  await tell(productOf(t, second), made, (_arm, i) => (i >= 15 ? { metric: 'click' } : undefined))
  const { control, treatment } = await metricOf(second, 'click')
  assert.deepEqual([control, treatment], [5 + 5, 10 + 5])
})

test('when weights change, what was predicted before counts with the share it was drawn with', async (t) => {
  const served = await start(t)
  const product = productOf(t, served)
  const made = await predict(product, 100)
  const { generation } = await admin(served, '/admin/models/m/split')
  const edited = await fetch(`${served.adminUrl}/admin/models/m/split`, {
    method: 'PATCH',
    headers: { 'content-type': 'application/json', 'if-match': `"${generation}"` },
    body: JSON.stringify({ weights: { stable: 9, canary: 1 } }),
  })
  assert.equal(edited.status, 200)
  // By the new share of a tenth these would show that it is better.
  await tell(product, made, events('click', { stable: 0.5, canary: 0.5 }))
  const { control, treatment, estimate, verdict } = await metricOf(served, 'click')
  assert.deepEqual([control, treatment, verdict], [50, 50, 'open'])
  assert.ok(Math.abs(estimate) < 1e-9)
})

test('what is told of the predictions of an experiment that is over counts for nothing in the next', async (t) => {
  const folder = await folderWith(store)
  const settings = { runtime, store: { path: folder }, state: { path: await folderWith() } }
  const served = await startGateway(t, {
    store: folder,
    settings: { ...settings, models: { m: { split, experiment: ab } } },
  })
  const product = productOf(t, served)
  const prediction = await product.predictBy('canary')
  const other = { ...ab, failures: { tolerate: 2 } }
  const file = await configWith({ ...settings, models: { m: { split, experiment: other } } })
  assert.deepEqual(await served.gateway.reload(file), [])
  assert.equal(await product.outcome({ prediction, metric: 'click' }), 'past')
  assert.equal((await metricOf(served, 'click')).treatment, 0)
  const fresh = await product.predictBy('canary')
  assert.equal(await product.outcome({ prediction: fresh, metric: 'click' }), 'counted')
})
