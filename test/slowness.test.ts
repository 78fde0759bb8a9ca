/** Slow runs: what is expected of a batch, and whether the treatment takes longer. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Slowness } from '../src/experiments/slowness.ts'
import { seeded } from './support/draw.ts'

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
    slowness.run(isTreatment, isTreatment ? lanes.treatment() : lanes.control(), 'x')
    if (i % 200 === 0) slowness.closeBlock()
    if (slowness.crossed) return treatments
  }
  return Infinity
}

function warm(slowness: Slowness, control: () => number, runs = 512): Slowness {
  for (let i = 0; i < runs; i++) slowness.run(false, control(), 'x')
  return slowness
}

/** ln of the mean of a block's factors, with eight runs of the control. */
function blockOf(thetaA: number, slowControls: number, isSlow: boolean): number {
  const of = (slow: number, usual: number, theta: number) => theta ** slow * (1 - theta) ** usual
  const treatment = (theta: number) => of(Number(isSlow), Number(!isSlow), theta)
  const each = [1.5, 2, 4, 10, 40, 200].map((odds) => {
    const thetaB = (odds * thetaA) / (odds * thetaA + 1 - thetaA)
    const theta0 = (8 * thetaA + thetaB) / 9
    const controls = of(slowControls, 8 - slowControls, thetaA) / of(slowControls, 8 - slowControls, theta0)
    return (controls * treatment(thetaB)) / treatment(theta0)
  })
  return Math.log(each.reduce((sum, one) => sum + one) / each.length)
}

const ratioOf = (rank: number) => 1 + rank / 100

/** Ranks of the control are 1 to 64, each as often: slow are more than 32, 58, 64, and of the treatment 32, 61, 64. */
function known(tolerate = 1): Slowness {
  const slowness = new Slowness({ alpha: 0.001, tolerate })
  for (let i = 0; i < 640; i++) slowness.run(false, ratioOf(1 + (i % 64)), 'x')
  return slowness
}

/** With one run of the treatment, and then eight of the control; the block of the highest quantile was full before. */
function evidenceOf(treatment: number, controls: readonly number[] = [], slowness = known()): readonly number[] {
  slowness.run(true, treatment, 'x')
  for (let i = 0; i < 8; i++) slowness.run(false, ratioOf(controls[i] ?? 1), 'x')
  return slowness.logE
}

function assertNear(actual: readonly number[], expected: readonly number[]): void {
  for (const [i, each] of actual.entries()) assert.ok(Math.abs(each - expected[i]!) < 1e-9, `${i}: ${each}`)
}

test('a block is what the safe test of two proportions says', () => {
  const usual = [blockOf(0.5, 0, false), blockOf(0.1, 0, false), blockOf(0.01, 0, false)]
  assertNear(evidenceOf(ratioOf(1)), usual)
  const slow = [blockOf(0.5, 2, true), blockOf(0.1, 1, false), blockOf(0.01, 0, false)]
  assertNear(evidenceOf(ratioOf(33), [33, 60]), slow)
  const slowest = [blockOf(0.5, 1, true), blockOf(0.1, 1, true), blockOf(0.01, 0, true)]
  assertNear(evidenceOf(ratioOf(65), [65]), slowest)
})

test('in its tail the treatment may be slow twice as often as the control', () => {
  const tolerated = evidenceOf(ratioOf(60), [60])
  assertNear(tolerated, [blockOf(0.5, 1, true), blockOf(0.1, 1, false), blockOf(0.01, 0, false)])
  const draw = seeded(9)
  const noise = noiseFrom(9)
  const slowness = warm(new Slowness({ alpha: 0.05, tolerate: 1 }), noise)
  const preempted = (part: number) => noise() * (draw() < part ? 1.8 : 1)
  const lanes = {
    treatmentRuns: 0.1,
    control: () => preempted(0.05),
    treatment: () => preempted(0.1),
  }
  runsUntilAlarm(slowness, draw, lanes, 30_000)
  assert.ok(slowness.logE[1]! < 0 && slowness.logE[2]! < 0)
})

