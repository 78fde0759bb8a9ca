/** Failures: whose they are, whether they are above the floor, in pairs, and how long it takes to see it. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Attribution, lessGrid, type AttributionOptions } from '../src/experiments/attribution.ts'
import { Floor } from '../src/experiments/floor.ts'
import { secondsToDetect } from '../src/experiments/forecast.ts'
import { Paired, pairedLogE } from '../src/experiments/paired.ts'
import { seeded } from './support/draw.ts'

function near(actual: number, expected: number, within = 1e-6): void {
  assert.ok(Math.abs(actual - expected) <= within, `${actual}, not ${expected}`)
}

interface Failures {
  readonly treatment: number
  readonly all: number
  readonly share: number
}

function failed({ treatment, all, share }: Failures, options: Partial<AttributionOptions> = {}): Attribution {
  const attribution = new Attribution({ alpha: 0.001, tolerate: 1, ...options })
  for (let i = 0; i < all; i++) attribution.fail(i < treatment, share)
  return attribution
}

test('evidence is what the reference says', () => {
  near(failed({ treatment: 3, all: 3, share: 0.05 }).logE, 6.909751)
  near(failed({ treatment: 5, all: 20, share: 0.05 }).logE, 3.3218)
  near(failed({ treatment: 22, all: 160, share: 0.05 }).logE, 7.248433)
  near(failed({ treatment: 22, all: 160, share: 0.05 }, { tolerate: 1.1 }).logE, 6.018247)
  near(failed({ treatment: 8, all: 160, share: 0.05 }).logE, -2.458642)
  near(failed({ treatment: 60, all: 100, share: 0.5 }).logE, 0.391955)
  near(failed({ treatment: 0, all: 100, share: 0.05 }).logE, -4.328357)
})

test('evidence is kept when the share changes, each failure weighed with its own', () => {
  const attribution = failed({ treatment: 3, all: 3, share: 0.05 })
  attribution.fail(true, 0.5)
  attribution.fail(false, 0.05)
  const mean = [1.5, 2, 3, 5, 10, 30, 100].map((r) => {
    const theta = (w: number) => (w * r) / (w * r + 1 - w)
    return ((theta(0.05) / 0.05) ** 3 * theta(0.5)) / 0.5 / (0.95 / (1 - theta(0.05)))
  })
  near(attribution.logE, Math.log(mean.reduce((sum, each) => sum + each) / 7))
})

test('fewer than five failures of the treatment are no reason for an alarm', () => {
  assert.equal(failed({ treatment: 4, all: 4, share: 0.05 }).crossed, false)
  assert.ok(failed({ treatment: 4, all: 4, share: 0.05 }).logE > 7.7)
  assert.equal(failed({ treatment: 5, all: 5, share: 0.05 }).crossed, true)
  assert.equal(failed({ treatment: 4, all: 4, share: 0.05 }, { leastTreatment: 0 }).crossed, true)
})

test('an arm that got nothing says nothing', () => {
  const attribution = failed({ treatment: 5, all: 20, share: 0.05 })
  const { logE } = attribution
  for (const share of [0, 1, Number.NaN]) for (const isTreatment of [true, false]) attribution.fail(isTreatment, share)
  assert.equal(attribution.logE, logE)
  assert.deepEqual(attribution.failures, { treatment: 5, all: 20 })
})

test('an outage of both arms is no evidence against the treatment', () => {
  const draw = seeded(1)
  const attribution = new Attribution({ alpha: 0.001, tolerate: 1.1 })
  for (let i = 0; i < 20_000; i++) attribution.fail(draw() < 0.05, 0.05)
  attribution.closeBlock()
  assert.equal(attribution.crossed, false)
  assert.ok(attribution.logE < 0)
})

test('a treatment that earns nothing is found by the grid for less, without any event of its own', () => {
  const options = { grid: lessGrid, tolerate: 0.98 }
  assert.equal(failed({ treatment: 0, all: 5, share: 0.5 }, options).crossed, false)
  assert.equal(failed({ treatment: 0, all: 40, share: 0.5 }, options).crossed, true)
  assert.equal(failed({ treatment: 40, all: 40, share: 0.5 }, options).crossed, false)
})

/** Seconds until an alarm, at 100 requests a second and a share of 5 %; the regression begins at `changeS`. */
function detected(draw: () => number, treatmentRate: number, changeS = 0): number {
  const attribution = new Attribution({ alpha: 0.001, tolerate: 1 })
  let block = 10
  for (let now = 0; ;) {
    const rate = now < changeS ? 0.01 : treatmentRate
    const perS = 100 * (0.05 * rate + 0.95 * 0.01)
    now -= Math.log(1 - draw()) / perS
    for (; block <= now; block += 10) {
      attribution.closeBlock()
      if (attribution.crossed) return block - changeS
    }
    attribution.fail(draw() < (5 * rate) / perS, 0.05)
    if (attribution.crossed) return now - changeS
  }
}

function meanOf(count: number, value: () => number): number {
  let sum = 0
  for (let i = 0; i < count; i++) sum += value()
  return sum / count
}

test('a regression from the start is found as soon as the reference says', () => {
  const draw = seeded(2)
  const slow = meanOf(400, () => detected(draw, 0.03))
  assert.ok(slow > 140 && slow < 180, `${slow}`)
  const fast = meanOf(400, () => detected(draw, 0.1))
  assert.ok(fast > 14 && fast < 24, `${fast}`)
})

test('a regression that begins late is found nearly as soon, by the half that restarts', () => {
  const draw = seeded(3)
  const late = meanOf(200, () => detected(draw, 0.03, 1800))
  assert.ok(late > 240 && late < 320, `${late}`)
})

