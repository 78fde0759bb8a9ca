/** Taking feedback: what is sent again counts once, in memory that is bounded; what else is refused, and in which words. */
import assert from 'node:assert/strict'
import { hash } from 'node:crypto'
import { test } from 'node:test'
import { isRefusal } from '../src/core/refusal.ts'
import { Feedback, type FeedbackTools } from '../src/experiments/feedback/feedback.ts'
import { Ledger } from '../src/experiments/feedback/ledger.ts'
import { Metrics } from '../src/experiments/feedback/metrics.ts'
import { feedbackOptions } from '../src/experiments/feedback/options.ts'
import { noUnit, PredictionTokens, type PredictionFacts } from '../src/experiments/feedback/token.ts'
import { drawFrom } from './support/draw.ts'
import { callerOf, StillClock } from './support/limits.ts'
import { epochsOf, momentsOf } from './support/metrics.ts'

function ledgerOf(most: number, windowMs = 1_000) {
  const clock = new StillClock()
  return { clock, ledger: new Ledger({ clock, windowMs, most }) }
}

test('a key is taken once', () => {
  const { ledger } = ledgerOf(1_000)
  assert.deepEqual(
    ['a', 'b', 'a', '', '', 'b', 'c'].map((key) => ledger.take(key)),
    [true, true, false, true, false, false, true],
  )
})

test('a key is remembered for the window at least, wherever in a generation it came, and not for two', () => {
  for (let at = 0; at < 1_000; at += 50) {
    const { clock, ledger } = ledgerOf(1_000)
    ledger.take('first')
    clock.pass(at)
    assert.ok(ledger.take('key'))
    for (const ms of [400, 300, 250]) {
      clock.pass(ms)
      ledger.take(`${ms} later`)
    }
    clock.pass(49)
    assert.equal(ledger.take('key'), false, `${at}`)
    // Looking at it does not make it younger.
    clock.pass(1_001)
    assert.equal(ledger.take('key'), true, `${at}`)
    assert.equal(ledger.forgotten, 0)
  }
})

test('keys whose hashes begin with the same 32 bits are two', () => {
  const pair = ['69235', '95303'] as const
  const [first, second] = pair.map((key) => hash('sha256', key).slice(0, 8))
  assert.equal(first, second)
  const { ledger } = ledgerOf(1_000)
  assert.ok(ledger.take(pair[0]))
  assert.ok(ledger.take(pair[1]))
})

test('after a long silence nothing is remembered', () => {
  const { clock, ledger } = ledgerOf(1_000)
  ledger.take('a')
  clock.pass(2_000)
  assert.ok(ledger.take('a'))
  assert.equal(ledger.take('a'), false)
})

test('in random use it says what a set says, as long as there is room', () => {
  const draw = drawFrom(3)
  const { clock, ledger } = ledgerOf(40_000)
  const seen = new Set<string>()
  for (let i = 0; i < 20_000; i++) {
    if (i === 10_000) clock.pass(999)
    const key = `${draw(15_000)}`
    assert.equal(ledger.take(key), !seen.has(key))
    seen.add(key)
  }
  assert.equal(ledger.forgotten, 0)
})

test('when it is full the oldest are forgotten, and the last half is not', () => {
  const { ledger } = ledgerOf(2_000)
  for (let i = 0; i < 5_000; i++) ledger.take(`${i}`)
  const lostBefore = ledger.forgotten
  assert.ok(lostBefore >= 3_000 && lostBefore < 3_100, `${lostBefore}`)
  const known = Array.from({ length: 1_000 }, (_, i) => ledger.take(`${4_999 - i}`)).filter((isNew) => !isNew)
  assert.ok(known.length > 990, `${known.length}`)
  assert.equal(ledger.take('0'), true)
})

test('it forgets early only as much as does not fit', () => {
  const { ledger } = ledgerOf(100_000)
  for (let i = 0; i < 100_000; i++) ledger.take(`${i}`)
  assert.ok(ledger.forgotten < 500, `${ledger.forgotten}`)
  const known = Array.from({ length: 100_000 }, (_, i) => ledger.take(`${i}`)).filter((isNew) => !isNew)
  assert.ok(known.length > 99_500, `${known.length}`)
})

