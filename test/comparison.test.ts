/** A shadow's answer beside the primary's: which rows agree, and by how much the others do not. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { numerics, type NumericArray, type NumericDatatype } from '../src/core/datatype.ts'
import { joinStrings, type Tensor } from '../src/core/tensor.ts'
import { comparisonOptions, type Comparison } from '../src/experiments/comparison-options.ts'
import { mostElements } from '../src/experiments/comparison-layout.ts'
import { comparePair, type OutputVerdict } from '../src/experiments/comparison.ts'
import { drawFrom, seeded } from './support/draw.ts'

type Values = readonly (number | bigint)[]

function tensor(datatype: NumericDatatype, shape: readonly number[], values: Values): Tensor {
  const data: NumericArray = new numerics[datatype].array(values.length)
  for (const [i, value] of values.entries()) data[i] = value
  return { name: 'y', datatype, shape, data }
}

function floats(shape: readonly number[], values: readonly number[]): Tensor {
  return tensor('FP64', shape, values)
}

function words(...elements: readonly string[]): Tensor {
  const data = joinStrings(elements.map((each) => Buffer.from(each)))
  return { name: 'y', datatype: 'BYTES', shape: [elements.length], data }
}

/** Compares output `y` by a rule, or by the one that goes without saying. */
function compare(rule: Record<string, unknown> | undefined, primary: Tensor, shadow: Tensor): OutputVerdict {
  const options = comparisonOptions.parse({ outputs: rule ? { y: rule } : {} })
  const { outputs } = comparePair(options, [primary], [shadow])
  assert.equal(outputs.length, 1)
  return outputs[0]!
}

test('numbers agree within what is allowed of the primary, and rows as a whole', () => {
  const primary = floats([4, 2], [10, -100, 10, -100, 10, -100, 0, 0])
  const shadow = floats([4, 2], [11, -110, 12.5, -100, 10, -135, 0.5, 0])
  const verdict = compare({ kind: 'numeric', atol: 0.5, rtol: 0.1 }, primary, shadow)
  const { rows, agreeing, worst, numbers, sumError, sumSquaredError, maxError, flips, elements } = verdict
  assert.deepEqual(
    { rows, agreeing, numbers, elements, flips },
    { rows: 4, agreeing: 2, numbers: 8, elements: 8, flips: 0 },
  )
  assert.equal(sumError, 1 - 10 + 2.5 - 35 + 0.5)
  assert.equal(sumSquaredError, 1 + 100 + 6.25 + 1_225 + 0.25)
  assert.equal(maxError, 35)
  // 35 where 10.5 is allowed.
  assert.deepEqual(worst, { row: 2, distance: 35 / 10.5, from: 0, primary: [10, -100], shadow: [10, -135] })
})

test('without a rule floats may differ a little, halves more, and everything else not at all', () => {
  const agreeing = (datatype: NumericDatatype, one: number | bigint, other: number | bigint) =>
    compare(undefined, tensor(datatype, [1], [one]), tensor(datatype, [1], [other])).agreeing
  assert.equal(agreeing('FP32', 1_000, 1_000.9), 1)
  assert.equal(agreeing('FP32', 1_000, 1_001.2), 0)
  assert.equal(agreeing('FP64', 0, 0.9e-6), 1)
  assert.equal(agreeing('FP64', 0, 1.1e-6), 0)
  const half = (value: number) => new Uint16Array(Float16Array.of(value).buffer)[0]!
  assert.equal(agreeing('FP16', half(1_000), half(1_008)), 1)
  assert.equal(agreeing('FP16', half(1_000), half(1_012)), 0)
  assert.equal(agreeing('INT32', 1_000_000, 1_000_001), 0)
  assert.equal(agreeing('INT64', 2n ** 60n, 2n ** 60n + 1n), 0)
  assert.equal(agreeing('UINT64', 2n ** 63n, 2n ** 63n), 1)
  assert.equal(agreeing('BOOL', 1, 0), 0)
  assert.equal(compare(undefined, words('a'), words('b')).agreeing, 0)
})

