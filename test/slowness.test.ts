/** Slow runs: what is expected of a batch, and whether the treatment takes longer. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Recent } from '../src/experiments/recent.ts'
import { Slowness } from '../src/experiments/slowness.ts'
import { drawFrom, seeded } from './support/draw.ts'

/** Lognormal around 1, as compute times are. */
function noiseFrom(seed: number, spread = 0.15): () => number {
  const draw = seeded(seed)
  return () => Math.exp(spread * Math.sqrt(-2 * Math.log(1 - draw())) * Math.cos(2 * Math.PI * draw()))
}

interface Lanes {
  /** Of all runs: lanes batch differently, so it has nothing to do with the share of requests. */
  readonly treatmentRuns: number
  readonly control: () => number
  readonly treatment: () => number
}

/** Runs of the treatment until an alarm; Infinity if there is none in `runs` runs of both. */
function runsUntilAlarm(slowness: Slowness, draw: () => number, lanes: Lanes, runs: number): number {
  let treatments = 0
  for (let i = 1; i <= runs; i++) {
    const isTreatment = draw() < lanes.treatmentRuns
    if (isTreatment) treatments++
    slowness.run(isTreatment, isTreatment ? lanes.treatment() : lanes.control())
    if (i % 200 === 0) slowness.closeBlock()
    if (slowness.crossed) return treatments
  }
  return Infinity
}

function warm(slowness: Slowness, control: () => number, runs = 512): Slowness {
  for (let i = 0; i < runs; i++) slowness.run(false, control())
  return slowness
}

test('of a stream the last values are kept, and their quantiles are values of it', () => {
  const draw = drawFrom(1)
  const recent = new Recent(50)
  const values: number[] = []
  assert.ok(Number.isNaN(recent.median()))
  for (let i = 0; i < 200; i++) {
    const value = draw(30)
    recent.add(value)
    values.push(value)
    const last = values.slice(-50)
    assert.deepEqual(recent.saved(), last)
    assert.equal(recent.count, last.length)
    const sorted = last.toSorted((one, other) => one - other)
    const quantiles = new Float64Array(4)
    recent.quantiles([0, 0.5, 0.9, 1], quantiles)
    const expected = [0, 0.5, 0.9, 1].map((q) => sorted[Math.max(0, Math.ceil(q * last.length) - 1)])
    assert.deepEqual([...quantiles], expected)
    assert.equal(recent.median(), expected[1])
  }
  assert.deepEqual(new Recent(50, recent.saved()).saved(), recent.saved())
})

test('a block is what the safe test of two proportions says', () => {
  const slowness = new Slowness({ alpha: 0.001, tolerate: 1 })
  // Before 128 runs of the control nothing is an event; the thresholds are 64, 116 and 127 then.
  for (let i = 1; i <= 128; i++) for (const arm of [true, false]) slowness.run(arm, arm ? 1000 : i)
  assert.deepEqual(slowness.logE, [0, 0, 0])
  // As many runs of one as of the other: one of each makes a block.
  slowness.run(true, 120)
  slowness.run(true, 1)
  assert.deepEqual(slowness.logE, [0, 0, 0])
  slowness.run(false, 65)
  const factor = (thetaA: number, slowControl: boolean, slowTreatment: boolean) => {
    const of = (isSlow: boolean, theta: number) => (isSlow ? theta : 1 - theta)
    const each = [1.5, 2, 4, 10, 40, 200].map((odds) => {
      const thetaB = (odds * thetaA) / (odds * thetaA + 1 - thetaA)
      const theta0 = (thetaA + thetaB) / 2
      const under0 = of(slowControl, theta0) * of(slowTreatment, theta0)
      return (of(slowControl, thetaA) * of(slowTreatment, thetaB)) / under0
    })
    return Math.log(each.reduce((sum, one) => sum + one) / each.length)
  }
  const expected = [factor(0.5, true, true), factor(0.1, false, true), factor(0.01, false, false)]
  for (const [i, logE] of slowness.logE.entries()) assert.ok(Math.abs(logE - expected[i]!) < 1e-9, `${i}: ${logE}`)
})

test('a block takes the runs of the control nearest to the treatment’s, at most eight, and lets the rest be', () => {
  const made = () => {
    const slowness = warm(new Slowness({ alpha: 0.001, tolerate: 1 }), () => 1)
    // The block is of eight runs.
    for (let i = 0; i < 8; i++) slowness.run(false, 1)
    slowness.run(true, 1)
    return slowness
  }
  const [early, late] = [made(), made()]
  assert.ok(early.logE[0]! < 0)
  for (const slowness of [early, late]) {
    for (let i = 0; i < 20; i++) slowness.run(false, slowness === early && i < 12 ? 5 : 1)
    slowness.run(true, 1)
  }
  assert.deepEqual(early.logE, late.logE)
  const slow = made()
  for (let i = 0; i < 20; i++) slow.run(false, i === 12 ? 5 : 1)
  slow.run(true, 1)
  assert.ok(slow.logE[0]! < late.logE[0]!)
})

test('a treatment that is not slower raises no alarm, whatever its share of the runs', () => {
  const draw = seeded(2)
  for (const treatmentRuns of [0.02, 0.2, 0.5, 0.9]) {
    for (let seed = 1; seed <= 5; seed++) {
      const noise = noiseFrom(seed)
      const slowness = new Slowness({ alpha: 0.01 })
      const runs = runsUntilAlarm(slowness, draw, { treatmentRuns, control: noise, treatment: noise }, 8000)
      assert.equal(runs, Infinity, `${treatmentRuns}`)
    }
  }
})