test('memory is 16 to 32 bytes for each of the most keys, however many come', () => {
  for (const most of [10_000, 16_384, 20_000]) {
    const { ledger } = ledgerOf(most)
    for (let i = 0; i < 3 * most; i++) ledger.take(`${i}`)
    assert.ok(ledger.bytes >= 16 * most && ledger.bytes <= 32 * most, `${ledger.bytes} for ${most}`)
  }
})

test('keys that are chosen to meet in one place push each other out, and are counted', () => {
  // A ledger of so few keys has two sets of 16 places for each generation.
  const { ledger } = ledgerOf(32)
  const keys = Array.from({ length: 2_000 }, (_, i) => `${i}`)
  const meeting = keys.filter((key) => (hash('sha256', key, 'buffer')[0]! & 1) === 0).slice(0, 16)
  for (const key of meeting) assert.ok(ledger.take(key))
  for (const key of meeting) assert.equal(ledger.take(key), false)
  assert.equal(ledger.forgotten, 0)
  const large = ledgerOf(64)
  const crowd = keys.filter((key) => (hash('sha256', key, 'buffer')[0]! & 3) === 0).slice(0, 20)
  for (const key of crowd) assert.ok(large.ledger.take(key))
  assert.equal(large.ledger.forgotten, 4)
  for (const key of crowd.slice(4)) assert.equal(large.ledger.take(key), false)
  assert.equal(large.ledger.take(crowd[0]!), true)
})

test('even a ledger for one key works', () => {
  const { ledger } = ledgerOf(1)
  assert.ok(ledger.take('a'))
  assert.equal(ledger.take('a'), false)
  assert.ok(ledger.take('b'))
  assert.equal(ledger.take('b'), false)
})

const declared = {
  click: { kind: 'event', direction: 'more' },
  revenue: { kind: 'value', direction: 'more', cap: 100 },
  score: { kind: 'value', direction: 'fewer' },
}
const options = feedbackOptions.parse({ metrics: declared })
const setup = { options, control: 'stable', treatment: 'canary', since: 10 }
const facts = {
  model: 'fraud',
  version: '8',
  arm: 'canary',
  share: 0.05,
  generation: 12,
  tenant: 'red',
  unit: noUnit,
}

const tokens = new PredictionTokens([Buffer.alloc(32, 1)])
const alice = callerOf('alice', 'red')
const week = 604_800_000

function feedbackWith(tools: Partial<FeedbackTools> = {}) {
  const clock = new StillClock()
  clock.pass(2 * week)
  const metrics = new Metrics(setup)
  const ledger = new Ledger({ clock, windowMs: week + 60_000, most: 1_000 })
  const metricsOf = (model: string) => (model === 'fraud' ? metrics : undefined)
  const feedback = new Feedback({ tokens, ledger, clock, metricsOf, mayTell: () => true, ...tools })
  let made = 0
  const predict = (given: Partial<PredictionFacts> = {}) =>
    tokens.sign({ ...facts, epochMs: clock.epoch(), nonce: (made++).toString(16).padStart(16, '0'), ...given })!
  const tell = (entry: unknown, caller = alice) => {
    const taken = feedback.take(entry, caller)
    if (!isRefusal(taken)) return taken.status
    assert.equal(taken.code, 'invalid')
    return taken.message
  }
  return { clock, metrics, feedback, predict, tell }
}

const unknown = 'this is not the id of a prediction of this gateway'

test('feedback is counted for the arm and the share of its prediction', () => {
  const { metrics, feedback, predict, tell } = feedbackWith()
  assert.equal(tell({ prediction: predict(), metric: 'click' }), 'counted')
  assert.equal(tell({ prediction: predict({ arm: 'stable' }), metric: 'revenue', value: 12, id: 'x' }), 'counted')
  assert.deepEqual(epochsOf(metrics), [{ treatment: 1, all: 1, share: 0.05 }])
  assert.deepEqual(momentsOf(metrics, 'revenue').control, { count: 1, mean: 12, m2: 0 })
  assert.deepEqual([...feedback.counts], [['counted', 2]])
})