test('whole numbers of 64 bits can be compared as numbers if that is asked for', () => {
  const rule = { kind: 'numeric', atol: 1, rtol: 0 }
  const verdict = compare(rule, tensor('INT64', [3], [1n, 5n, -5n]), tensor('INT64', [3], [2n, 5n, -8n]))
  assert.deepEqual([verdict.agreeing, verdict.sumError], [2, -2])
  assert.deepEqual(verdict.worst?.primary, ['1', '5', '-5'].slice(2))
})

test('NaN on both sides agrees and is counted; NaN or an infinity on one side disagrees', () => {
  const [nan, most] = [Number.NaN, Infinity]
  const primary = floats([7], [nan, nan, 1, most, most, -most, 1])
  const shadow = floats([7], [nan, 1, nan, most, 1, most, 1])
  for (const rule of [undefined, { kind: 'exact' }, { kind: 'probabilities', threshold: 0.5, maxDistance: 1 }]) {
    const verdict = compare(rule, primary, shadow)
    assert.equal(verdict.agreeing, 3, verdict.kind)
    assert.equal(verdict.nans, 1, verdict.kind)
    assert.equal(verdict.worst?.row, 1)
    assert.ok(Number.isFinite(verdict.sumError))
  }
  assert.equal(compare(undefined, primary, shadow).worst?.distance, Infinity)
  assert.deepEqual(compare(undefined, primary, shadow).worst?.primary, ['NaN'])
})

test('strings are equal byte by byte', () => {
  const verdict = compare(undefined, words('cat', '', 'dog', 'zürich'), words('cat', '', 'dot', 'zurich'))
  const { rows, agreeing, flips, worst } = verdict
  assert.deepEqual({ rows, agreeing, flips }, { rows: 4, agreeing: 2, flips: 2 })
  assert.deepEqual(worst, { row: 2, distance: 1, from: 0, primary: ['dog'], shadow: ['dot'] })
  assert.equal(compare(undefined, words('ab', 'c'), words('a', 'bc')).agreeing, 0)
  assert.equal(compare({ kind: 'numeric' }, words('a'), words('a')).agreeing, 1)
  assert.equal(compare({ kind: 'numeric' }, words('a'), words('b')).agreeing, 0)
})

test('of long strings only the beginning is kept', () => {
  const verdict = compare(undefined, words('a'.repeat(1_000)), words('b'))
  assert.deepEqual(verdict.worst?.primary, ['a'.repeat(64)])
})

test('whole numbers that are alone in their row are labels', () => {
  const verdict = compare(undefined, tensor('INT64', [3, 1], [1n, 2n, -1n]), tensor('INT64', [3, 1], [1n, 3n, -1n]))
  assert.equal(verdict.flips, 1)
  assert.deepEqual([...verdict.labels!.primary], [1, 2, -1])
  assert.deepEqual([...verdict.labels!.shadow], [1, 3, -1])
  assert.equal(compare(undefined, tensor('INT32', [1, 2], [1, 2]), tensor('INT32', [1, 2], [1, 3])).labels, undefined)
})

test('the distance of an exact row is the share of elements that differ', () => {
  const verdict = compare(
    undefined,
    tensor('INT8', [2, 4], [1, 2, 3, 4, 1, 2, 3, 4]),
    tensor('INT8', [2, 4], [1, 2, 3, 4, 1, 0, 0, 4]),
  )
  assert.deepEqual([verdict.agreeing, verdict.worst?.row, verdict.worst?.distance], [1, 1, 0.5])
})

test('distributions agree if they are near each other and have the same label', () => {
  const primary = floats([4, 3], [0.5, 0.3, 0.2, 0.4, 0.35, 0.25, 0.8, 0.1, 0.1, 0.4, 0.4, 0.2])
  const shadow = floats([4, 3], [0.55, 0.3, 0.15, 0.35, 0.4, 0.25, 0.6, 0.2, 0.2, 0.4, 0.4, 0.2])
  const verdict = compare({ kind: 'probabilities' }, primary, shadow)
  const { rows, agreeing, flips, worst, labels, scores } = verdict
  assert.deepEqual({ rows, agreeing, flips }, { rows: 4, agreeing: 2, flips: 1 })
  assert.equal(worst?.row, 2)
  assert.ok(Math.abs(worst.distance - 0.2) < 1e-9, `${worst.distance}`)
  assert.deepEqual([...labels!.primary], [0, 0, 0, 0])
  assert.deepEqual([...labels!.shadow], [0, 1, 0, 0])
  assert.equal(scores, undefined)
  assert.equal(compare({ kind: 'probabilities', maxDistance: 0.21 }, primary, shadow).agreeing, 3)
})

