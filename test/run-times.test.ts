import assert from 'node:assert/strict'
import { test } from 'node:test'
import { RunTimes } from '../src/experiments/run-times.ts'
import { drawFrom, seeded } from './support/draw.ts'

function near(actual: number | undefined, expected: number, within: number): void {
  assert.ok(actual !== undefined && Math.abs(actual / expected - 1) <= within, `${actual}, not ${expected}`)
}

function learn(times: RunTimes, runs: number, rows: number, ms: number): void {
  for (let i = 0; i < runs; i++) times.learn('x', rows, ms)
}

test('a size is known after sixteen runs of it', () => {
  const times = new RunTimes()
  learn(times, 16, 1, 3)
  assert.equal(times.expected('x', 1), undefined)
  learn(times, 1, 1, 3)
  near(times.expected('x', 1), 3, 1e-9)
  assert.equal(times.expected('x', 2), undefined)
  assert.equal(times.expected('y', 1), undefined)
})

test('within a class the mean is moved along the line, and not told where there is no line', () => {
  const times = new RunTimes()
  learn(times, 30, 6, 16)
  near(times.expected('x', 6), 16, 1e-9)
  assert.equal(times.expected('x', 7), undefined)
  learn(times, 30, 2, 8)
  // 4 + 2 rows.
  near(times.expected('x', 7), 18, 1e-6)
  near(times.expected('x', 5), 14, 1e-6)
})

test('a size that was never seen lies on the line, up to twice the largest, after sixty-four runs', () => {
  const times = new RunTimes()
  for (let i = 0; i < 32; i++) {
    learn(times, 1, 1, 5)
    learn(times, 1, 16, 20)
  }
  assert.equal(times.expected('x', 6), undefined)
  learn(times, 8, 1, 5)
  near(times.expected('x', 6), 10, 1e-6)
  near(times.expected('x', 32), 36, 1e-6)
  assert.equal(times.expected('x', 33), undefined)
  assert.equal(times.expected('x', 0), undefined)
  assert.equal(times.expected('x', Number.NaN), undefined)
})

test('a class of sizes that does not lie on the line has its own estimate', () => {
  const times = new RunTimes()
  for (let i = 0; i < 200; i++) {
    learn(times, 1, 1, 5)
    learn(times, 1, 16, 20)
    learn(times, 1, 32, 90)
  }
  near(times.expected('x', 16), 20, 0.01)
  near(times.expected('x', 32), 90, 0.01)
})

test('with noise that is relative, small and large batches are both met within a few hundredths', () => {
  const draw = seeded(1)
  const rowsOf = drawFrom(2)
  const times = new RunTimes()
  for (let i = 0; i < 3000; i++) {
    const rows = 1 + rowsOf(64)
    times.learn('x', rows, (2 + 0.5 * rows) * (0.8 + 0.4 * draw()))
  }
  for (const rows of [1, 2, 3, 5, 12, 40, 64]) near(times.expected('x', rows), 2 + 0.5 * rows, 0.06)
  near(times.expected('x', 100), 52, 0.08)
})

test('neither more rows nor none take less than nothing', () => {
  const falling = new RunTimes()
  for (let i = 0; i < 100; i++) {
    learn(falling, 1, 1, 10)
    learn(falling, 1, 4, 8)
  }
  const between = falling.expected('x', 2)!
  near(between, falling.expected('x', 8)!, 1e-9)
  assert.ok(between > 8 && between < 10)
  const steep = new RunTimes()
  for (let i = 0; i < 100; i++) {
    learn(steep, 1, 4, 1)
    learn(steep, 1, 16, 16)
  }
  const one = steep.expected('x', 1)!
  // Through nothing, by relative errors: (4 * 1 / 1 + 16 * 16 / 256) / (16 / 1 + 256 / 256).
  near(one, 5 / 17, 1e-3)
  near(steep.expected('x', 2), 2 * one, 1e-6)
})

test('what was long ago is forgotten', () => {
  const times = new RunTimes()
  learn(times, 2000, 4, 10)
  learn(times, 2000, 4, 14)
  near(times.expected('x', 4), 14, 0.06)
  learn(times, 4000, 4, 14)
  near(times.expected('x', 4), 14, 0.001)
  // A class that has not been used for long is no longer believed: the line through the others is.
  const others = new RunTimes()
  learn(others, 50, 2, 100)
  for (let i = 0; i < 3000; i++) {
    learn(others, 1, 1, 5)
    learn(others, 1, 16, 20)
  }
  near(others.expected('x', 2), 6, 0.05)
})

test('an absurd run is not learnt, unless several in a row agree', () => {
  const times = new RunTimes()
  learn(times, 100, 1, 2)
  for (let i = 0; i < 50; i++) {
    learn(times, 3, 1, 21)
    learn(times, 1, 1, 2)
  }
  near(times.expected('x', 1), 2, 1e-9)
  for (let i = 0; i < 10; i++) times.learn('x', 1, 2 * 30 ** (1 + (i % 3)))
  near(times.expected('x', 1), 2, 1e-9)
  learn(times, 1, 1, 2)
  learn(times, 20, 1, 30)
  assert.ok(times.expected('x', 1)! > 3)
  learn(times, 6000, 1, 30)
  near(times.expected('x', 1), 30, 0.01)
})

test('absurd runs of one size agree, though others between them are as usual', () => {
  const times = new RunTimes()
  for (let i = 0; i < 100; i++) {
    learn(times, 1, 1, 2)
    learn(times, 1, 8, 4)
  }
  for (let i = 0; i < 4000; i++) {
    learn(times, 1, 1, 2)
    learn(times, 1, 8, 80)
  }
  near(times.expected('x', 8), 80, 0.05)
})

test('runs of warm-up count a quarter', () => {
  const times = new RunTimes()
  const run = { key: 'x', rows: 1, ms: 3 }
  times.seed(Array.from({ length: 60 }, () => run))
  assert.equal(times.expected('x', 1), undefined)
  times.seed(Array.from({ length: 10 }, () => run))
  near(times.expected('x', 1), 3, 1e-9)
  learn(times, 50, 1, 5)
  assert.ok(times.expected('x', 1)! > 4.4)
})

test('of more than sixteen shapes the one used least recently is forgotten', () => {
  const times = new RunTimes()
  const fill = (key: string, ms: number) => {
    for (let i = 0; i < 20; i++) times.learn(key, 1, ms)
  }
  for (let k = 0; k < 16; k++) fill(`${k}`, 1 + k)
  near(times.expected('0', 1), 1, 1e-9)
  fill('new', 17)
  near(times.expected('0', 1), 1, 1e-9)
  assert.equal(times.expected('1', 1), undefined)
  near(times.expected('2', 1), 3, 1e-9)
  near(times.expected('new', 1), 17, 1e-9)
})

test('what is no run is not learnt', () => {
  const times = new RunTimes()
  learn(times, 30, 1, 2)
  for (const ms of [0, -1, Number.NaN, Infinity]) learn(times, 10, 1, ms)
  for (const rows of [0, -1, Number.NaN, 2 ** 40]) learn(times, 10, rows, 2)
  times.seed([{ key: 'x', rows: 1, ms: Number.NaN }])
  near(times.expected('x', 1), 2, 1e-9)
})
