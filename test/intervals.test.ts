/** Intervals for reports, and the test of rewards, which is of the same family. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { meanDifferenceInterval, proportionInterval, riskRatioInterval } from '../src/experiments/intervals.ts'
import { Moments, pooledVariance } from '../src/experiments/moments.ts'
import { seeded } from './support/draw.ts'

function near(actual: number, expected: number, within = 1e-6): void {
  assert.ok(Math.abs(actual - expected) <= within, `${actual}, not ${expected}`)
}

function momentsOf(values: Iterable<number>): Moments {
  const moments = new Moments()
  for (const value of values) moments.add(value)
  return moments
}

function yesNo(yes: number, all: number): number[] {
  return Array.from({ length: all }, (_, i) => (i < yes ? 1 : 0))
}

test('moments are exact far from zero, and of two arms thrown together', () => {
  const values = [1e9 + 4, 1e9 + 7, 1e9 + 13, 1e9 + 16]
  const moments = momentsOf(values)
  assert.deepEqual([moments.count, moments.mean, moments.variance], [4, 1e9 + 10, 22.5])
  near(pooledVariance(momentsOf(values.slice(0, 1)), momentsOf(values.slice(1))), 22.5, 1e-5)
  const again = new Moments(JSON.parse(JSON.stringify(moments.saved())))
  again.add(1e9 + 10)
  assert.deepEqual([again.count, again.variance], [5, 18])
})

test('an interval of the ratio of risks has the estimate in it, and narrows', () => {
  let width = Infinity
  for (const times of [1, 10, 100]) {
    // The estimate: 3 of 20 at a share of 0.05 is odds of 3 / 17 over odds of 1 / 19.
    const { low, high } = riskRatioInterval([{ treatment: 3 * times, all: 20 * times, share: 0.05 }], 0.05)
    const estimate = ((3 / 17) * 0.95) / 0.05
    assert.ok(low < estimate && high > estimate, `${low} ${high}`)
    assert.ok(Math.log(high / low) < width)
    width = Math.log(high / low)
  }
  assert.ok(width < 0.5, `${width}`)
})

test('epochs of one ratio tell more together, also at shares that differ', () => {
  const one = { treatment: 50, all: 1000, share: 0.05 }
  const other = { treatment: 250, all: 1000, share: 0.25 }
  const [alone, both] = [riskRatioInterval([one], 0.05), riskRatioInterval([one, other], 0.05)]
  assert.ok(both.low > alone.low && both.high < alone.high)
  assert.deepEqual(riskRatioInterval([one, { treatment: 5, all: 5, share: 1 }], 0.05), alone)
})

test('arms that are swapped have the reciprocal interval', () => {
  const { low, high } = riskRatioInterval([{ treatment: 30, all: 200, share: 0.25 }], 0.05)
  const swapped = riskRatioInterval([{ treatment: 170, all: 200, share: 0.75 }], 0.05)
  near(Math.log(swapped.low), -Math.log(high), 1e-9)
  near(Math.log(swapped.high), -Math.log(low), 1e-9)
})

test('without failures, or of one arm only, an end of the ratio is not known', () => {
  near(riskRatioInterval([], 0.05).low, 1e-3, 1e-12)
  near(riskRatioInterval([], 0.05).high, 1e3, 1e-6)
  const none = riskRatioInterval([{ treatment: 0, all: 500, share: 0.5 }], 0.05)
  near(none.low, 1e-3, 1e-12)
  assert.ok(none.high < 0.05, `${none.high}`)
})

test('the true ratio is outside of its interval at some time no more often than alpha', () => {
  const draw = seeded(1)
  let misses = 0
  for (let i = 0; i < 100; i++) {
    let treatment = 0
    for (let all = 1; all <= 640; all++) {
      if (draw() < 0.5) treatment++
      if ((all & (all - 1)) !== 0 && all % 160 !== 0) continue
      const { low, high } = riskRatioInterval([{ treatment, all, share: 1 / 3 }], 0.2)
      if (low > 2 || high < 2) {
        misses++
        break
      }
    }
  }
  assert.ok(misses > 0 && misses <= 20, `${misses}`)
})

test('an interval of a difference of means is the one-sample formula with the harmonic count', () => {
  const [control, treatment] = [momentsOf(yesNo(950, 9500)), momentsOf(yesNo(30, 500))]
  const interval = meanDifferenceInterval(control, treatment, 0.05)!
  near((interval.low + interval.high) / 2, -0.04, 1e-12)
  const [n, rho] = [475, 0.0398]
  const half = Math.sqrt(
    0.088396 * ((2 * (n * rho ** 2 + 1)) / (n * rho) ** 2) * Math.log(Math.sqrt(n * rho ** 2 + 1) / 0.05),
  )
  near((interval.high - interval.low) / 2, half, 1e-4)
})

test('a difference of means is not told before there are a hundred values in each arm, or while all are the same', () => {
  const many = momentsOf(yesNo(50, 500))
  assert.equal(meanDifferenceInterval(many, momentsOf(yesNo(10, 99)), 0.05), undefined)
  assert.equal(meanDifferenceInterval(momentsOf(yesNo(10, 99)), many, 0.05), undefined)
  assert.notEqual(meanDifferenceInterval(many, momentsOf(yesNo(0, 100)), 0.05), undefined)
  assert.equal(meanDifferenceInterval(momentsOf(yesNo(0, 500)), momentsOf(yesNo(0, 500)), 0.05), undefined)
})

test('an interval of a proportion has what was seen in it, and is symmetric', () => {
  assert.deepEqual(proportionInterval(0, 0, 0.05), { low: 0, high: 1 })
  const none = proportionInterval(0, 1000, 0.05)
  assert.equal(none.low, 0)
  assert.ok(none.high > 0.003 && none.high < 0.015, `${none.high}`)
  const some = proportionInterval(30, 1000, 0.05)
  assert.ok(some.low > 0.01 && some.low < 0.03 && some.high > 0.03 && some.high < 0.06)
  const rest = proportionInterval(970, 1000, 0.05)
  near(rest.low, 1 - some.high, 1e-12)
  near(rest.high, 1 - some.low, 1e-12)
})

test('the true proportion is outside of its interval at some time no more often than alpha', () => {
  const draw = seeded(2)
  let misses = 0
  for (let i = 0; i < 150; i++) {
    let successes = 0
    for (let trials = 1; trials <= 500; trials++) {
      if (draw() < 0.1) successes++
      if (trials > 20 && trials % 10 !== 0) continue
      const { low, high } = proportionInterval(successes, trials, 0.2)
      if (low > 0.1 || high < 0.1) {
        misses++
        break
      }
    }
  }
  assert.ok(misses > 5 && misses <= 30, `${misses}`)
})