test('a distribution is a row wherever its axis is the last', () => {
  const verdict = compare({ kind: 'probabilities' }, floats([1, 2, 2], [1, 0, 0, 1]), floats([1, 2, 2], [1, 0, 1, 0]))
  assert.deepEqual([verdict.rows, verdict.agreeing, verdict.worst?.row], [2, 1, 1])
})

test('with a threshold a number is a decision', () => {
  const rule = { kind: 'probabilities', threshold: 0.5, maxDistance: 0.2 }
  const verdict = compare(rule, floats([4, 1], [0.5, 0.49, 0.9, 0.1]), floats([4, 1], [0.6, 0.5, 0.6, 0.1]))
  assert.deepEqual([verdict.rows, verdict.agreeing, verdict.flips], [4, 2, 1])
  assert.deepEqual([...verdict.labels!.primary], [1, 0, 1, 0])
  assert.deepEqual([...verdict.labels!.shadow], [1, 1, 1, 0])
  assert.deepEqual([...verdict.scores!.primary], [0.5, 0.49, 0.9, 0.1])
  const several = compare(rule, floats([2, 2], [0.4, 0.4, 0.1, 0.9]), floats([2, 2], [0.4, 0.55, 0.2, 0.8]))
  assert.deepEqual([several.agreeing, several.flips, several.labels], [1, 1, undefined])
})

test('probabilities that are alone in their row have no label without a threshold', () => {
  const verdict = compare({ kind: 'probabilities' }, floats([2], [0.5, 0.5]), floats([2], [0.55, 0.65]))
  assert.deepEqual([verdict.rows, verdict.agreeing, verdict.flips, verdict.labels], [2, 1, 0, undefined])
})

test('rankings agree if they have enough of the best in common', () => {
  const primary = floats([3, 8], [8, 7, 6, 5, 4, 3, 2, 1, 8, 7, 6, 5, 4, 3, 2, 1, 8, 7, 6, 5, 4, 3, 2, 1])
  const shadow = floats([3, 8], [7, 8, 6, 5, 4, 3, 2, 1, 8, 7, 1, 1, 1, 9, 1, 1, 0, 0, 0, 5, 6, 7, 8, 9])
  const verdict = compare({ kind: 'ranking', k: 3 }, primary, shadow)
  // The same three; two of three, so 2 of 4 between them; none.
  assert.deepEqual([verdict.rows, verdict.agreeing, verdict.flips], [3, 2, 3])
  assert.deepEqual([verdict.worst?.row, verdict.worst?.distance], [2, 1])
  assert.equal(compare({ kind: 'ranking', k: 3, atLeast: 0.6 }, primary, shadow).agreeing, 1)
})

test('a ranking never compares more than half of what there is', () => {
  const verdict = compare(
    { kind: 'ranking', k: 10, atLeast: 1 },
    floats([1, 4], [4, 3, 2, 1]),
    floats([1, 4], [1, 2, 3, 4]),
  )
  assert.equal(verdict.agreeing, 0)
})

test('one score for each row: the rows are what is ranked', () => {
  for (const shape of [[4], [4, 1]]) {
    const verdict = compare({ kind: 'ranking', k: 2 }, floats(shape, [4, 3, 2, 1]), floats(shape, [3, 4, 1, 2]))
    assert.deepEqual([verdict.rows, verdict.agreeing, verdict.flips], [1, 1, 1])
  }
})

