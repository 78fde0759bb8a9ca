import assert from 'node:assert/strict'
import { test } from 'node:test'
import { logBayesFactor, SampleRatio } from '../src/experiments/sample-ratio.ts'
import { drawFrom, seeded } from './support/draw.ts'

function near(actual: number, expected: number, within = 1e-6): void {
  assert.ok(Math.abs(actual - expected) <= within, `${actual}, not ${expected}`)
}

function counted(counts: readonly [control: number, treatment: number], share: number, concentration = 1000) {
  const ratio = new SampleRatio({ alpha: 0.001, concentration })
  for (let i = 0; i < counts[0]; i++) ratio.count(false, share)
  for (let i = 0; i < counts[1]; i++) ratio.count(true, share)
  return ratio
}

test('the Bayes factor is what the reference says, at once and one unit at a time', () => {
  for (const [counts, share, concentration, expected] of [
    [[9600, 400], 0.05, 1000, 9.070277],
    [[950, 50], 0.05, 1000, -0.347409],
    [[5300, 4700], 0.5, 100, 15.524012],
  ] as const) {
    near(logBayesFactor(counts, [1 - share, share], concentration), expected)
    near(counted(counts, share, concentration).logE, expected)
  }
})

test('the Bayes factor of several arms does not depend on their order', () => {
  const one = logBayesFactor([520, 260, 220], [0.5, 0.25, 0.25])
  near(one, logBayesFactor([220, 520, 260], [0.25, 0.5, 0.25]), 1e-9)
  assert.ok(one < Math.log(1000))
  assert.ok(logBayesFactor([5200, 2900, 1900], [0.5, 0.25, 0.25]) > Math.log(1000))
})

test('the order of units does not matter, and evidence of any size is kept', () => {
  const draw = drawFrom(1)
  const ratio = new SampleRatio({ alpha: 0.001 })
  let treatment = 0
  for (let i = 0; i < 50_000; i++) {
    const isTreatment = draw(10) === 0
    if (isTreatment) treatment++
    ratio.count(isTreatment, 0.5)
  }
  near(ratio.logE, logBayesFactor([50_000 - treatment, treatment], [0.5, 0.5]), 1e-4)
  assert.ok(ratio.logE > 10_000)
  assert.equal(ratio.crossed, true)
})

test('when the share changes, evidence is kept and the counts begin anew', () => {
  const ratio = counted([9600, 400], 0.05)
  for (let i = 0; i < 1000; i++) ratio.count(i < 90, 0.1)
  near(ratio.logE, 9.070277 + logBayesFactor([910, 90], [0.9, 0.1]))
  assert.deepEqual([ratio.counts.treatment, ratio.counts.all], [490, 11_000])
  near(ratio.counts.expected, 600, 1e-9)
})

test('a unit that could go to one arm only says nothing', () => {
  const ratio = counted([95, 5], 0.05)
  const before = [ratio.logE, ratio.counts]
  for (const share of [0, 1]) for (const isTreatment of [true, false]) ratio.count(isTreatment, share)
  assert.deepEqual([ratio.logE, ratio.counts], before)
})

test('a plan that is kept is rarely doubted, and one that is not kept is found', () => {
  const draw = seeded(2)
  const unitsUntilAlarm = (share: number, alpha: number) => {
    const ratio = new SampleRatio({ alpha })
    for (let i = 1; i <= 20_000; i++) {
      // The plan changes half way.
      ratio.count(draw() < (i < 10_000 ? share : share + 0.1), i < 10_000 ? 0.05 : 0.15)
      if (i % 10 === 0 && ratio.crossed) return i
    }
    return Infinity
  }
  const units = (count: number, share: number, alpha: number) =>
    Array.from({ length: count }, () => unitsUntilAlarm(share, alpha)).toSorted((a, b) => a - b)
  const alarms = units(200, 0.05, 0.1).filter(Number.isFinite).length
  assert.ok(alarms <= 20 && alarms > 0, `${alarms}`)
  const median = units(41, 0.025, 0.001)[20]!
  assert.ok(median > 1000 && median < 2400, `${median}`)
})

test('the check goes on from JSON as if it had never stopped', () => {
  const whole = counted([960, 40], 0.05)
  const half = counted([960, 0], 0.05)
  const rest = new SampleRatio({ alpha: 0.001 }, JSON.parse(JSON.stringify(half.saved())))
  for (let i = 0; i < 40; i++) rest.count(true, 0.05)
  for (const each of [whole, rest]) each.count(true, 0.3)
  near(rest.logE, whole.logE, 1e-9)
  assert.deepEqual(rest.counts, whole.counts)
})