test('false alarms are rarer than alpha where the treatment is as slow as is tolerated', () => {
  const draw = seeded(3)
  let alarms = 0
  for (let seed = 1; seed <= 200; seed++) {
    const noise = noiseFrom(seed)
    const slowness = new Slowness({ alpha: 0.2, horizonBlocks: 15 })
    const lanes = { treatmentRuns: 0.3, control: noise, treatment: () => 1.15 * noise() }
    if (runsUntilAlarm(slowness, draw, lanes, 3000) < Infinity) alarms++
  }
  assert.ok(alarms > 0 && alarms <= 40, `${alarms}`)
})

test('bursts that slow both arms alike raise no alarm', () => {
  const draw = seeded(4)
  let alarms = 0
  for (let seed = 1; seed <= 40; seed++) {
    const noise = noiseFrom(seed)
    let left = 0
    const busy = () => {
      if (left === 0 && draw() < 0.005) left = 100
      if (left > 0) left--
      return noise() * (left > 0 ? 3 : 1)
    }
    const slowness = new Slowness({ alpha: 0.05 })
    const treatmentRuns = [0.05, 0.2, 0.5, 0.8][seed % 4]!
    if (runsUntilAlarm(slowness, draw, { treatmentRuns, control: busy, treatment: busy }, 6000) < Infinity) alarms++
  }
  assert.ok(alarms <= 2, `${alarms}`)
})

function slowestOf(factor: number, treatmentRuns: number): number {
  const draw = seeded(5)
  const runs: number[] = []
  for (let seed = 1; seed <= 30; seed++) {
    const noise = noiseFrom(seed)
    const slowness = warm(new Slowness({ alpha: 0.001 }), noise)
    runs.push(
      runsUntilAlarm(slowness, draw, { treatmentRuns, control: noise, treatment: () => factor * noise() }, 50_000),
    )
  }
  return Math.max(...runs)
}

test('a treatment that takes twice as long is found within a few dozen of its runs', () => {
  for (const [treatmentRuns, most] of [
    [0.05, 14],
    [0.5, 60],
  ] as const) {
    const runs = slowestOf(2, treatmentRuns)
    assert.ok(runs <= most, `${runs}`)
  }
})

test('a treatment that takes half as long again is found too', () => {
  const runs = slowestOf(1.5, 0.2)
  assert.ok(runs <= 100, `${runs}`)
})

test('a treatment that is slow in its tail only is found by a high quantile', () => {
  const draw = seeded(6)
  const noise = noiseFrom(6)
  const slowness = warm(new Slowness({ alpha: 0.001 }), noise)
  const treatment = () => noise() * (draw() < 0.08 ? 4 : 1)
  const runs = runsUntilAlarm(slowness, draw, { treatmentRuns: 0.2, control: noise, treatment }, 50_000)
  assert.ok(runs < 1500, `${runs}`)
  assert.equal(slowness.which, 0.99)
  const { control, treatment: median } = slowness.medians
  assert.ok(Math.abs(control - 1) < 0.1 && Math.abs(median - 1) < 0.1)
})

test('slowness that begins late is found by the half that restarts', () => {
  const draw = seeded(7)
  const noise = noiseFrom(7)
  const slowness = new Slowness({ alpha: 0.001 })
  const healthy = { treatmentRuns: 0.3, control: noise, treatment: noise }
  assert.equal(runsUntilAlarm(slowness, draw, healthy, 60_000), Infinity)
  const runs = runsUntilAlarm(slowness, draw, { ...healthy, treatment: () => 2 * noise() }, 2000)
  assert.ok(runs <= 130, `${runs}`)
  assert.ok(slowness.logE.every((each) => each < 0))
})

test('ratios that are no numbers are left out', () => {
  const slowness = warm(new Slowness({ alpha: 0.001 }), () => 1)
  const before = JSON.stringify(slowness.saved())
  for (const ratio of [Number.NaN, Infinity, -1]) for (const arm of [true, false]) slowness.run(arm, ratio)
  assert.equal(JSON.stringify(slowness.saved()), before)
})

test('thresholds are of the past: those of a block do not know what is in it, and later ones do', () => {
  const slowness = warm(new Slowness({ alpha: 0.001, tolerate: 1 }), () => 1)
  const isSlow = (ratio: number) => {
    const before = slowness.logE[0]!
    for (let i = 0; i < 8; i++) slowness.run(false, 0)
    slowness.run(true, ratio)
    return slowness.logE[0]! > before
  }
  slowness.run(true, 1)
  // Now the control takes twice as long as it did; that is slow until it is most of what is known.
  for (let i = 0; i < 200; i++) slowness.run(false, 2)
  assert.equal(isSlow(1.9), true)
  for (let i = 0; i < 300; i++) slowness.run(false, 2)
  slowness.run(true, 1)
  assert.equal(isSlow(1.9), false)
  assert.equal(isSlow(2.1), true)
})

test('the test goes on from JSON with all it knew', () => {
  const noise = noiseFrom(8)
  const draw = seeded(8)
  const options = { alpha: 0.001, tolerate: 1 }
  const whole = warm(new Slowness(options), noise)
  const lanes = { treatmentRuns: 0.3, control: noise, treatment: () => 1.05 * noise() }
  runsUntilAlarm(whole, draw, lanes, 500)
  const again = new Slowness(options, JSON.parse(JSON.stringify(whole.saved())))
  assert.deepEqual(again.saved(), whole.saved())
  assert.deepEqual([again.logE, again.medians], [whole.logE, whole.medians])
  assert.ok(again.logE[0] !== 0)
  // Thresholds are known at once.
  assert.ok(runsUntilAlarm(again, draw, { ...lanes, treatment: () => 3 * noise() }, 5000) < 40)
})