test('rankings have the best in common that sorting finds, with ties and NaN', () => {
  const draw = drawFrom(5)
  for (let round = 0; round < 300; round++) {
    const width = 2 + draw(40)
    const k = 1 + draw(12)
    const scores = () => Array.from({ length: width }, () => (draw(9) === 0 ? Number.NaN : draw(12)))
    const [one, other] = [scores(), scores()]
    // NaN has to be on both sides.
    for (const [i, score] of one.entries())
      if (Number.isNaN(score) !== Number.isNaN(other[i])) one[i] = other[i] = Number.NaN
    const similarity = jaccard(topOf(one, k), topOf(other, k))
    const rule = { kind: 'ranking', k, atLeast: similarity }
    const stricter = { kind: 'ranking', k, atLeast: Math.min(1, similarity + 1e-9) }
    const [a, b] = [floats([1, width], one), floats([1, width], other)]
    assert.equal(compare(rule, a, b).agreeing, 1)
    assert.equal(compare(stricter, a, b).agreeing, similarity === 1 ? 1 : 0)
  }
})

function topOf(scores: readonly number[], k: number): Set<number> {
  const worth = (i: number) => (Number.isNaN(scores[i]) ? -1 : scores[i]!)
  const order = [...scores.keys()].toSorted((i, j) => worth(j) - worth(i) || i - j)
  return new Set(order.slice(0, Math.min(k, Math.max(1, Math.floor(scores.length / 2)))))
}

function jaccard(a: Set<number>, b: Set<number>): number {
  return a.intersection(b).size / a.union(b).size
}

test('another datatype, another shape, or elements that do not fill it: all rows disagree', () => {
  const primary = floats([3, 2], [1, 2, 3, 4, 5, 6])
  const cases: [Tensor, RegExp][] = [
    [tensor('FP32', [3, 2], [1, 2, 3, 4, 5, 6]), /FP64 and FP32/],
    [floats([2, 3], [1, 2, 3, 4, 5, 6]), /\[3, 2\] and \[2, 3\]/],
    [floats([6], [1, 2, 3, 4, 5, 6]), /\[3, 2\] and \[6\]/],
    [{ ...primary, data: Float64Array.of(1) }, /fill/],
    [{ ...primary, data: joinStrings([]) }, /fill/],
  ]
  for (const [shadow, problem] of cases) {
    const verdict = compare(undefined, primary, shadow)
    assert.match(verdict.problem!, problem)
    assert.equal(verdict.agreeing, 0)
    assert.equal(verdict.rows, Math.max(3, shadow.shape[0]!))
    assert.equal(verdict.worst?.distance, Infinity)
  }
  const broken = { ...words('a', 'b'), data: { offsets: Uint32Array.of(0, 1, 9), bytes: Buffer.from('ab') } }
  assert.match(compare(undefined, words('a', 'b'), broken).problem!, /fill/)
})

test('outputs are matched by name, in whatever order; what one side lacks is a disagreement', () => {
  const named = (name: string, value: number): Tensor => ({ ...floats([1], [value]), name })
  const options = { outputs: {} }
  const swapped = comparePair(options, [named('a', 1), named('b', 2)], [named('b', 2), named('a', 1)])
  assert.equal(swapped.share, 1)
  const { outputs, share } = comparePair(options, [named('a', 1), named('b', 2)], [named('a', 1), named('c', 2)])
  assert.deepEqual(
    outputs.map(({ name, rows, agreeing, problem }) => [name, rows, agreeing, problem]),
    [
      ['a', 1, 1, undefined],
      ['b', 1, 0, 'the shadow does not have it'],
      ['c', 1, 0, 'only the shadow has it'],
    ],
  )
  assert.equal(share, 0)
  assert.equal(comparePair(options, [named('constructor', 1)], [named('constructor', 1)]).share, 1)
})

test('the share of a pair is that of the output that agrees least', () => {
  const [a, b] = [
    { ...floats([2], [1, 2]), name: 'a' },
    { ...floats([4], [1, 2, 3, 4]), name: 'b' },
  ]
  const { share } = comparePair({ outputs: {} }, [a, b], [a, { ...b, data: Float64Array.of(1, 2, 3, 9) }])
  assert.equal(share, 0.75)
  assert.equal(comparePair({ outputs: {} }, [], []).share, 1)
})