test('what is tolerated is a multiple, and half a millisecond for cold caches', () => {
  const slow = evidenceOf(ratioOf(33))
  assertNear(evidenceOf(1.5 * ratioOf(33), [], known(1.5)), slow)
  assert.ok(evidenceOf(1.5 * ratioOf(32), [], known(1.5))[0]! < 0)
  const withPause = (rank: number) => {
    const slowness = known(1.5)
    slowness.run(true, 1.5 * ratioOf(rank) + 2, 'x', 0.25)
    return evidenceOf(1, [], slowness)[0]!
  }
  assertNear([withPause(33)], slow)
  assert.ok(withPause(32) < 0)
})

test('nothing is an event before 64 runs of the control, and nothing is in the highest tail before 199', () => {
  const slowness = new Slowness({ alpha: 0.001 })
  const both = (times: number) => {
    for (let i = 0; i < times; i++) for (const arm of [false, true]) slowness.run(arm, arm ? 1000 : 1, 'x')
    return slowness.logE.map((each) => each > 0)
  }
  assert.deepEqual(both(64), [false, false, false])
  assert.deepEqual(slowness.logE, [0, 0, 0])
  assert.deepEqual(both(130), [true, true, false])
  assert.deepEqual(both(10), [true, true, true])
})

test('a run is slow or not by the control’s runs of its own stratum', () => {
  const made = (stratum: string) => {
    const slowness = new Slowness({ alpha: 0.001, tolerate: 1 })
    // Large batches differ little, small ones a lot.
    for (let i = 0; i < 640; i++) {
      slowness.run(false, 1 + 0.0001 * (i % 64), 'large')
      slowness.run(false, 1 + 0.01 * (i % 64), 'small')
    }
    slowness.run(true, 1.2, stratum)
    for (let i = 0; i < 8; i++) slowness.run(false, 1, i % 2 === 0 ? 'large' : 'small')
    return slowness.logE.map((each) => each > 0)
  }
  assert.deepEqual(made('large'), [true, true, true])
  assert.deepEqual(made('small'), [false, false, false])
})

test('a run of a size that the control has not counts for the median only, against all of the control', () => {
  for (const stratum of [undefined, 'never run']) {
    const slowness = known()
    slowness.run(true, 1000, stratum)
    for (let i = 0; i < 8; i++) slowness.run(false, 1, 'x')
    assertNear(slowness.logE, [blockOf(0.5, 0, true), 0, 0])
  }
})

test('after a run of the control that tells of a stall nothing is said of tails', () => {
  const evidence = (last: number) => {
    const slowness = warm(new Slowness({ alpha: 0.001, tolerate: 1 }), () => 1, 519)
    slowness.run(false, last, 'x')
    slowness.run(true, 1000, 'x')
    slowness.run(false, 1, 'x')
    for (let i = 0; i < 8; i++) slowness.run(false, 1, 'x')
    return slowness.logE.map((each) => each > 0)
  }
  assert.deepEqual(evidence(1.9), [true, true, true])
  assert.deepEqual(evidence(2.1), [true, false, false])
})

test('of more than 32 strata the one used least recently is forgotten', () => {
  const slowness = new Slowness({ alpha: 0.001, tolerate: 1 })
  const fill = (stratum: string) => {
    for (let i = 0; i < 300; i++) slowness.run(false, 1, stratum)
  }
  for (let k = 0; k < 32; k++) fill(`${k}`)
  fill('0')
  fill('new')
  const isTail = (stratum: string) => {
    const before = slowness.logE[1]
    for (let i = 0; i < 2; i++) {
      slowness.run(true, 1, stratum)
      for (let k = 0; k < 64; k++) slowness.run(false, 1, 'new')
    }
    return slowness.logE[1] !== before
  }
  assert.deepEqual(['0', '1', '2', 'new'].map(isTail), [true, false, true, true])
  slowness.run(false, 1, 'newer')
  assert.equal(isTail('newer'), false)
})

