/** What a batch takes, by the control's runs and by those of warm-up. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { RunTimes } from '../src/experiments/run-times.ts'
import { SizeCurve, type SizePoint } from '../src/experiments/size-curve.ts'
import { drawFrom, seeded } from './support/draw.ts'

const sizes = [1, 2, 4, 8, 16, 32, 64]

function near(actual: number | undefined, expected: number, within: number): void {
  assert.ok(actual !== undefined && Math.abs(actual / expected - 1) <= within, `${actual}, not ${expected}`)
}

function learn(times: RunTimes, runs: number, rows: number, ms: number): void {
  for (let i = 0; i < runs; i++) times.learn('x', rows, ms)
}

function msOf(times: RunTimes, rows: number): number | undefined {
  return times.expected('x', rows)?.ms
}

/** Whether the control's own runs of that size say it. */
function isOwn(times: RunTimes, rows: number): boolean {
  return times.expected('x', rows)?.stratum !== undefined
}

function seed(times: RunTimes, usualMs: (rows: number) => number): void {
  times.seed(sizes.flatMap((rows) => [1.1, 1, 1.3].map((more) => ({ key: 'x', rows, ms: more * usualMs(rows) }))))
}

test('a size is known after sixteen runs of it', () => {
  const times = new RunTimes()
  learn(times, 15, 1, 3)
  assert.equal(times.expected('x', 1), undefined)
  learn(times, 1, 1, 3)
  near(msOf(times, 1), 3, 1e-9)
  assert.equal(times.expected('x', 2), undefined)
  assert.equal(times.expected('y', 1), undefined)
})

test('it is by the median: one run in four that is preempted changes next to nothing', () => {
  const draw = seeded(1)
  const times = new RunTimes()
  for (let i = 0; i < 500; i++) {
    for (const rows of [1, 16])
      times.learn('x', rows, (1 + 0.1 * rows) * (0.9 + 0.2 * draw()) + (draw() < 0.25 ? 8 : 0))
  }
  near(msOf(times, 1), 1.1, 0.07)
  near(msOf(times, 16), 2.6, 0.07)
})

test('every shape and every class of sizes is a stratum of its own', () => {
  const times = new RunTimes()
  for (const key of ['x', 'y'])
    for (const rows of [1, 3, 4, 5]) for (let i = 0; i < 16; i++) times.learn(key, rows, rows)
  const strata = ['x', 'y'].flatMap((key) => [1, 3, 4, 5].map((rows) => times.expected(key, rows)!.stratum))
  assert.equal(strata[1], strata[2])
  assert.equal(new Set(strata).size, 6)
  assert.ok(!strata.includes(undefined))
})

test('within a class the median is moved along the curve, and not told where there is none', () => {
  const times = new RunTimes()
  learn(times, 30, 6, 16)
  near(msOf(times, 6), 16, 1e-9)
  assert.equal(times.expected('x', 7), undefined)
  learn(times, 64, 2, 8)
  // 4 + 2 rows.
  near(msOf(times, 7), 18, 1e-6)
  near(msOf(times, 5), 14, 1e-6)
  const mixed = new RunTimes()
  seed(mixed, (rows) => 4 + 2 * rows)
  for (let i = 0; i < 64; i++) learn(mixed, 1, 9 + (i % 8), 3 * (4 + 2 * (9 + (i % 8))))
  near(msOf(mixed, 9), 66, 0.01)
  near(msOf(mixed, 16), 108, 0.01)
})

test('without warm-up a size that was never seen is between those that were, from half the smallest to twice the largest', () => {
  const times = new RunTimes()
  learn(times, 16, 4, 8)
  learn(times, 15, 16, 20)
  assert.equal(times.expected('x', 10), undefined)
  learn(times, 1, 16, 20)
  near(msOf(times, 10), 14, 1e-6)
  near(msOf(times, 32), 36, 1e-6)
  near(msOf(times, 2), 6, 1e-6)
  assert.equal(isOwn(times, 6), false)
  for (const rows of [33, 1, 0, Number.NaN]) assert.equal(times.expected('x', rows), undefined)
})