test('what is sent again counts once; values with other ids are others, an event is one for each prediction', () => {
  const { metrics, predict, tell } = feedbackWith()
  const prediction = predict()
  const statuses = [
    { metric: 'revenue', value: 1 },
    { metric: 'revenue', value: 1 },
    { metric: 'revenue', value: 1, id: 'second' },
    { metric: 'revenue', value: 2, id: 'second' },
    { metric: 'score', value: 1, id: 'second' },
    { metric: 'click' },
    { metric: 'click', id: 'second' },
  ].map((each) => tell({ prediction, ...each }))
  const [once, again] = ['counted', 'duplicate']
  assert.deepEqual(statuses, [once, again, once, again, once, once, again])
  assert.equal(tell({ prediction: predict(), metric: 'click' }), 'counted')
  assert.deepEqual(epochsOf(metrics)[0], { treatment: 2, all: 2, share: 0.05 })
  assert.equal(momentsOf(metrics, 'revenue').treatment.count, 2)
})

test('where more than a request is assigned, an event is one for each unit of the experiment', () => {
  const { metrics, predict, tell } = feedbackWith()
  const units = ['0123456789abcdef', '0123456789abcdef', 'fedcba9876543210']
  const told = units.map((unit) => tell({ prediction: predict({ unit }), metric: 'click' }))
  assert.deepEqual([told, epochsOf(metrics)[0]!.all], [['counted', 'duplicate', 'counted'], 2])
})

test('what is not counted is not remembered either', () => {
  const { predict, tell } = feedbackWith()
  const prediction = predict()
  assert.equal(tell({ prediction, metric: 'click', value: 0 }), 'ignored')
  assert.match(tell({ prediction, metric: 'click', value: 2 }), /1 or 0/)
  assert.equal(tell({ prediction, metric: 'click', value: 1 }), 'counted')
  assert.equal(tell({ prediction: predict({ share: 1 }), metric: 'click' }), 'ignored')
})

test('a forged token, garbage, and a prediction of somebody else are refused in the same words', () => {
  const { feedback, predict, tell } = feedbackWith({ mayTell: ({ name }) => name === 'alice' })
  const forged = predict().replace(/.$/, (last) => (last === 'A' ? 'Q' : 'A'))
  const told = [
    tell({ prediction: forged, metric: 'click' }),
    tell({ prediction: 'garbage', metric: 'click' }),
    tell({ prediction: '', metric: 'no such' }),
    tell({ prediction: 'x'.repeat(10_000), metric: 'click' }),
    tell({ prediction: predict({ tenant: 'blue' }), metric: 'click' }),
    tell({ prediction: predict({ tenant: '' }), metric: 'no such' }),
    tell({ prediction: predict({ tenant: 'blue', model: 'other', epochMs: 0 }), metric: 'click' }),
    tell({ prediction: predict(), metric: 'click' }, callerOf('bob', 'red')),
  ]
  assert.deepEqual(new Set(told), new Set([unknown]))
  assert.deepEqual(Object.fromEntries(feedback.counts), { unknown: 4, forbidden: 4 })
})

test('whether a caller may tell is asked with what it is, and never for another tenant', () => {
  const asked: string[] = []
  const mayTell = (caller: { name: string }, { tenant, nonce }: PredictionFacts) =>
    asked.push(`${caller.name} ${tenant} ${nonce}`) > 0
  const { predict, tell } = feedbackWith({ mayTell })
  tell({ prediction: predict({ tenant: 'blue' }), metric: 'click' })
  tell({ prediction: predict(), metric: 'click' })
  assert.deepEqual(asked, ['alice red 0000000000000001'])
})

test('feedback is taken until the time to join is over', () => {
  const { clock, feedback, predict, tell } = feedbackWith()
  const prediction = predict()
  clock.pass(week)
  assert.equal(tell({ prediction, metric: 'click' }), 'counted')
  clock.pass(1)
  assert.equal(tell({ prediction, metric: 'click' }), 'feedback is taken for 604800 s after a prediction')
  assert.equal(feedback.counts.get('late'), 1)
})

test('a prediction may be ahead by what clocks may differ, and by no more', () => {
  const { clock, feedback, predict, tell } = feedbackWith()
  assert.equal(tell({ prediction: predict({ epochMs: clock.epoch() + 60_000 }), metric: 'click' }), 'counted')
  assert.match(tell({ prediction: predict({ epochMs: clock.epoch() + 60_001 }), metric: 'click' }), /more than 60 s/)
  assert.equal(feedback.counts.get('early'), 1)
})

