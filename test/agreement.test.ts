/** How well a shadow agrees with the primary, over all pairs of their answers. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Tensor } from '../src/core/tensor.ts'
import { Agreement, type AgreementSummary, type SavedAgreement } from '../src/experiments/agreement.ts'
import { comparisonOptions } from '../src/experiments/comparison-options.ts'
import { comparePair, type PairVerdict } from '../src/experiments/comparison.ts'
import { proportionInterval } from '../src/experiments/intervals.ts'
import { seeded } from './support/draw.ts'

const options = comparisonOptions.parse({
  outputs: {
    p: { kind: 'probabilities' },
    d: { kind: 'probabilities', threshold: 0.5, maxDistance: 0.2 },
    label: { kind: 'exact' },
  },
})

function floats(name: string, shape: readonly number[], values: readonly number[]): Tensor {
  return { name, datatype: 'FP64', shape, data: Float64Array.from(values) }
}

function numbers(one: readonly number[], other: readonly number[], name: string = 'y'): PairVerdict {
  return comparePair(options, [floats(name, [one.length], one)], [floats(name, [other.length], other)])
}

function labels(one: readonly number[], other: readonly number[]): PairVerdict {
  const tensor = (values: readonly number[]): Tensor => {
    return { name: 'label', datatype: 'INT32', shape: [values.length], data: Int32Array.from(values) }
  }
  return comparePair(options, [tensor(one)], [tensor(other)])
}

function facts(requestId: string, ...slices: readonly string[]) {
  return { requestId, slices }
}

function summaryOf(agreement: Agreement): AgreementSummary {
  return agreement.summary(proportionInterval, 0.05)
}

test('before any pair nothing is known', () => {
  const { pairs, agreement, low, outputs, slices, samples } = summaryOf(new Agreement())
  assert.deepEqual(
    { pairs, agreement, low, outputs, slices, samples },
    { pairs: 0, agreement: undefined, low: 0, outputs: [], slices: [], samples: [] },
  )
})

test('a pair counts once, with the share of its rows that agree', () => {
  const agreement = new Agreement()
  agreement.add(numbers([1, 2, 3, 4], [1, 2, 3, 9]), facts('a'))
  agreement.add(numbers([1], [1]), facts('b'))
  const asked: number[][] = []
  const summary = agreement.summary((...question) => {
    asked.push(question)
    return { low: 0.25 }
  }, 0.01)
  assert.deepEqual([summary.pairs, summary.agreeingPairs, summary.agreement, summary.low], [2, 1, 0.875, 0.25])
  assert.deepEqual(asked, [
    [1.75, 2, 0.01],
    [1.75, 2, 0.01],
  ])
})

test('the lower bound comes near what many pairs have shown', () => {
  const agreement = new Agreement()
  for (let i = 0; i < 2_000; i++) agreement.add(numbers([1, 1], i % 100 === 0 ? [1, 2] : [1, 1]), facts('a'))
  const { low } = summaryOf(agreement)
  assert.ok(low > 0.985 && low < 0.995, `${low}`)
})

test('errors are the mean with its sign, the root of the mean square, and the largest', () => {
  const agreement = new Agreement()
  agreement.add(numbers([10, 20], [11, 17]), facts('a'))
  agreement.add(numbers([30, Number.NaN], [30, Number.NaN]), facts('b'))
  const [output] = summaryOf(agreement).outputs
  const { name, kind, pairs, rows, agreeing, numbers: count, meanError, rmsError, maxError, nans } = output!
  assert.deepEqual(
    { name, kind, pairs, rows, agreeing, count, nans },
    { name: 'y', kind: 'numeric', pairs: 2, rows: 4, agreeing: 2, count: 3, nans: 1 },
  )
  assert.equal(meanError, -2 / 3)
  assert.equal(rmsError, Math.sqrt(10 / 3))
  assert.equal(maxError, 3)
  assert.deepEqual([output!.agreement, output!.problems, output!.partial], [0.5, 0, 0])
})

test('pairs in which nothing could be compared are counted, with the last reason', () => {
  const agreement = new Agreement()
  agreement.add(numbers([1], [1, 2]), facts('a'))
  agreement.add(numbers([1], [1]), facts('b'))
  const [{ problems, lastProblem, meanError, agreement: share }] = summaryOf(agreement).outputs as any
  assert.deepEqual([problems, lastProblem, meanError, share], [1, 'the shapes are [1] and [2]', 0, 0.5])
  const none = new Agreement()
  none.add(numbers([1], [1, 2]), facts('a'))
  assert.equal(summaryOf(none).outputs[0]!.meanError, undefined)
})

test('pairs of which not everything was looked at are counted', () => {
  const agreement = new Agreement()
  const large = new Float64Array(300_000)
  const tensor: Tensor = { name: 'y', datatype: 'FP64', shape: [300_000], data: large }
  agreement.add(comparePair(options, [tensor], [tensor]), facts('a'))
  assert.equal(summaryOf(agreement).outputs[0]!.partial, 1)
})

test('labels are counted by the primary and the shadow, in their order', () => {
  const agreement = new Agreement()
  agreement.add(labels([7, 7, -1], [7, -1, -1]), facts('a'))
  agreement.add(labels([7, 3], [3, 3]), facts('b'))
  const [output] = summaryOf(agreement).outputs
  assert.equal(output!.flips, 2)
  assert.deepEqual(output!.labels, {
    labels: [-1, 3, 7],
    counts: [
      [1, 0, 0],
      [0, 1, 0],
      [1, 1, 1],
    ],
  })
})

test('there is room for 31 labels; the rest are counted together', () => {
  const agreement = new Agreement()
  const all = Array.from({ length: 40 }, (_, i) => i)
  agreement.add(labels(all, all.with(0, 39).with(39, 0)), facts('a'))
  agreement.add(labels(all, all), facts('b'))
  const { labels: names, counts } = summaryOf(agreement).outputs[0]!.labels!
  // The label 39 was the second to come.
  assert.deepEqual(names, [...all.slice(0, 30), 39, 'other'])
  assert.equal(counts.length, 32)
  assert.equal(
    counts.flat().reduce((sum, each) => sum + each, 0),
    80,
  )
  assert.deepEqual([counts[0]![0], counts[0]![30], counts[30]![0], counts[31]![31], counts[5]![5]], [1, 1, 1, 18, 2])
})

test('probabilities lie in twenty even bins', () => {
  const agreement = new Agreement()
  agreement.add(numbers([0, 0.05, 0.52, 1], [0.04, 0.05, 0.58, 0.94], 'd'), facts('a'))
  const { edges, primary, shadow } = summaryOf(agreement).outputs[0]!.scores!
  assert.deepEqual([edges.length, edges[0], edges[18]], [19, 0.05, 0.95])
  const places = (counts: readonly number[]) => counts.flatMap((count, i) => Array.from({ length: count }, () => i))
  assert.deepEqual(places(primary), [0, 1, 10, 19])
  assert.deepEqual(places(shadow), [0, 1, 11, 18])
})

test('other scores have bins when 256 of them are known, each with a twentieth of the primary', () => {
  const agreement = new Agreement()
  const draw = seeded(7)
  const add = (scores: readonly number[]) =>
    agreement.add(
      numbers(
        scores,
        scores.map((score) => score + 1),
      ),
      facts('a'),
    )
  add(Array.from({ length: 255 }, () => draw() ** 2 * 1_000))
  add([Number.NaN, Infinity])
  assert.equal(summaryOf(agreement).outputs[0]!.scores, undefined)
  add([5])
  assert.ok(summaryOf(agreement).outputs[0]!.scores)
  add(Array.from({ length: 10_000 }, () => draw() ** 2 * 1_000))
  const { primary, distance } = summaryOf(agreement).outputs[0]!.scores!
  assert.equal(
    primary.reduce((sum, each) => sum + each, 0),
    10_256,
  )
  assert.ok(
    primary.every((count) => count > 100 && count < 1_100),
    primary.join(),
  )
  assert.ok(distance < 0.1, `${distance}`)
})

test('the distance between distributions of scores is that of Jensen and Shannon, in bits', () => {
  const distanceOf = (one: readonly number[], other: readonly number[]) => {
    const agreement = new Agreement()
    agreement.add(numbers(one, other, 'd'), facts('a'))
    return summaryOf(agreement).outputs[0]!.scores!.distance
  }
  assert.equal(distanceOf([0.1, 0.9], [0.9, 0.1]), 0)
  assert.equal(distanceOf([0.1, 0.1], [0.9, 0.8]), 1)
  // Halves of one in common: entropies of (1/4, 1/2, 1/4) and of (1/2, 1/2), 1.5 and 1 bits.
  assert.ok(Math.abs(distanceOf([0.1, 0.5], [0.5, 0.9]) - Math.sqrt(1.5 - 1)) < 1e-12)
})

test('agreement is shown by slice, each once for a request', () => {
  const agreement = new Agreement()
  agreement.add(numbers([1], [1]), facts('a', 'country=CH', 'plan=free', 'country=CH'))
  agreement.add(numbers([1], [2]), facts('b', 'country=CH'))
  assert.deepEqual(summaryOf(agreement).slices, [
    { slice: 'country=CH', pairs: 2, agreement: 0.5 },
    { slice: 'plan=free', pairs: 1, agreement: 1 },
  ])
})

test('there is room for 64 slices with short names; the rest are one', () => {
  const agreement = new Agreement()
  const long = 'x'.repeat(1_000)
  agreement.add(numbers([1], [1]), facts('a', long))
  for (let i = 0; i < 100; i++) agreement.add(numbers([1], [1]), facts('a', `a${i}`, `b${i}`, `c${i}`))
  const { slices } = summaryOf(agreement)
  agreement.add(numbers([1], [1]), facts('a', 'a0'))
  assert.equal(summaryOf(agreement).slices[1]!.pairs, 2)
  assert.equal(slices.length, 65)
  assert.equal(slices[0]!.slice, 'x'.repeat(64))
  // From the one in which the last place was taken, if it had more, to the end.
  assert.deepEqual(slices[64], { slice: '_other', pairs: 79, agreement: 1 })
})

test('there is room for 64 outputs', () => {
  const agreement = new Agreement()
  for (let i = 0; i < 100; i++) agreement.add(numbers([1], [1], `y${i}`), facts('a'))
  agreement.add(numbers([1], [1], 'y0'), facts('a'))
  const { outputs, pairs } = summaryOf(agreement)
  assert.deepEqual([outputs.length, outputs[0]!.pairs, pairs], [64, 2, 101])
})

test('the ten worst disagreements are kept, and nothing of what agreed', () => {
  const agreement = new Agreement()
  for (let i = 0; i < 30; i++) agreement.add(numbers([5, 1], [5, 1 + ((i * 7) % 30)]), facts(`r${i}`))
  const { samples } = summaryOf(agreement)
  assert.deepEqual(
    samples.map(({ shadow }) => shadow[0]),
    [30, 29, 28, 27, 26, 25, 24, 23, 22, 21],
  )
  assert.equal(agreement.saved().outputs[0]!.samples.length, 10)
  const { requestId, output, row, primary } = samples[0]!
  // 17 * 7 = 119 = 29 mod 30.
  assert.deepEqual({ requestId, output, row, primary }, { requestId: 'r17', output: 'y', row: 1, primary: [1] })
  const fine = new Agreement()
  fine.add(numbers([1, 1], [1.0001, 1]), facts('a'))
  assert.deepEqual(summaryOf(fine).samples, [])
})

test('of disagreements that are equally bad the first are kept', () => {
  const agreement = new Agreement()
  for (let i = 0; i < 12; i++) agreement.add(numbers([1], [3]), facts(`r${i}`))
  assert.deepEqual(
    summaryOf(agreement).samples.map(({ requestId }) => requestId),
    Array.from({ length: 10 }, (_, i) => `r${i}`),
  )
})

test('each output has its place among the samples, since their distances have nothing in common', () => {
  const agreement = new Agreement()
  for (let i = 0; i < 20; i++) agreement.add(numbers([1], [1_000]), facts('a'))
  for (let i = 0; i < 3; i++) agreement.add(labels([1], [2]), facts('b'))
  const outputs = summaryOf(agreement).samples.map(({ output }) => output)
  assert.deepEqual(outputs, ['y', 'label', 'y', 'label', 'y', 'label', 'y', 'y', 'y', 'y'])
})

test('failures of either side and shadows that were dropped are counted', () => {
  const agreement = new Agreement()
  for (const which of ['shadow', 'shadow', 'primary', 'both', 'both', 'both'] as const) agreement.failed(which)
  for (let i = 0; i < 4; i++) agreement.dropped()
  const { failures, dropped, pairs } = summaryOf(agreement)
  assert.deepEqual({ failures, dropped, pairs }, { failures: { primary: 1, shadow: 2, both: 3 }, dropped: 4, pairs: 0 })
})

test('what is saved as JSON and taken back goes on as if nothing had happened', () => {
  const draw = seeded(11)
  const straight = new Agreement()
  let stopping = new Agreement()
  for (let i = 0; i < 400; i++) {
    const [x, y] = [draw(), draw()]
    const values = i % 50 === 0 ? [x, Number.NaN] : [x, y]
    for (const each of [straight, stopping]) {
      each.add(
        numbers(
          [x, y],
          values.map((value) => value * 1.01),
        ),
        facts(`r${i}`, `s=${i % 80}`),
      )
      each.add(numbers([x, y], [y, x], 'd'), facts(`r${i}`))
      each.add(labels([i % 40], [i % 37]), facts(`r${i}`))
      each.add(
        comparePair(options, [floats('p', [1, 2], [x, 1 - x])], [floats('p', [1, 2], [y, 1 - y])]),
        facts(`r${i}`),
      )
      each.failed('shadow')
      each.dropped()
    }
    if (i % 37 === 0) stopping = new Agreement(JSON.parse(JSON.stringify(stopping.saved())) as SavedAgreement)
  }
  assert.deepEqual(summaryOf(stopping), summaryOf(straight))
  assert.equal(summaryOf(stopping).samples[0]!.distance, Infinity)
  assert.deepEqual(JSON.parse(JSON.stringify(straight.saved())), straight.saved())
})

test('what is saved does not change any more', () => {
  const agreement = new Agreement()
  const add = () => {
    agreement.add(numbers([1, 2], [1, 3]), facts('a', 's'))
    agreement.add(labels([1, 2], [1, 3]), facts('a', 's'))
    agreement.failed('both')
  }
  add()
  const saved = agreement.saved()
  const before = structuredClone(saved)
  add()
  assert.deepEqual(saved, before)
})
