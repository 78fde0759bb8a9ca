/** The phases of a rollout and what leads from one to the next; which of two states holds; what is remembered, and its split. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { experimentOptions } from '../src/experiments/options.ts'
import {
  act,
  actions,
  advance,
  begin,
  belowOf,
  hold,
  missing,
  phases,
  type Alarm,
  type Facts,
  type Phase,
  type RolloutState,
} from '../src/experiments/rollout.ts'
import type { Intent } from '../src/live/intent.ts'
import { isAhead, nothingKept, readKept, withNote, withTrial } from '../src/live/kept-model.ts'
import { liveSplit, PastShares, wantedShare } from '../src/live/live-split.ts'
import { splitOptions } from '../src/routing/split-options.ts'

const steps = [
  { share: 0.1, holdS: 10, minRequests: 5, below: 'off' },
  { share: 0.5, holdS: 20, minRequests: 0, below: 'off' },
]
const canary = experimentOptions.parse({ kind: 'canary', steps })
const guarded = experimentOptions.parse({ kind: 'canary' })
const shadowed = experimentOptions.parse({ kind: 'canary', steps, afterShadow: true })
const ab = experimentOptions.parse({ kind: 'ab' })

const share = 0.05
const now = { nowMs: 100_000, share }
const stateIn = (phase: Phase, more: Partial<RolloutState> = {}): RolloutState => {
  return { phase, step: 0, share: 0.1, sinceMs: 0, why: 'it was so', round: 0, ...more }
}
const calm: Facts = { alarms: [], isMismatched: false, units: 5, isProved: () => true, isShadowGood: false }
const alarm = (action: Alarm['action']): Alarm => ({ guard: 'failures', action, words: `${action}, please` })
const sounding = (...wished: Alarm['action'][]): Facts => ({ ...calm, alarms: wished.map(alarm) })

test('a test is steady, a canary takes its first step or keeps its weight, and one behind a shadow waits for that', () => {
  const shown = (options: typeof canary) => {
    const { phase, step, share: part, sinceMs, round } = begin(options, now)
    return [phase, step, part, sinceMs, round]
  }
  assert.deepEqual(shown(ab), ['steady', 0, share, 100_000, 0])
  assert.deepEqual(shown(guarded), ['steady', 0, share, 100_000, 0])
  assert.deepEqual(shown(canary), ['ramping', 0, 0.1, 100_000, 0])
  assert.deepEqual(shown(shadowed), ['shadow', 0, 0, 100_000, 0])
  const whole = experimentOptions.parse({ kind: 'canary', steps: [{ share: 1 }] })
  assert.equal(begin(whole, now).phase, 'promoted', 'a first step of everything is the end')
})

test('a step ends when its time is over, its units have come and its proof is there, and each is told until then', () => {
  const state = stateIn('ramping', { sinceMs: 90_001 })
  const proofless = canary.steps.map((step) => ({ ...step, below: 2 }))
  const left = (units: number, isProved: boolean, nowMs: number) =>
    missing(state, proofless, { units, isProved: () => isProved }, nowMs)
  const proof = 'proof that it does not fail 2 times as often as the control'
  assert.deepEqual(left(0, false, 90_001), ['10 s more', '5 units more', proof])
  assert.deepEqual(left(4, true, 100_000), ['1 s more', '1 units more'])
  assert.deepEqual(left(5, true, 100_001), [])
  assert.equal(advance(state, canary, calm, now), undefined, 'a millisecond too soon')
  assert.equal(advance(state, canary, { ...calm, units: 4 }, { ...now, nowMs: 1e9 }), undefined)
  assert.equal(advance(state, canary, { ...calm, isProved: () => false }, { ...now, nowMs: 1e9 }), undefined)
  const next = advance(state, canary, calm, { ...now, nowMs: 100_001 })!
  assert.deepEqual(next, { phase: 'ramping', step: 1, share: 0.5, sinceMs: 100_001, why: 'step 2 of 2', round: 0 })
  const last = advance({ ...next, round: 3 }, canary, calm, { ...now, nowMs: 120_001 })!
  assert.deepEqual(last, { phase: 'promoted', step: 1, share: 1, sinceMs: 120_001, why: 'it went well', round: 3 })
})

test('a shadow that agrees lets the first step begin, or the weight of the configuration where there are no steps', () => {
  const waiting = stateIn('shadow', { share: 0 })
  assert.equal(advance(waiting, shadowed, calm, now), undefined)
  const good = { ...calm, isShadowGood: true }
  assert.equal(advance(waiting, shadowed, good, now)!.share, 0.1)
  const unstepped = experimentOptions.parse({ kind: 'canary', afterShadow: true })
  const steady = advance(waiting, unstepped, good, now)!
  assert.deepEqual([steady.phase, steady.share], ['steady', share])
})

test('an alarm rolls back from everywhere but the two ends, and wins over all else that sounds', () => {
  for (const phase of phases) {
    for (const options of [canary, ab]) {
      const facts = { ...sounding('alert', 'pause', 'rollback'), isMismatched: true, isShadowGood: true }
      const next = advance(stateIn(phase), options, facts, now)
      const isEnd = phase === 'promoted' || phase === 'rolled-back'
      if (isEnd) assert.equal(next, undefined, phase)
      else assert.deepEqual([next!.phase, next!.share, next!.why], ['rolled-back', 0, 'rollback, please'], phase)
    }
  }
})

test('arms that do not get what they should freeze it, an alarm may pause it, and an alert changes nothing', () => {
  for (const phase of ['shadow', 'ramping', 'steady'] as const) {
    const state = stateIn(phase)
    const frozen = advance(state, canary, { ...sounding('pause'), isMismatched: true }, now)!
    assert.deepEqual([frozen.phase, frozen.share, frozen.step], ['frozen', 0.1, 0], phase)
    const paused = advance(state, canary, sounding('pause'), now)!
    assert.deepEqual([paused.phase, paused.share, paused.why], ['paused', 0.1, 'pause, please'], phase)
  }
  assert.equal(advance(stateIn('steady'), canary, sounding('alert'), now), undefined)
  assert.equal(advance(stateIn('ramping'), canary, { ...sounding('alert'), units: 0 }, now), undefined)
  for (const phase of ['paused', 'frozen'] as const)
    assert.equal(advance(stateIn(phase), canary, { ...calm, isMismatched: true }, now), undefined, phase)
  assert.equal(advance(stateIn('steady'), ab, calm, now), undefined, 'a test never moves by itself')
})

test('the proof that a step asks for grows with its share, unless it says otherwise', () => {
  const of = (part: number, below?: number | 'off') => belowOf({ share: part, holdS: 0, minRequests: 0, below })
  assert.deepEqual([of(0.01), of(0.05), of(0.25), of(0.26), of(1)], [3, 2, 1.5, 1.25, 1.25])
  assert.deepEqual([of(0.5, 4), of(0.01, 'off')], [4, 'off'])
})

test('what somebody says does this from each phase', () => {
  const outcome = (phase: Phase, action: (typeof actions)[number], options = canary) => {
    const next = act(stateIn(phase), options, action, now)
    return typeof next === 'string' ? '' : `${next.phase} ${next.share} ${next.round}`
  }
  const rolledBack = 'rolled-back 0 0'
  const promoted = 'promoted 1 0'
  const paused = 'paused 0.1 0'
  const table: Record<Phase, readonly string[]> = {
    // In the order of the actions: pause, resume, promote, rollback, release.
    shadow: [paused, '', promoted, rolledBack, ''],
    ramping: [paused, '', promoted, rolledBack, ''],
    steady: [paused, '', promoted, rolledBack, ''],
    paused: ['', 'ramping 0.1 0', promoted, rolledBack, ''],
    frozen: [paused, 'ramping 0.1 1', promoted, rolledBack, ''],
    promoted: ['', '', promoted, rolledBack, ''],
    'rolled-back': ['', '', '', '', 'ramping 0.1 1'],
  }
  for (const phase of phases) {
    assert.deepEqual(
      actions.map((action) => outcome(phase, action)),
      table[phase],
      phase,
    )
  }
  assert.equal(outcome('paused', 'resume', ab), 'steady 0.05 0')
  assert.equal(outcome('rolled-back', 'release', shadowed), 'shadow 0 1')
  const beforeShadow = act(stateIn('paused', { share: 0 }), shadowed, 'resume', now) as RolloutState
  assert.equal(beforeShadow.phase, 'shadow', 'nobody gets past the shadow by a pause')
  const further = act(stateIn('paused', { step: 1 }), canary, 'resume', now) as RolloutState
  assert.deepEqual([further.step, further.share], [1, 0.5])
})

test('what cannot be done is refused with what it is, and what would help', () => {
  const said = (phase: Phase, action: (typeof actions)[number]) => act(stateIn(phase), canary, action, now)
  assert.match(said('rolled-back', 'promote') as string, /^it was rolled back \(it was so\): `release` begins it anew/)
  assert.equal(said('ramping', 'release'), 'it is ramping, and not rolled back')
  assert.equal(said('steady', 'resume'), 'it is steady, and not paused')
  assert.equal(said('promoted', 'pause'), 'it is promoted already')
})

test('a weight set by hand holds a rollout where it is put, and lifts no latch', () => {
  for (const phase of ['shadow', 'ramping', 'paused', 'frozen', 'promoted'] as const) {
    const held = hold(stateIn(phase), 0.3, 100_000) as RolloutState
    assert.deepEqual([held.phase, held.share, held.sinceMs], ['paused', 0.3, 100_000], phase)
  }
  const steady = stateIn('steady')
  assert.equal(hold(steady, 0.3, 100_000), steady)
  const latched = stateIn('rolled-back', { share: 0 })
  assert.match(hold(latched, 0.01, 100_000) as string, /release/)
  assert.equal(hold(latched, 0, 100_000), latched)
})

test('of two states what was rolled back holds, until it is begun anew; else the later one', () => {
  const early = stateIn('ramping', { sinceMs: 1 })
  const later = stateIn('ramping', { sinceMs: 2, step: 1, share: 0.5 })
  const latched = stateIn('rolled-back', { sinceMs: 1, share: 0 })
  const released = stateIn('ramping', { sinceMs: 2, round: 1 })
  const table: readonly (readonly [RolloutState, RolloutState, boolean, string])[] = [
    [later, early, true, 'a later step'],
    [stateIn('ramping', { sinceMs: 9 }), early, false, 'the same'],
    [latched, later, true, 'a latch over a step that was taken later by who did not know of it'],
    [released, latched, true, 'a release'],
    [stateIn('rolled-back', { sinceMs: 0, share: 0, round: 1 }), released, true, 'a latch of the same round'],
    [stateIn('paused', { share: 0.3, sinceMs: 2 }), stateIn('paused', { sinceMs: 1 }), true, 'another share'],
  ]
  for (const [a, b, expected, what] of table) {
    assert.equal(isAhead(a, b), expected, what)
    assert.equal(isAhead(b, a), what !== 'the same' && !expected, `${what}, the other way round`)
  }
})

test('what was kept is read again as it was, and what is damaged costs no more than itself', () => {
  const state = stateIn('rolled-back', { round: 2 })
  const kept = withNote(
    { ...withTrial(nothingKept, 'd1', { since: 3, state }), overlay: { over: 'x', weights: { a: 1 } } },
    { generation: 7, when: 'now', who: 'me', what: 'that' },
  )
  assert.deepEqual(JSON.parse(JSON.stringify(readKept(JSON.parse(JSON.stringify(kept))))), kept)
  for (const odd of [undefined, null, 5, 'text', [], {}, { generation: 'one' }, { generation: -1 }])
    assert.deepEqual(readKept(odd), nothingKept)
  const damaged = readKept({
    generation: 4,
    overlay: { over: 'x', weights: { a: -1 } },
    history: 'none',
    trials: {
      good: { since: 1, state: { ...state, round: undefined }, evidence: { failures: {} }, agreement: 3 },
      bad: 7,
    },
  })
  assert.deepEqual([damaged.generation, damaged.overlay, damaged.history], [4, undefined, []])
  assert.deepEqual(Object.keys(damaged.trials), ['good'])
  const { good } = damaged.trials
  assert.deepEqual(
    [good!.state.phase, good!.state.round, good!.evidence, good!.agreement],
    ['rolled-back', 0, undefined, undefined],
  )
  assert.deepEqual(
    readKept({ generation: 1, trials: { d: { since: 1, state: { ...state, phase: 'odd' } } } }).trials,
    {},
  )
})

test('of old experiments and changes the last are remembered', () => {
  let kept = nothingKept
  const state = stateIn('ramping')
  for (let i = 1; i <= 30; i++) {
    kept = withTrial(kept, `d${i}`, { since: i, state, failedUnits: ['somebody'] })
    kept = withNote(kept, { generation: i, when: '', who: '', what: '' })
  }
  kept = withTrial(kept, 'd25', { since: 25, state, failedUnits: ['another'] })
  assert.deepEqual(Object.keys(kept.trials), ['d23', 'd24', 'd26', 'd27', 'd28', 'd29', 'd30', 'd25'])
  assert.deepEqual([kept.trials['d25']!.failedUnits, kept.trials['d30']!.failedUnits], [['another'], undefined])
  assert.deepEqual([kept.history.length, kept.history[0]!.generation, kept.generation], [20, 11, 30])
})

const split = splitOptions.parse({
  arms: { a: { version: '1', weight: 60 }, b: { version: '2', weight: 20 }, c: { version: '3', weight: 20 } },
})
const trial = { options: canary, control: 'a', treatment: 'b' }
const intent: Intent = { version: '1', aliases: {}, split, trial, digest: 'd', trialDigest: 't' }
const partsOf = (state: RolloutState | undefined, weights?: Record<string, number>) => {
  const { shares } = liveSplit(intent, { name: 'm', generation: 1, weights, state })!
  return ['a', 'b', 'c'].map((arm) => Number(shares.get(arm)!.toFixed(6)))
}

test('an experiment divides what its two arms have, and leaves the others theirs', () => {
  assert.deepEqual(partsOf(undefined), [0.6, 0.2, 0.2])
  assert.deepEqual(partsOf(stateIn('ramping', { share: 0.5 })), [0.4, 0.4, 0.2])
  assert.deepEqual(partsOf(stateIn('steady', { share: 0.9 })), [0.6, 0.2, 0.2], 'steady is as the weights have it')
  assert.deepEqual(partsOf(stateIn('rolled-back', { share: 0 })), [0.8, 0, 0.2])
  assert.deepEqual(partsOf(stateIn('promoted', { share: 1 })), [0, 0.8, 0.2])
  assert.deepEqual(partsOf(stateIn('ramping', { share: 0.25 }), { a: 30, b: 10, c: 60 }), [0.3, 0.1, 0.6])
  assert.deepEqual(partsOf(stateIn('steady'), { a: 30, b: 10, c: 60 }), [0.3, 0.1, 0.6])
  assert.equal(wantedShare(intent, undefined), 0.25)
  assert.equal(wantedShare(intent, { a: 0, b: 0 }), 0)
  assert.equal(wantedShare({ ...intent, trial: undefined }, undefined), 0)
  assert.equal(
    liveSplit({ ...intent, split: undefined }, { name: 'm', generation: 1, weights: undefined, state: undefined }),
    undefined,
  )
})

test('a draw is evidence by the shares under which it was made, and none if it was no draw between the two', () => {
  const past = new PastShares()
  const drawn = { arm: 'b', decision: 'weight', share: 0.2, generation: 1 }
  past.remember(
    1,
    new Map([
      ['a', 0.6],
      ['b', 0.2],
      ['c', 0.2],
    ]),
    trial,
  )
  past.remember(
    2,
    new Map([
      ['a', 0.4],
      ['b', 0.4],
      ['c', 0.2],
    ]),
    trial,
  )
  assert.deepEqual(past.of(drawn, trial), { isTreatment: true, share: 0.25 })
  assert.deepEqual(past.of({ ...drawn, arm: 'a', share: 0.4, generation: 2 }, trial), {
    isTreatment: false,
    share: 0.5,
  })
  for (const odd of [
    { arm: 'c' },
    { decision: 'rule' },
    { decision: 'forced' },
    { decision: 'kept' },
    { share: 0.3 },
    { generation: 2 },
    { generation: 3 },
  ])
    assert.equal(past.of({ ...drawn, ...odd }, trial), undefined, JSON.stringify(odd))
  assert.equal(past.of(drawn, undefined), undefined)
  for (let generation = 3; generation < 80; generation++)
    past.remember(
      generation,
      new Map([
        ['a', 0.5],
        ['b', 0.5],
      ]),
      trial,
    )
  assert.equal(past.of(drawn, trial), undefined, 'so long ago that nothing is under way')
})