test('feedback for an experiment that is over is told so, and counts for nothing, whatever its metric was', () => {
  const { metrics, feedback, predict, tell } = feedbackWith()
  assert.equal(tell({ prediction: predict({ generation: 9 }), metric: 'gone' }), 'past')
  assert.equal(tell({ prediction: predict({ generation: 10 }), metric: 'click' }), 'counted')
  assert.equal(feedback.counts.get('past'), 1)
  assert.equal(epochsOf(metrics)[0]!.all, 1)
})

test('an unknown metric is refused with those that there are, and a model without any says so', () => {
  const { predict, tell } = feedbackWith()
  for (const metric of ['no such', 'constructor', '__proto__', ''])
    assert.equal(tell({ prediction: predict(), metric }), 'no such metric: expected one of click, revenue, score')
  const words = 'no metrics are declared for the model of this prediction'
  assert.equal(tell({ prediction: predict({ model: 'other' }), metric: 'click' }), words)
  const none = feedbackWith({ metricsOf: () => new Metrics({ ...setup, options: feedbackOptions.parse({}) }) })
  assert.equal(none.tell({ prediction: none.predict(), metric: 'click' }), words)
})

test('an entry of another form is refused, without showing what was sent', () => {
  const { feedback, predict, tell } = feedbackWith()
  const prediction = predict()
  const cases: [entry: unknown, words: RegExp][] = [
    [undefined, /^expected an object/],
    ['text', /^expected an object/],
    [[], /^expected an object/],
    [{}, /as `prediction`/],
    [{ prediction: 5, metric: 'click' }, /as `prediction`/],
    [{ prediction }, /as `metric`/],
    [{ prediction, metric: 'score', value: 'secret' }, /a finite number/],
    [{ prediction, metric: 'score', value: null }, /a finite number/],
    [{ prediction, metric: 'score', value: Infinity }, /a finite number/],
    [{ prediction, metric: 'score', value: Number.NaN }, /a finite number/],
    [{ prediction, metric: 'score', value: 1e16 }, /between/],
    [{ prediction, metric: 'score' }, /needs a value/],
    [{ prediction, metric: 'click', id: '' }, /not empty/],
    [{ prediction, metric: 'click', id: 'secret'.repeat(30) }, /128 characters/],
    [{ prediction, metric: 'click', id: 7 }, /a text as `id`/],
    [{ prediction, metric: 'click', secret: 1 }, /^unknown key/],
  ]
  for (const [entry, words] of cases) {
    const told = tell(entry)
    assert.match(told, words)
    assert.doesNotMatch(told, /secret/)
  }
  assert.deepEqual([...feedback.counts], [['invalid', cases.length]])
})

test('a batch is taken entry by entry, with its counts and its mistakes by place', () => {
  const { feedback, predict } = feedbackWith()
  const prediction = predict()
  const entries = [
    { prediction, metric: 'click' },
    { prediction: 'garbage', metric: 'click' },
    { prediction, metric: 'click' },
    7,
    { prediction, metric: 'score', value: 1 },
    { prediction: predict({ generation: 1 }), metric: 'click' },
    { prediction: predict(), metric: 'click', value: 0 },
  ]
  assert.deepEqual(feedback.takeAll(entries, alice), {
    counts: { counted: 2, duplicate: 1, past: 1, ignored: 1 },
    mistakes: [
      { index: 1, message: unknown },
      { index: 3, message: 'expected an object with `prediction` and `metric`' },
    ],
  })
})

test('a batch of more than 1000 entries is refused as a whole, and none is none', () => {
  const { metrics, feedback, predict } = feedbackWith()
  const entries = Array.from({ length: 1_001 }, () => ({ prediction: predict(), metric: 'click' }))
  const refusal = feedback.takeAll(entries, alice)
  assert.ok(isRefusal(refusal))
  assert.match(refusal.message, /1000 entries at most/)
  assert.deepEqual(epochsOf(metrics), [])
  const taken = feedback.takeAll(entries.slice(1), alice)
  assert.ok(!isRefusal(taken))
  assert.equal(taken.counts.counted, 1_000)
  assert.deepEqual(feedback.takeAll([], alice), {
    counts: { counted: 0, duplicate: 0, past: 0, ignored: 0 },
    mistakes: [],
  })
})
