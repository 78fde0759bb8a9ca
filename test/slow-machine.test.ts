/** Slow runs on a machine that is busy with other things. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { RunTimes } from '../src/experiments/run-times.ts'
import { Slowness } from '../src/experiments/slowness.ts'
import { seeded } from './support/draw.ts'

/** Lognormal around 1, as compute times are. */
function noiseFrom(seed: number): () => number {
  const draw = seeded(seed)
  return () => Math.exp(0.1 * Math.sqrt(-2 * Math.log(1 - draw())) * Math.cos(2 * Math.PI * draw()))
}

interface Machine {
  readonly controlRunsPerS: number
  readonly treatmentRunsPerS: number
  readonly seconds: number
  /** How many times as long the treatment's runs take. */
  readonly slow: number
}

/**
 * A machine that preempts runs: one in ten takes 3 ms more, whatever its size. The control has batches of about ten, the treatment
 * of one or two, which the control never has. Seconds until an alarm.
 */
function secondsUntilAlarm({ controlRunsPerS, treatmentRunsPerS, seconds, slow }: Machine, seed: number): number {
  const draw = seeded(seed)
  const noise = noiseFrom(seed + 1000)
  const usualMs = (rows: number) => 4 + 0.6 * rows
  const takes = (rows: number) => usualMs(rows) * noise() + (draw() < 0.1 ? 3 : 0)
  const times = new RunTimes()
  const sizes = [1, 2, 4, 8, 16, 32, 64].flatMap((rows) => [rows, rows, rows])
  times.seed(sizes.map((rows) => ({ key: 'x', rows, ms: 0.7 * takes(rows) })))
  const slowness = new Slowness({ alpha: 0.001 })
  const perS = controlRunsPerS + treatmentRunsPerS
  for (let i = 1; i <= perS * seconds; i++) {
    const isTreatment = draw() < treatmentRunsPerS / perS
    const rows = Math.floor(isTreatment ? 1 + 2 * draw() : 9 + 4 * draw())
    const ms = takes(rows) * (isTreatment ? slow : 1)
    const expected = times.expected('x', rows)
    if (expected) slowness.run(isTreatment, ms / expected.ms, expected.stratum, expected.ms)
    if (!isTreatment) times.learn('x', rows, ms)
    if (i % Math.round(10 * perS) === 0) slowness.closeBlock()
    if (slowness.crossed) return i / perS
  }
  return Infinity
}

test('on a machine that preempts runs no healthy version raises an alarm, even if it is always cold', () => {
  const hour = { controlRunsPerS: 1, treatmentRunsPerS: 0.25, seconds: 3600 }
  for (let seed = 1; seed <= 100; seed++)
    for (const slow of [1, 1.3]) {
      const at = secondsUntilAlarm({ ...hour, slow }, seed)
      assert.equal(at, Infinity, `${slow}: ${seed}`)
    }
})

test('there one that takes twice as long is found soon, though the control has no runs of its size', () => {
  const busy = { controlRunsPerS: 95, treatmentRunsPerS: 5, seconds: 60, slow: 2 }
  const seconds = Array.from({ length: 40 }, (_, seed) => secondsUntilAlarm(busy, seed))
  assert.ok(Math.max(...seconds) < 15, seconds.join())
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
    const slowness = new Slowness({ alpha: 0.05, tolerate: 1.15 })
    const treatmentRuns = [0.05, 0.2, 0.5, 0.8][seed % 4]!
    for (let i = 1; i <= 6000 && !slowness.crossed; i++) {
      slowness.run(draw() < treatmentRuns, busy(), 'x')
      if (i % 200 === 0) slowness.closeBlock()
    }
    if (slowness.crossed) alarms++
  }
  assert.ok(alarms <= 2, `${alarms}`)
})