test('false alarms are rarer than alpha, at the very limit of what is tolerated', () => {
  const draw = seeded(4)
  let alarms = 0
  for (let i = 0; i < 500; i++) {
    const attribution = new Attribution({ alpha: 0.1, tolerate: 1.5, horizonBlocks: 100 })
    let isAlarm = false
    for (let n = 1; n <= 1000 && !isAlarm; n++) {
      const share = n < 500 ? 0.05 : 0.25
      attribution.fail(draw() < (1.5 * share) / (1.5 * share + 1 - share), share)
      if (n % 10 === 0) attribution.closeBlock()
      isAlarm = attribution.crossed
    }
    if (isAlarm) alarms++
  }
  assert.ok(alarms > 5 && alarms <= 50, `${alarms}`)
})

test('the attribution goes on from JSON as if it had never stopped', () => {
  const draw = seeded(5)
  const whole = new Attribution({ alpha: 0.001, tolerate: 1.1 })
  let parts = new Attribution({ alpha: 0.001, tolerate: 1.1 })
  for (let i = 0; i < 60; i++) {
    const isTreatment = draw() < 0.4
    for (const each of [whole, parts]) each.fail(isTreatment, 0.25)
    if (i % 7 === 0) for (const each of [whole, parts]) each.closeBlock()
    parts = new Attribution({ alpha: 0.001, tolerate: 1.1 }, JSON.parse(JSON.stringify(parts.saved())))
  }
  assert.deepEqual([parts.logE, parts.logRestarted], [whole.logE, whole.logRestarted])
  assert.deepEqual(parts.failures, whole.failures)
})

test('the floor is crossed by a rate above it, and not by one at it', () => {
  const draw = seeded(6)
  const alarms = (rate: number) => {
    const floor = new Floor({ alpha: 0.01, floor: 0.002 })
    for (let i = 1; i <= 20_000; i++) {
      floor.request(draw() < rate)
      if (i % 500 === 0) floor.closeBlock()
      if (i % 100 === 0 && floor.crossed) return true
    }
    return false
  }
  const count = (rate: number) => Array.from({ length: 100 }, () => alarms(rate)).filter(Boolean).length
  assert.ok(count(0.002) <= 2)
  assert.equal(count(0.01), 100)
})

test('evidence above the floor is the mean over rates, capped below 1', () => {
  const floor = new Floor({ alpha: 0.001, floor: 0.1 })
  floor.request(true)
  for (let i = 0; i < 3; i++) floor.request(false)
  const rates = [0.15, 0.2, 0.4, 0.8, 0.91, 0.91, 0.91]
  const mean = rates.reduce((sum, p) => sum + (p / 0.1) * ((1 - p) / 0.9) ** 3, 0) / 7
  near(floor.logE, Math.log(mean))
  const again = new Floor({ alpha: 0.001, floor: 0.1 }, JSON.parse(JSON.stringify(floor.saved())))
  near(again.logE, Math.log(mean))
})

test('failures that begin late cross the floor by the half that restarts', () => {
  const floor = new Floor({ alpha: 0.001, floor: 0.002 })
  for (let i = 0; i < 100_000; i++) floor.request(false)
  floor.closeBlock()
  for (let i = 0; i < 100; i++) floor.request(i % 10 === 0)
  assert.equal(floor.crossed, false)
  floor.closeBlock()
  assert.equal(floor.crossed, true)
  assert.ok(floor.logE < 0)
})

test('without a floor nothing more is asked for', () => {
  const floor = new Floor({ alpha: 0.001, floor: 0 })
  assert.equal(floor.crossed, true)
  floor.request(true)
  floor.request(false)
  assert.equal(floor.crossed, true)
})

test('pairs are judged by which of the two is bad', () => {
  near(pairedLogE(0, 0), 0)
  const mean = (b: number, c: number) =>
    [1.5, 2, 3, 5, 10, 30, 100].reduce((sum, r) => sum + ((2 * r) / (1 + r)) ** b * (2 / (1 + r)) ** c, 0) / 7
  near(pairedLogE(7, 2), Math.log(mean(7, 2)))
  const paired = new Paired({ alpha: 0.001 })
  let pairs = 0
  for (; !paired.crossed; pairs++) paired.add(true)
  // 7 mean times 2^n at the most.
  assert.ok(pairs >= 10 && pairs <= 13, `${pairs}`)
  paired.add(false)
  const again = new Paired({ alpha: 0.001 }, JSON.parse(JSON.stringify(paired.saved())))
  near(again.logE, pairedLogE(pairs, 1))
})

test('the time to detect is what simulations take, and Infinity where it would never be', () => {
  const regression = {
    requestsPerS: 100,
    share: 0.05,
    controlRate: 0.01,
    treatmentRate: 0.03,
    alpha: 0.001,
    tolerate: 1,
  }
  const seconds = secondsToDetect(regression)
  assert.ok(seconds > 145 && seconds < 170, `${seconds}`)
  near(secondsToDetect({ ...regression, alpha: 0.002 }), (seconds * Math.log(7000)) / Math.log(14_000))
  near(secondsToDetect({ ...regression, requestsPerS: 200 }), seconds / 2)
  assert.ok(secondsToDetect({ ...regression, tolerate: 1.1 }) > seconds)
  for (const never of [{ treatmentRate: 0.01 }, { tolerate: 3 }, { share: 0 }, { share: 1 }, { requestsPerS: 0 }]) {
    assert.equal(secondsToDetect({ ...regression, ...never }), Infinity)
  }
  const all = secondsToDetect({ ...regression, controlRate: 0, treatmentRate: 1 })
  near(all, (Math.log(2000) + Math.log(7)) / (5 * Math.log(20)))
})