test('outputs without rows or without elements agree with their like', () => {
  for (const shape of [[0], [0, 3], [3, 0], [1_000_000_000, 0]])
    for (const kind of ['exact', 'numeric', 'probabilities', 'ranking'] satisfies Comparison['kind'][]) {
      const verdict = compare({ kind }, floats(shape, []), floats(shape, []))
      assert.equal(verdict.agreeing, verdict.rows, `${kind} ${shape.join()}`)
      assert.ok(verdict.rows <= mostElements)
    }
  assert.equal(comparePair({ outputs: {} }, [floats([0], [])], [floats([0], [])]).share, 1)
  assert.equal(comparePair({ outputs: {} }, [floats([0], [])], [floats([0, 3], [])]).share, 0)
  assert.deepEqual([compare(undefined, floats([], [1]), floats([], [2])).rows], [1])
})

test('of a large output evenly spaced rows are looked at, and that is said', () => {
  const data = new Float32Array(4 * mostElements)
  const shape = [mostElements, 4]
  const primary: Tensor = { name: 'y', datatype: 'FP32', shape, data }
  // Every row of the second half differs.
  const other = data.slice().fill(1, data.length / 2)
  const verdict = compare(undefined, primary, { ...primary, data: other })
  assert.equal(verdict.rows, mostElements / 4)
  assert.equal(verdict.allRows, mostElements)
  assert.deepEqual([verdict.elements, verdict.allElements], [mostElements, 4 * mostElements])
  assert.equal(verdict.agreeing, verdict.rows / 2)
  assert.ok(verdict.worst!.row >= mostElements / 2)
  assert.deepEqual(verdict.worst?.shadow, [1, 1, 1, 1])
})

test('of long rows some elements of each are looked at, on all columns in turn', () => {
  const shape = [8, 3, 512, 512]
  const data = new Float32Array(8 * 3 * 512 * 512)
  const primary: Tensor = { name: 'y', datatype: 'FP32', shape, data }
  const other = data.slice()
  // One column of the last row's last channel.
  for (let line = 0; line < 512; line++) other[data.length - 512 * (512 - line) + 77] = 1
  for (const rule of [undefined, { kind: 'exact' }]) {
    const verdict = compare(rule, primary, { ...primary, data: other })
    assert.deepEqual([verdict.rows, verdict.agreeing, verdict.worst?.row], [8, 7, 7])
    assert.ok(verdict.elements <= mostElements, `${verdict.elements}`)
    assert.ok(verdict.elements > mostElements / 2)
  }
})

test('the elements that are kept of a row are those around the one that differs most', () => {
  const values = Array.from({ length: 100 }, (_, i) => i)
  for (const [place, from] of [
    [50, 42],
    [99, 84],
    [3, 0],
  ] as const) {
    const { worst } = compare(undefined, floats([1, 100], values), floats([1, 100], values.with(place, -500)))
    assert.deepEqual(worst?.primary, values.slice(from, from + 16))
    assert.equal(worst.from, from)
    assert.equal(worst.shadow[place - from], -500)
  }
  const { worst } = compare(
    undefined,
    floats([1, 100], values),
    floats([1, 100], values.with(3, 4).with(50, Number.NaN)),
  )
  assert.deepEqual([worst?.from, worst?.shadow[8]], [42, 'NaN'])
})

test('everything agrees with itself, by every rule and datatype', () => {
  const draw = seeded(3)
  for (const datatype of Object.keys(numerics) as NumericDatatype[]) {
    const isBig = datatype.endsWith('64') && datatype !== 'FP64'
    const values = Array.from({ length: 60 }, () => Math.floor(draw() * 2))
    const one = tensor(datatype, [6, 10], isBig ? values.map(BigInt) : values)
    for (const kind of ['exact', 'numeric', 'probabilities', 'ranking'] satisfies Comparison['kind'][]) {
      const verdict = compare({ kind, ...(kind === 'ranking' && { atLeast: 1 }) }, one, one)
      assert.deepEqual([verdict.rows, verdict.agreeing, verdict.flips, verdict.maxError], [6, 6, 0, 0])
      assert.equal(verdict.worst, undefined)
    }
  }
})
