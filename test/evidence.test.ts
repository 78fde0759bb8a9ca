/** What is known of a treatment and its control: units, proofs, guards. */
import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { Evidence, type Judged } from '../src/experiments/evidence.ts'
import { experimentOptions } from '../src/experiments/options.ts'
import { Rarity } from '../src/experiments/rarity.ts'
import { begin } from '../src/experiments/rollout.ts'
import { readExperiment } from '../src/experiments/saved-experiment.ts'
import { Units } from '../src/experiments/units.ts'
import { seeded } from './support/draw.ts'

const optionsWith = (more: object = {}) => experimentOptions.parse({ kind: 'canary', ...more })
/** JSON rounds nothing, but sums that were parted do. */
const rounded = (value: unknown) =>
  JSON.parse(JSON.stringify(value, (_, each: unknown) => (typeof each === 'number' ? Number(each.toFixed(9)) : each)))
const again = <T>(saved: T): T => JSON.parse(JSON.stringify(saved)) as T

suite('units', () => {
  test('count once, and fail once, also if that is later', () => {
    const units = new Units()
    assert.deepEqual(units.count('a', false), { isNew: true, isFailure: false })
    assert.deepEqual(units.count('a', true), { isNew: false, isFailure: true })
    assert.deepEqual(units.count('a', true), { isNew: false, isFailure: false })
    assert.deepEqual(units.count('a', false), { isNew: false, isFailure: false })
    assert.deepEqual(units.count('b', true), { isNew: true, isFailure: true })
    const restored = new Units(again(units.saved()))
    assert.deepEqual(restored.count('b', true), { isNew: false, isFailure: false })
  })

  test('are remembered up to a number, and what is kept of them up to a size', () => {
    const units = new Units()
    const name = (i: number) => `${i}`.padStart(250, 'x')
    for (let i = 0; i < 100_000; i++) units.count(name(i), i % 2 === 0)
    assert.deepEqual(units.count('another', true), { isNew: false, isFailure: false })
    assert.deepEqual(units.count(name(2), true), { isNew: false, isFailure: false }, 'one that is known')
    assert.equal(units.size, 100_000)
    const saved = units.saved()
    assert.ok(saved.length > 100 && JSON.stringify(saved).length < 70_000, String(saved.length))
    assert.ok(saved.every((each) => Number(each.replaceAll('x', '')) % 2 === 0))
  })
})

suite('that a treatment hardly ever fails', () => {
  const after = (successes: number, failures: number) => {
    const rarity = new Rarity({ floor: 0.002, alpha: 0.05 })
    for (let i = 0; i < failures; i++) rarity.request(true)
    for (let i = 0; i < successes; i++) rarity.request(false)
    return rarity
  }

  test('is proved by some thousand successes, later if there were failures, and not by those of a bad one', () => {
    assert.equal(after(1_000, 0).reached, false)
    assert.equal(after(2_500, 0).reached, true)
    assert.equal(after(2_500, 1).reached, false)
    assert.equal(after(5_000, 1).reached, true)
    assert.equal(after(50_000, 100).reached, false, 'that is the floor')
    const none = new Rarity({ floor: 0, alpha: 0.05 })
    for (let i = 0; i < 1_000; i++) none.request(false)
    assert.equal(none.reached, false, 'without a floor nothing is below it')
  })

  test('is the likelihood ratio against the floor, and goes on from what was saved', () => {
    const rarity = after(100, 2)
    const mean = [0.5, 0.25, 0.1].map((part) => part ** 2 * ((1 - part * 0.002) / 0.998) ** 100)
    assert.ok(Math.abs(rarity.logE - Math.log(mean.reduce((sum, each) => sum + each, 0) / 4)) < 1e-9)
    assert.equal(new Rarity({ floor: 0.002, alpha: 0.05 }, again(rarity.saved())).logE, rarity.logE)
    assert.equal(new Rarity({ floor: 0.002, alpha: 0.05 }, again(after(2_500, 0).saved())).reached, true)
  })
})

/** So many units of an arm, all failing or none. */
function settle(evidence: Evidence, count: number, more: Partial<Judged>): Evidence {
  const judged = { isTreatment: true, share: 0.05, isNew: true, isFailure: false, ...more }
  for (let i = 0; i < count; i++) evidence.settled(judged)
  return evidence
}
const guards = (evidence: Evidence) => evidence.alarms.map(({ guard, action }) => `${guard} ${action}`)