test('a block takes the runs of the control nearest to the treatment’s, at most eight, and lets the rest be', () => {
  const made = () => {
    const slowness = warm(new Slowness({ alpha: 0.001, tolerate: 1 }), () => 1)
    // The block is of eight runs.
    for (let i = 0; i < 8; i++) slowness.run(false, 1, 'x')
    slowness.run(true, 1, 'x')
    for (let i = 0; i < 8; i++) slowness.run(false, 1, 'x')
    return slowness
  }
  const [early, late] = [made(), made()]
  assert.ok(early.logE[0]! < 0)
  for (const slowness of [early, late]) {
    for (let i = 0; i < 20; i++) slowness.run(false, slowness === early && i < 12 ? 1.9 : 1, 'x')
    slowness.run(true, 1, 'x')
  }
  assert.deepEqual(early.logE, late.logE)
  const slow = made()
  for (let i = 0; i < 20; i++) slow.run(false, i === 12 ? 1.9 : 1, 'x')
  slow.run(true, 1, 'x')
  assert.ok(slow.logE[0]! < late.logE[0]!)
})

test('a treatment that is not slower raises no alarm, whatever its share of the runs', () => {
  const draw = seeded(2)
  for (const treatmentRuns of [0.02, 0.2, 0.5, 0.9]) {
    for (let seed = 1; seed <= 5; seed++) {
      const noise = noiseFrom(seed)
      const slowness = new Slowness({ alpha: 0.01, tolerate: 1.15 })
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
    const slowness = new Slowness({ alpha: 0.2, horizonBlocks: 15, tolerate: 1.15 })
    const lanes = { treatmentRuns: 0.3, control: noise, treatment: () => 1.15 * noise() }
    if (runsUntilAlarm(slowness, draw, lanes, 3000) < Infinity) alarms++
  }
  assert.ok(alarms > 0 && alarms <= 40, `${alarms}`)
})

function slowestOf(factor: number, treatmentRuns: number, tolerate: number): number {
  const draw = seeded(5)
  const runs: number[] = []
  for (let seed = 1; seed <= 30; seed++) {
    const noise = noiseFrom(seed)
    const slowness = warm(new Slowness({ alpha: 0.001, tolerate }), noise)
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
    const runs = slowestOf(2, treatmentRuns, 1.15)
    assert.ok(runs <= most, `${runs}`)
  }
})

test('a treatment that takes half as long again is found too', () => {
  const runs = slowestOf(1.5, 0.2, 1.15)
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
  for (const ratio of [Number.NaN, Infinity, -1]) for (const arm of [true, false]) slowness.run(arm, ratio, 'x')
  assert.equal(JSON.stringify(slowness.saved()), before)
})

test('thresholds are of the past: those of a block do not know what is in it, and later ones do', () => {
  const slowness = warm(new Slowness({ alpha: 0.001, tolerate: 1 }), () => 1, 64)
  const control = (runs: number, ratio: number) => {
    for (let i = 0; i < runs; i++) slowness.run(false, ratio, 'x')
  }
  const isSlow = (ratio: number, quantile: number) => {
    control(8, 0)
    const before = slowness.logE[quantile]!
    slowness.run(true, ratio, 'x')
    return slowness.logE[quantile]! > before
  }
  control(32, 1)
  assert.equal(isSlow(1, 0), false)
  // Now the control takes twice as long. In the block that is open that is slow, though its thresholds are of 64 runs ago at the end.
  control(32, 2)
  assert.equal(isSlow(1.9, 1), true)
  control(32, 2)
  assert.equal(isSlow(1.9, 1), false)
  assert.equal(isSlow(1.9, 0), true)
  control(300, 2)
  assert.equal(isSlow(1.9, 0), false)
  assert.equal(isSlow(2.1, 0), true)
})

test('a block that waits for the treatment too long begins anew with new thresholds', () => {
  const slowness = warm(new Slowness({ alpha: 0.001, tolerate: 1 }), () => 1, 128)
  for (let i = 0; i < 400; i++) slowness.run(false, 2, 'x')
  slowness.run(true, 1.9, 'x')
  for (let i = 0; i < 8; i++) slowness.run(false, 2, 'x')
  assert.ok(slowness.logE[0]! < 0)
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
  const [controls, treatments] = again.saved().runs
  assert.ok(treatments / controls > 0.2 && treatments / controls < 0.7)
  // The threshold of the median is known at once, those of the strata are not.
  assert.ok(runsUntilAlarm(again, draw, { ...lanes, treatment: () => 3 * noise() }, 5000) < 80)
})