test('a size that is known later moves the curve, and of the others it is remembered how slow the machine was', () => {
  const times = new RunTimes()
  learn(times, 1, 40, 1000)
  for (let i = 0; i < 64; i++) for (const rows of [4, 16]) learn(times, 1, rows, 4 + rows)
  near(msOf(times, 32), 36, 1e-6)
  assert.equal(times.expected('x', 64), undefined, 'of one run nothing is known')
  learn(times, 16, 128, 2 * 132)
  near(msOf(times, 4), 16, 1e-6)
  near(msOf(times, 16), 40, 1e-6)
  assert.ok(times.expected('x', 256))
  learn(times, 80, 128, 2 * 132)
  near(msOf(times, 128), 264, 1e-6)
  near(msOf(times, 4), 16, 1e-6)
})

test('how slow the machine is now is told by the last runs of whatever size, for all sizes', () => {
  for (const isSeeded of [true, false]) {
    const times = new RunTimes()
    if (isSeeded) seed(times, (rows) => 4 + rows)
    // The class of one row is off the curve of warm-up.
    const takes = (rows: number) => (rows === 1 ? 10 : 4 + rows)
    for (let i = 0; i < 64; i++) for (const rows of [1, 16, 30]) learn(times, 1, rows, takes(rows))
    for (const rows of [1, 16, 30]) near(msOf(times, rows), takes(rows), 0.001)
    for (const slow of [3, 0.5]) {
      learn(times, 20, 16, slow * takes(16))
      for (const rows of [1, 16, 30]) near(msOf(times, rows), slow * takes(rows), 0.001)
      assert.ok(isOwn(times, 1))
    }
  }
})

test('warm-up says how times grow with rows, and late runs of whatever size how slow the machine is', () => {
  const times = new RunTimes()
  seed(times, (rows) => 4 + 0.6 * rows)
  assert.equal(times.expected('x', 1), undefined)
  learn(times, 15, 10, 25)
  assert.equal(times.expected('x', 1), undefined)
  learn(times, 1, 10, 25)
  near(msOf(times, 10), 25, 1e-6)
  near(msOf(times, 1), 11.5, 0.01)
  near(msOf(times, 64), 106, 0.01)
  assert.deepEqual([isOwn(times, 10), isOwn(times, 1)], [true, false])
  learn(times, 64, 10, 10)
  near(msOf(times, 1), 4.6, 0.01)
  assert.equal(times.expected('x', 129), undefined)
})

test('that a run of warm-up is preempted hardly matters', () => {
  const times = new RunTimes()
  seed(times, (rows) => 4 + 0.6 * rows)
  for (const rows of [1, 64]) times.seed([{ key: 'x', rows, ms: 200 }])
  // Of one size all three were.
  const other = new RunTimes()
  seed(other, (rows) => 4 + 0.6 * rows + (rows === 8 ? 9 : 0))
  for (const each of [times, other]) {
    learn(each, 64, 10, 10)
    near(msOf(each, 1), 4.6, 0.2)
    near(msOf(each, 64), 42.4, 0.2)
  }
})

test('a class that was not run of late is not known any more', () => {
  const times = new RunTimes()
  seed(times, (rows) => 4 + rows)
  for (let i = 0; i < 16; i++) {
    learn(times, 4, 16, 20)
    learn(times, 1, 2, 12)
  }
  learn(times, 1920, 16, 20)
  near(msOf(times, 2), 12, 0.01)
  learn(times, 80, 16, 20)
  assert.equal(isOwn(times, 2), false)
  near(msOf(times, 2), 6, 0.01)
  // A run now and then does not make it known.
  for (let i = 0; i < 40; i++) {
    learn(times, 200, 16, 20)
    learn(times, 1, 2, 12)
  }
  assert.equal(isOwn(times, 2), false)
  learn(times, 8, 2, 12)
  assert.equal(isOwn(times, 2), true)
})

