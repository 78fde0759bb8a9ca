/** Mixtures of evidence, and the functions that they and the intervals need. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { logBeta, logGamma } from '../src/experiments/log-gamma.ts'
import { logSumExp, Mixture } from '../src/experiments/mixture.ts'

function near(actual: number, expected: number, within = 1e-9): void {
  assert.ok(Math.abs(actual - expected) <= within * Math.max(1, Math.abs(expected)), `${actual}, not ${expected}`)
}

test('the sum of exponentials neither overflows nor underflows', () => {
  near(logSumExp(Float64Array.of(1000, 1000)), 1000 + Math.LN2)
  near(logSumExp(Float64Array.of(-1000, -1000, -Infinity)), -1000 + Math.LN2)
  assert.equal(logSumExp(Float64Array.of(-Infinity)), -Infinity)
  assert.equal(logSumExp(new Float64Array()), -Infinity)
})

test('a mixture is the mean of its atoms since the start', () => {
  const mixture = new Mixture(2)
  assert.equal(mixture.logSinceStart, 0)
  mixture.add(Float64Array.of(1, -1))
  mixture.add(Float64Array.of(0.5, -0.25), 4)
  near(mixture.logSinceStart, Math.log((Math.exp(3) + Math.exp(-2)) / 2))
})

test('the half that restarts is the sum of the tests begun at each block', () => {
  const mixture = new Mixture(2)
  assert.equal(mixture.logRestarted, -Infinity)
  const blocks = [
    [0.3, -1],
    [0, 0],
    [2, 5],
  ]
  for (const block of blocks) {
    mixture.add(Float64Array.from(block))
    mixture.closeBlock()
  }
  const begun = (j: number) => Math.exp(2.3 + j * 1.7) + 2 * Math.exp(2 + j * 3)
  near(mixture.logRestarted, Math.log((begun(0) + begun(1)) / 2))
})

test('each half alarms at half of alpha, the one that restarts at that by the number of blocks', () => {
  const alarms = (logE: number) => {
    const mixture = new Mixture(1)
    mixture.add(Float64Array.of(logE))
    return mixture.crosses(0.001)
  }
  assert.deepEqual([alarms(7.6009), alarms(7.60091)], [false, true])
  const restarted = (logE: number) => {
    const mixture = new Mixture(1)
    mixture.add(Float64Array.of(-100))
    mixture.closeBlock()
    mixture.add(Float64Array.of(logE))
    mixture.closeBlock()
    return mixture.crosses(0.001)
  }
  assert.deepEqual([restarted(16.66505), restarted(16.66507)], [false, true])
  const short = new Mixture(1, undefined, 10)
  short.add(Float64Array.of(-100))
  short.closeBlock()
  short.add(Float64Array.of(9.91))
  short.closeBlock()
  assert.ok(short.crosses(0.001))
})

test('what is not alike alarms by the mean of its atoms, not by the largest', () => {
  const mixture = new Mixture(7)
  mixture.add(Float64Array.of(8, 0, 0, 0, 0, 0, 0))
  assert.equal(mixture.crosses(0.001), false)
  mixture.add(Float64Array.of(2, 0, 0, 0, 0, 0, 0))
  assert.equal(mixture.crosses(0.001), true)
})

test('a mixture goes on from JSON as if it had never stopped, in the middle of a block and before the first', () => {
  const whole = new Mixture(2)
  let parts = new Mixture(2)
  for (let i = 0; i < 10; i++) {
    for (const each of [whole, parts]) {
      each.add(Float64Array.of(0.1 * i, -0.2))
      if (i % 3 === 2) each.closeBlock()
    }
    parts = new Mixture(2, JSON.parse(JSON.stringify(parts.saved())))
    assert.deepEqual([parts.logSinceStart, parts.logRestarted], [whole.logSinceStart, whole.logRestarted])
  }
})

test('what was saved of another grid is not taken', () => {
  const other = new Mixture(3)
  other.add(Float64Array.of(9, 9, 9))
  assert.equal(new Mixture(2, other.saved()).logSinceStart, 0)
})

test('the gamma function is exact for small and large numbers', () => {
  near(logGamma(0.5), Math.log(Math.PI) / 2, 1e-13)
  near(logGamma(1), 0, 1e-13)
  near(logGamma(6), Math.log(120), 1e-13)
  near(logGamma(1e6), 12815504.5691476, 1e-13)
  near(logGamma(0.01), 4.5994798780420219, 1e-12)
  near(logBeta(2, 3), Math.log(1 / 12), 1e-12)
})
