/** Weighted rendezvous hashing: who else hashes gets the same arms, and no more units move than must. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import xxhash from 'xxhash-wasm'
import { Assignment, type AssignedArm } from '../src/routing/assignment.ts'
import { drawFrom } from './support/draw.ts'

const salt = 'digits-2026'
const hashes = await xxhash()

function armsOf(weights: readonly number[]): AssignedArm[] {
  return weights.map((weight, i) => ({ id: `arm-${i}`, weight }))
}

function assignment(weights: readonly number[], hash: 'xxh64' | 'hmac-sha256' = 'xxh64'): Assignment {
  return new Assignment({ salt, hash, arms: armsOf(weights) })
}

const arms = [
  { id: 'stable', weight: 5 },
  { id: 'canary', weight: 3 },
  { id: 'next', weight: 2 },
]

/**
 * For implementations elsewhere: of a unit, the arm by xxh64, the hash behind `uniform('shadow 2', unit)`, the arm by
 * hmac-sha256. Made with the reference implementation of XXH64 and with OpenSSL, by another program.
 */
const vectors: readonly (readonly [unit: string, byXxh64: string, hash: bigint, byHmac: string])[] = [
  ['alice', 'stable', 0xa3d2feaad1a1b434n, 'canary'],
  ['bob', 'canary', 0x0d9cdfe823a76d6bn, 'canary'],
  ['', 'next', 0x3fcb8bc8d044d9f6n, 'stable'],
  ['0', 'stable', 0x1b6cb4f2ba8a1628n, 'stable'],
  ['x'.repeat(200), 'canary', 0x5a0813b27b6568a9n, 'next'],
  ['https://login.example.com/alice', 'next', 0x88845163d9c14182n, 'next'],
  ['key:robot', 'canary', 0x74eb327a07947ab5n, 'stable'],
  ['zoë', 'stable', 0x19e483cec3d14c8bn, 'stable'],
  ['日本語', 'stable', 0x572b8f2d8fea3afcn, 'canary'],
  ['🐧', 'stable', 0x60cbf12198b0b218n, 'next'],
  ['a\u001F29640000', 'stable', 0xba0489c2ce42cf1cn, 'canary'],
  ['user-1', 'next', 0x8a4d2bc68e85175bn, 'stable'],
  ['user-2', 'next', 0xf5071a7c67176c33n, 'stable'],
  ['user-3', 'next', 0x873dbb8a594594b5n, 'canary'],
  ['user-4', 'stable', 0xc5b0a694184caf6dn, 'stable'],
  ['user-5', 'next', 0x962e651c34f904b4n, 'stable'],
  ['user-6', 'stable', 0x59b13126a55719f5n, 'next'],
  ['user-7', 'canary', 0x64ca1d8e74daf9e8n, 'canary'],
  ['user-8', 'stable', 0x3f5b507238268d0bn, 'stable'],
  ['user-12', 'stable', 0x686a2ad5d368837dn, 'stable'],
]

test('arms are as an independent implementation has them', () => {
  const xxh64 = new Assignment({ salt, hash: 'xxh64', arms })
  const hmac = new Assignment({ salt, hash: 'hmac-sha256', arms })
  for (const [unit, byXxh64, , byHmac] of vectors) {
    assert.equal(arms[xxh64.pick(unit)]?.id, byXxh64, `xxh64 of ${unit}`)
    assert.equal(arms[hmac.pick(unit)]?.id, byHmac, `hmac-sha256 of ${unit}`)
  }
})

test('draws are as an independent implementation has them, to the last of 53 bits', () => {
  const made = new Assignment({ salt, hash: 'xxh64', arms })
  for (const [unit, , hash] of vectors)
    assert.equal(made.uniform('shadow 2', unit), (Number(hash >> 11n) + 0.5) / 2 ** 53, unit)
})

test('units of any length are hashed, in whatever order they come', () => {
  const used = assignment([5, 3, 2])
  const bytes = ['a', 'é', '語', '🐧']
  const lengths = [1, 300, 5_000, 2, 340, 1_000, 0, 20_000, 3, 341, 1_020]
  for (const length of [...lengths, ...lengths.toReversed()]) {
    for (const unit of bytes.map((each) => each.repeat(length))) {
      const fresh = assignment([5, 3, 2])
      const purpose = 'p'.repeat(length % 700)
      assert.equal(used.uniform(purpose, unit), fresh.uniform(purpose, unit))
      assert.equal(used.pick(unit), fresh.pick(unit))
      assert.equal(used.uniform(purpose, unit), uniformOf(['S', salt, unit, purpose]))
    }
  }
})

function uniformOf(parts: readonly string[]): number {
  return (Number(hashes.h64(parts.join('')) >> 11n) + 0.5) / 2 ** 53
}

test('units are assigned by weight, within what chance allows', () => {
  const count = 200_000
  for (const [hash, weights, units] of [
    ['xxh64', [95, 5], count],
    ['xxh64', [0.34, 0.33, 0.33], count],
    ['xxh64', [1, 2, 3, 4, 0.01], count],
    ['xxh64', [1e6, 1e6 / 3], count],
    ['hmac-sha256', [7, 2, 1], 30_000],
  ] as const) {
    const made = assignment(weights, hash)
    const counts = countsOf(made, weights.length, units)
    for (const [i, got] of counts.entries()) {
      const p = made.share(i)
      const deviations = (got - units * p) / Math.sqrt(units * p * (1 - p))
      assert.ok(Math.abs(deviations) < 4, `${hash} ${weights.join(':')}: arm ${i} has ${got}, ${deviations} deviations`)
    }
  }
})