suite('evidence', () => {
  test('of failures that are all of the treatment sounds with the fifth, and says so in words', () => {
    const evidence = settle(settle(new Evidence(optionsWith()), 95, { isTreatment: false }), 4, { isFailure: true })
    assert.deepEqual([evidence.alarms, evidence.isUrgent], [[], false])
    settle(evidence, 1, { isFailure: true })
    assert.deepEqual([guards(evidence), evidence.isUrgent], [['failures rollback'], true])
    assert.match(
      evidence.alarms[0]!.words,
      /^it fails more often than the control: 5 of 5 failures, 100\.00 % of its units/,
    )
    assert.deepEqual(evidence.figures.failed, { control: 0, treatment: 5 })
  })

  test('is nothing where both fail alike, where all is under the floor, and where nothing was drawn', () => {
    const draw = seeded(4)
    const alike = new Evidence(optionsWith())
    for (let i = 0; i < 40_000; i++) settle(alike, 1, { isTreatment: draw() < 0.05, isFailure: draw() < 0.1 })
    assert.deepEqual(guards(alike), [])
    const rare = settle(settle(new Evidence(optionsWith()), 20_000, {}), 8, { isFailure: true })
    assert.deepEqual([guards(rare), rare.isUrgent, rare.figures.failures.aboveFloor], [[], true, false])
    const certain = new Evidence(optionsWith())
    for (const share of [0, 1]) settle(certain, 100, { share, isFailure: true })
    assert.deepEqual([guards(certain), certain.figures.failures.evidence], [[], 0])
  })

  test('of a unit that fails later is of one unit, and of one failure', () => {
    const evidence = settle(new Evidence(optionsWith()), 3, {})
    settle(evidence, 2, { isNew: false, isFailure: true })
    assert.deepEqual(evidence.units, { control: 0, treatment: 3 })
    assert.deepEqual(evidence.figures.failed, { control: 0, treatment: 2 })
    assert.deepEqual(evidence.saved().rarity, { failures: 2, successes: 3, reached: false })
    settle(evidence, 1, { isFailure: true })
    assert.deepEqual(evidence.saved().rarity, { failures: 3, successes: 3, reached: false })
  })

  test('of slow runs counts against what the control takes for as many rows, and sounds with its own action', () => {
    const evidence = new Evidence(optionsWith({ slowness: { action: 'pause' } }))
    evidence.seed([1, 2, 4, 8].map((rows) => ({ key: 'k', rows, ms: rows })))
    const draw = seeded(2)
    const noise = () => 1 + 0.1 * draw()
    for (let i = 0; i < 300; i++) evidence.ran(false, 'k', 4, 4 * noise())
    for (let i = 0; i < 400; i++) {
      const rows = i % 2 === 0 ? 8 : 4
      evidence.ran(rows === 8, 'k', rows, rows * noise())
    }
    assert.deepEqual(guards(evidence), [], 'more rows take longer, and that is all there is')
    for (let i = 0; i < 400; i++) evidence.ran(i % 2 === 0, 'k', 4, (i % 2 === 0 ? 8 : 4) * noise())
    assert.deepEqual([guards(evidence), evidence.isUrgent], [['slowness pause'], true])
    const { control, treatment } = evidence.figures.slowness.medianRatios
    assert.ok(Math.abs(control - 1) < 0.1 && Math.abs(treatment - 2) < 0.2, 'the measure is the control alone')
    assert.match(evidence.alarms[0]!.words, /^its runs take [\d.]+ times as long as the control's/)
    assert.deepEqual(guards(new Evidence(optionsWith(), again(evidence.saved()))), ['slowness rollback'])
  })

  test('that the arms do not get what they should is seen, and is none while they do', () => {
    const fair = settle(settle(new Evidence(optionsWith()), 500, {}), 9_500, { isTreatment: false })
    assert.equal(fair.isMismatched, false)
    const foul = settle(settle(new Evidence(optionsWith()), 700, {}), 9_500, { isTreatment: false })
    assert.equal(foul.isMismatched, true)
    assert.deepEqual(foul.figures.sampleRatio.expected, 510)
  })

  test('proves for a step what it asks: by failures of others, by none at all, or not', () => {
    const steps = [{ share: 0.05 }, { share: 0.5, below: 4 }, { share: 0.6, below: 'off' }]
    const options = optionsWith({ steps })
    const proved = (evidence: Evidence) => options.steps.map((step) => evidence.isProved(step))
    const fresh = new Evidence(options)
    assert.deepEqual(proved(fresh), [false, false, true])
    const others = settle(new Evidence(options), 80, { isTreatment: false, isFailure: true })
    assert.deepEqual(proved(others), [true, true, true])
    assert.deepEqual(others.figures.proved, [4, 2])
    const few = settle(new Evidence(options), 30, { isTreatment: false, isFailure: true })
    assert.deepEqual(proved(few), [false, true, true], 'four times as often is ruled out sooner than twice')
    const rare = settle(new Evidence(options), 2_500, {})
    assert.deepEqual([proved(rare), rare.figures.isRare, rare.figures.proved], [[true, true, true], true, []])
  })

  test('goes on from what was saved as if nothing had been', () => {
    const options = optionsWith({ steps: [{ share: 0.05 }, { share: 0.3 }] })
    const evidence = new Evidence(options)
    const draw = seeded(7)
    const feed = (into: readonly Evidence[], count: number) => {
      for (let i = 0; i < count; i++) {
        const judged = { isTreatment: draw() < 0.3, share: 0.3, isNew: draw() < 0.8, isFailure: draw() < 0.2 }
        for (const each of into) each.settled(judged)
        if (i % 100 === 99) for (const each of into) each.closeBlock()
      }
    }
    feed([evidence], 450)
    const saved = readExperiment(
      again({ since: 0, state: begin(options, { nowMs: 0, share: 0.3 }), evidence: evidence.saved() }),
    )!
    const restored = new Evidence(options, saved.evidence)
    assert.deepEqual(rounded(restored.figures), rounded(evidence.figures))
    feed([evidence, restored], 450)
    assert.deepEqual(rounded(restored.figures), rounded(evidence.figures))
    assert.deepEqual(rounded(restored.saved()), rounded(evidence.saved()))
  })
})
