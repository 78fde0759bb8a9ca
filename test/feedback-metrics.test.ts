/** The counts and moments of what was told of predictions. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Metrics, type MetricSummary } from '../src/experiments/feedback/metrics.ts'
import { feedbackOptions } from '../src/experiments/feedback/options.ts'
import { seeded } from './support/draw.ts'
import { epochsOf, momentsOf } from './support/metrics.ts'

const declared = {
  click: { kind: 'event', direction: 'more' },
  revenue: { kind: 'value', direction: 'more', cap: 100 },
  score: { kind: 'value', direction: 'fewer' },
}
const options = feedbackOptions.parse({ metrics: declared })
const setup = { options, control: 'stable', treatment: 'canary', since: 10 }
const canary = { arm: 'canary', share: 0.05 }
const stable = { arm: 'stable', share: 0.05 }

function restored(saved: unknown, given = setup): Metrics {
  const metrics = Metrics.restore(given, JSON.parse(JSON.stringify(saved)))
  assert.ok(metrics instanceof Metrics)
  return metrics
}

test('events are counted by the share they were drawn with, and by whether they are of the treatment', () => {
  const metrics = new Metrics(setup)
  for (const facts of [canary, stable, stable]) metrics.add('click', facts)
  metrics.add('click', { arm: 'canary', share: 0.5 }, 1)
  metrics.add('click', { arm: 'stable', share: 0.01 }, 1)
  assert.deepEqual(epochsOf(metrics), [
    { treatment: 0, all: 1, share: 0.01 },
    { treatment: 1, all: 3, share: 0.05 },
    { treatment: 1, all: 1, share: 0.5 },
  ])
})

test('what did not happen, was not drawn, or is of a third arm is not counted', () => {
  const metrics = new Metrics(setup)
  metrics.add('click', canary, 0)
  metrics.add('click', canary, 0.5)
  for (const facts of [
    { arm: 'canary', share: 1 },
    { arm: 'stable', share: 0 },
    { arm: 'other', share: 0.05 },
  ]) {
    metrics.add('click', facts)
    metrics.add('score', facts, 1)
    metrics.predicted(facts)
  }
  metrics.add('score', canary)
  metrics.add('no such', canary, 1)
  assert.deepEqual(metrics.summary(), new Metrics(setup).summary())
})

test('predictions are counted by arm', () => {
  const metrics = new Metrics(setup)
  for (const facts of [canary, stable, stable]) metrics.predicted(facts)
  assert.deepEqual(metrics.summary().predicted, { control: 2, treatment: 1 })
})

test('beyond 64 shares the two nearest are merged, with the mean of both weighted by their events', () => {
  const metrics = new Metrics(setup)
  const shares = Array.from({ length: 64 }, (_, i) => (i + 1) / 100)
  for (const share of shares) metrics.add('click', { arm: 'stable', share })
  for (let i = 0; i < 2; i++) metrics.add('click', { arm: 'canary', share: 0.3 })
  assert.equal(epochsOf(metrics).length, 64)
  metrics.add('click', { arm: 'canary', share: 0.304 })
  const epochs = epochsOf(metrics)
  assert.equal(epochs.length, 64)
  const merged = epochs.find(({ all }) => all === 4)!
  assert.equal(merged.treatment, 3)
  assert.ok(Math.abs(merged.share - (3 * 0.3 + 0.304) / 4) < 1e-12)
  assert.deepEqual(
    epochs.filter((each) => each !== merged).map(({ share }) => share),
    shares.filter((share) => share !== 0.3),
  )
})

test('however many shares there are, 64 are kept, in order, and with them all events and their mean share', () => {
  const next = seeded(5)
  const metrics = new Metrics(setup)
  let [treatment, sum] = [0, 0]
  for (let i = 0; i < 3_000; i++) {
    const share = 0.001 + 0.998 * next()
    const isTreatment = next() < share
    metrics.add('click', { arm: isTreatment ? 'canary' : 'stable', share })
    treatment += isTreatment ? 1 : 0
    sum += share
    assert.ok(epochsOf(metrics).length <= 64)
  }
  const epochs = epochsOf(metrics)
  const total = (of: (epoch: (typeof epochs)[number]) => number) => epochs.reduce((all, each) => all + of(each), 0)
  assert.equal(
    total(({ all }) => all),
    3_000,
  )
  assert.equal(
    total((each) => each.treatment),
    treatment,
  )
  assert.ok(Math.abs(total(({ all, share }) => all * share) - sum) < 1e-6)
  assert.ok(epochs.every(({ share }, i) => i === 0 || share > epochs[i - 1]!.share))
})

test('moments of values are those of a sum in two passes, for each arm', () => {
  const next = seeded(6)
  const metrics = new Metrics(setup)
  const values = { canary: [] as number[], stable: [] as number[] }
  for (let i = 0; i < 1_000; i++) {
    const arm = next() < 0.3 ? 'canary' : 'stable'
    const value = 1e6 + next()
    values[arm].push(value)
    metrics.add('score', { arm, share: 0.3 }, value)
  }
  const summary = momentsOf(metrics, 'score')
  for (const [arm, moments] of [['canary', summary.treatment] as const, ['stable', summary.control] as const]) {
    const mean = values[arm].reduce((sum, value) => sum + value, 0) / values[arm].length
    const m2 = values[arm].reduce((sum, value) => sum + (value - mean) ** 2, 0)
    assert.equal(moments.count, values[arm].length)
    assert.ok(Math.abs(moments.mean - mean) < 1e-8)
    assert.ok(Math.abs(moments.m2 / m2 - 1) < 1e-6, `${moments.m2} ${m2}`)
  }
})

test('a value beyond the cap counts as the cap, to either side', () => {
  const metrics = new Metrics(setup)
  for (const value of [5_000, -5_000, 100, 7]) metrics.add('revenue', canary, value)
  const { count, mean, m2 } = momentsOf(metrics, 'revenue').treatment
  assert.deepEqual([count, mean], [4, 107 / 4])
  assert.ok(Math.abs(m2 - (3 * 100 ** 2 + 7 ** 2 - 4 * (107 / 4) ** 2)) < 1e-6)
})

test('a value that is no finite number, or too great for a sum of squares, is a mistake', () => {
  const metrics = new Metrics(setup)
  for (const value of [Number.NaN, Infinity, -Infinity, 1.1e15, undefined])
    assert.equal(typeof metrics.mistake('score', value), 'string', `${value}`)
  for (const value of [0, -0.5, 1e15]) assert.equal(metrics.mistake('score', value), undefined)
  for (const value of [0, 1, undefined]) assert.equal(metrics.mistake('click', value), undefined)
  for (const value of [2, 0.5, -1, Number.NaN]) assert.equal(typeof metrics.mistake('click', value), 'string')
})

test('a summary does not change when more is counted', () => {
  const metrics = new Metrics(setup)
  const add = () => {
    metrics.add('click', canary)
    metrics.add('score', canary, 1)
    metrics.predicted(canary)
  }
  add()
  const before = metrics.summary()
  const copy = structuredClone(before)
  add()
  assert.deepEqual(before, copy)
  assert.equal((metrics.summary().metrics.get('click') as MetricSummary & { kind: 'event' }).direction, 'more')
  assert.equal(momentsOf(metrics, 'score').direction, 'fewer')
})

test('what was saved goes on where it was', () => {
  const metrics = new Metrics(setup)
  const add = (to: Metrics) => {
    to.predicted(stable)
    to.add('click', canary)
    to.add('click', stable)
    for (const value of [1, 2, 4]) to.add('score', stable, value)
    to.add('revenue', canary, 3)
  }
  add(metrics)
  const saved = metrics.saved()
  const copy = structuredClone(saved)
  const again = restored(saved)
  assert.deepEqual(again.summary(), metrics.summary())
  for (const each of [metrics, again, again, new Metrics(setup, saved)]) add(each)
  add(metrics)
  assert.deepEqual(again.saved(), metrics.saved())
  assert.deepEqual(saved, copy)
})

test('of what was saved, metrics that are not declared any more or are of another kind are left out', () => {
  const metrics = new Metrics(setup)
  metrics.add('click', canary)
  metrics.add('score', canary, 5)
  const other = feedbackOptions.parse({
    metrics: { click: { kind: 'value', direction: 'more' }, fresh: { kind: 'event', direction: 'fewer' } },
  })
  const again = restored(metrics.saved(), { ...setup, options: other })
  assert.deepEqual(again.saved().values, {
    click: { control: { count: 0, mean: 0, m2: 0 }, treatment: { count: 0, mean: 0, m2: 0 } },
  })
  assert.deepEqual(again.saved().events, { fresh: [] })
})

test('what was saved of another experiment, or is damaged, is a problem', () => {
  const metrics = new Metrics(setup)
  metrics.add('click', canary)
  const saved = metrics.saved()
  assert.match(JSON.stringify(Metrics.restore({ ...setup, since: 11 }, saved)), /another experiment/)
  const damaged = [
    undefined,
    {},
    { ...saved, more: 1 },
    { ...saved, events: { click: [{ treatment: 2, all: 1, share: 0.5 }] } },
    { ...saved, events: { click: [{ treatment: 0, all: 1, share: 1 }] } },
    { ...saved, events: { click: Array.from({ length: 65 }, () => ({ treatment: 0, all: 1, share: 0.5 })) } },
    { ...saved, predicted: { control: -1, treatment: 0 } },
    { ...saved, values: { score: { control: { count: 1, mean: null, m2: 0 } } } },
  ]
  for (const each of damaged) assert.match(JSON.stringify(Metrics.restore(setup, each)), /damaged/)
})

test('options have their defaults, and say what is wrong', () => {
  const empty = feedbackOptions.parse({})
  assert.deepEqual(empty, { metrics: {}, joinWindowS: 604_800, maxSkewS: 60 })
  const event = { kind: 'event', direction: 'more' }
  const many = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, i) => [`m${i}`, event]))
  assert.ok(feedbackOptions.safeParse({ metrics: many(16) }).success)
  assert.match(feedbackOptions.safeParse({ metrics: many(17) }).error!.message, /16 metrics at most/)
  for (const metrics of [
    { click: { kind: 'event', direction: 'more', cap: 1 } },
    { click: { kind: 'value', direction: 'up' } },
    { 'a b': event },
    { click: { kind: 'value', direction: 'more', cap: 0 } },
  ])
    assert.equal(feedbackOptions.safeParse({ metrics }).success, false, JSON.stringify(metrics))
})