function countsOf(made: Assignment, kinds: number, units: number): number[] {
  const counts = Array.from({ length: kinds }, () => 0)
  for (let i = 0; i < units; i++) counts[made.pick(`user-${i}`)]!++
  return counts
}

test('no more units move than new weights ask for', () => {
  const count = 100_000
  for (const [before, after] of [
    [
      [0.34, 0.33, 0.33],
      [0.5, 0.25, 0.25],
    ],
    [
      [0.9, 0.05, 0.05],
      [0.8, 0.1, 0.1],
    ],
    [
      [95, 5],
      [90, 10],
    ],
    [
      [95, 5, 0],
      [90, 5, 5],
    ],
  ] as const) {
    const [old, renewed] = [assignment(before), assignment(after)]
    let moved = 0
    for (let i = 0; i < count; i++) if (old.pick(`user-${i}`) !== renewed.pick(`user-${i}`)) moved++
    const least = [0, 1, 2].reduce((sum, i) => sum + Math.max(0, renewed.share(i) - old.share(i)), 0)
    assert.ok(moved / count < least * 1.05, `${before.join(':')}: ${moved} of ${count}, ${least} at the least`)
    assert.ok(moved / count > least * 0.95, `${before.join(':')}: ${moved} of ${count}, ${least} at the least`)
  }
})

test('an arm that grows loses nobody, and one that shrinks gains nobody', () => {
  const [old, renewed] = [assignment([90, 7, 3]), assignment([80, 17, 3])]
  for (let i = 0; i < 20_000; i++) {
    const [from, to] = [old.pick(`user-${i}`), renewed.pick(`user-${i}`)]
    if (from === 1) assert.equal(to, 1)
    if (to === 0) assert.equal(from, 0)
  }
})

test('a rollback and a second try give the same units', () => {
  const [first, none, second] = [assignment([95, 5]), assignment([100, 0]), assignment([9.5, 0.5])]
  for (let i = 0; i < 5_000; i++) {
    assert.equal(none.pick(`user-${i}`), 0)
    assert.equal(second.pick(`user-${i}`), first.pick(`user-${i}`))
  }
})

test('arms may be in any order', () => {
  const [made, turned] = [arms, arms.toReversed()].map((each) => new Assignment({ salt, hash: 'xxh64', arms: each }))
  for (let i = 0; i < 5_000; i++) assert.equal(made!.pick(`user-${i}`), 2 - turned!.pick(`user-${i}`))
})

test('an arm without a weight is never picked, and one alone always', () => {
  const made = assignment([0, 3, 0, 1])
  const alone = assignment([0, 0, 1e-6])
  for (let i = 0; i < 5_000; i++) {
    assert.ok([1, 3].includes(made.pick(`user-${i}`)))
    assert.equal(alone.pick(`user-${i}`), 2)
  }
})

test('the smallest and the largest of numbers are weights like others', () => {
  const [tiny, plain] = [assignment([1e-320, 1e-320]), assignment([1, 1])]
  for (let i = 0; i < 1_000; i++) assert.equal(tiny.pick(`user-${i}`), plain.pick(`user-${i}`))
  const apart = assignment([5e-324, 1e6])
  for (let i = 0; i < 1_000; i++) assert.equal(apart.pick(`user-${i}`), 1)
})

test('another salt assigns independently', () => {
  const [one, other] = ['a', 'b'].map((each) => new Assignment({ salt: each, hash: 'xxh64', arms: armsOf([1, 1]) }))
  let same = 0
  for (let i = 0; i < 20_000; i++) if (one!.pick(`user-${i}`) === other!.pick(`user-${i}`)) same++
  assert.ok(Math.abs(same - 10_000) < 4 * Math.sqrt(5_000), `${same}`)
})

test('draws for another purpose are independent of arms and of each other', () => {
  for (const hash of ['xxh64', 'hmac-sha256'] as const) {
    const made = assignment([1, 1], hash)
    let [withArm, withOther, low] = [0, 0, 0]
    const count = 10_000
    for (let i = 0; i < count; i++) {
      const unit = `user-${i}`
      const isLow = made.uniform('arm-0', unit) < 0.5
      if (isLow) low++
      if (isLow === (made.pick(unit) === 0)) withArm++
      if (isLow === made.uniform('other', unit) < 0.5) withOther++
    }
    for (const found of [low, withArm, withOther])
      assert.ok(Math.abs(found - count / 2) < 4 * Math.sqrt(count / 4), `${hash}: ${found}`)
  }
})

test('shares are weights by their sum, and 1 for all together', () => {
  const draw = drawFrom(3)
  for (let round = 0; round < 200; round++) {
    const weights = Array.from({ length: 1 + draw(16) }, () => draw(1_000) / 7)
    weights[0]! += 0.1
    const total = weights.reduce((sum, weight) => sum + weight, 0)
    const made = assignment(weights)
    for (const [i, weight] of weights.entries()) assert.ok(Math.abs(made.share(i) - weight / total) < 1e-12)
    assert.equal(made.share(...weights.keys()), 1)
  }
  assert.equal(assignment([1]).share(7), 0)
})

test('without any weight the first arm stands, and has no share', () => {
  const made = assignment([0, 0])
  assert.deepEqual([made.pick('alice'), made.share(0), made.share(0, 1)], [0, 0, 0])
})