test('how far a class was off the curve is forgotten', () => {
  const times = new RunTimes()
  seed(times, (rows) => 4 + rows)
  for (const ms of [20, 30]) {
    for (let i = 0; i < 48; i++) {
      learn(times, 4, 1, 5)
      learn(times, 1, 16, ms)
    }
    near(msOf(times, 16), ms, 0.01)
  }
})

test('with noise that is relative, small and large batches are both met within a few hundredths', () => {
  const draw = seeded(1)
  const rowsOf = drawFrom(2)
  for (const isSeeded of [true, false]) {
    const times = new RunTimes()
    if (isSeeded) seed(times, (rows) => 1 + 0.25 * rows)
    for (let i = 0; i < 3000; i++) {
      const rows = 1 + rowsOf(64)
      times.learn('x', rows, (2 + 0.5 * rows) * (0.9 + 0.2 * draw()))
    }
    for (const rows of [5, 8, 12, 40, 64]) near(msOf(times, rows), 2 + 0.5 * rows, 0.06)
    for (const rows of [1, 2]) near(msOf(times, rows), 2 + 0.5 * rows, 0.1)
  }
})

test('a curve that does not lie on a line is kept, and noise around a line is smoothed', () => {
  const steps = [0.1, 0.12, 0.17, 0.3, 0.6, 1.3, 2.4]
  const points = (usualMs: (i: number) => number) => sizes.map((rows, i): SizePoint => [rows, usualMs(i)])
  const kept = SizeCurve.smooth(points((i) => steps[i]!))
  for (const [i, rows] of sizes.entries()) near(kept.ms(rows), steps[i]!, 0.12)
  const smoothed = SizeCurve.smooth(points((i) => (4 + 0.6 * sizes[i]!) * (i % 2 === 0 ? 1.05 : 0.95)))
  for (const rows of sizes) near(smoothed.ms(rows), 4 + 0.6 * rows, 0.04)
})

test('neither more rows nor none take less than nothing', () => {
  const falling = new SizeCurve([
    [1, 10],
    [4, 8],
  ])
  assert.deepEqual(
    [1, 2, 8].map((rows) => falling.ms(rows)),
    [8, 8, 8],
  )
  const steep: SizePoint[] = [
    [4, 1],
    [16, 16],
  ]
  assert.equal(new SizeCurve(steep).ms(1), 0.25)
  assert.ok(
    SizeCurve.smooth([
      [1, 1],
      [2, 1],
      [4, 9],
      [8, 30],
    ]).ms(1) > 0,
  )
  assert.ok(SizeCurve.smooth([[1, 3]]).ms(1) === 3)
})

test('of more than sixteen shapes the one used least recently is forgotten', () => {
  const times = new RunTimes()
  const fill = (key: string, ms: number) => {
    for (let i = 0; i < 20; i++) times.learn(key, 1, ms)
  }
  for (let k = 0; k < 16; k++) fill(`${k}`, 1 + k)
  const before = times.expected('0', 1)!
  near(before.ms, 1, 1e-9)
  fill('new', 17)
  near(times.expected('0', 1)?.ms, 1, 1e-9)
  const others = ['1', '2', 'new'].map((key) => times.expected(key, 1)?.ms)
  assert.deepEqual(others, [undefined, 3, 17])
  // What comes back is not what it was.
  for (let k = 2; k < 18; k++) fill(`${k}`, 1)
  fill('0', 1)
  assert.notEqual(times.expected('0', 1)!.stratum, before.stratum)
})

test('what is no run is not learnt', () => {
  const times = new RunTimes()
  learn(times, 30, 1, 2)
  for (const ms of [0, -1, Number.NaN, Infinity]) learn(times, 100, 1, ms)
  for (const rows of [0, -1, Number.NaN, 2 ** 40]) learn(times, 100, rows, 2)
  times.seed([{ key: 'x', rows: 1, ms: Number.NaN }])
  near(msOf(times, 1), 2, 1e-9)
  assert.equal(times.expected('x', 2 ** 40), undefined)
})
