/** Which arm a request goes to, and what a split in the configuration may say. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readDocument, showMistake } from '../src/core/document.ts'
import { splitMistake, splitOptions } from '../src/routing/split-options.ts'
import { Split, type Choice, type SplitSetup } from '../src/routing/split.ts'
import type { ClaimingCaller } from '../src/routing/unit.ts'

const arms = { stable: { version: '1', weight: 95 }, canary: { version: '2', weight: 5 } }
const alice: ClaimingCaller = { name: 'key:alice', claims: {} }

function splitOf(options: object = {}, more: Partial<SplitSetup> = {}): Split {
  return new Split({ options: splitOptions.parse({ arms, ...options }), salt: 'digits', generation: 3, ...more })
}

interface Asked {
  readonly caller?: ClaimingCaller
  readonly headers?: Record<string, string | string[]>
  readonly route?: string
  readonly draw?: string
  readonly force?: string
  readonly may?: (version: string) => boolean
}

function ask(split: Split, asked: Asked = {}): Choice | string {
  const { caller = alice, headers = {}, route = 'digits', draw = '1', force, may = () => true } = asked
  return split.choose({ headers }, caller, route, { epochMs: 0, draw, force, may })
}

function chosen(split: Split, asked: Asked = {}): Choice {
  const choice = ask(split, asked)
  assert.ok(typeof choice !== 'string')
  return choice
}

function outcomes(split: Split, asked: Asked = {}, count = 500): Map<string, number> {
  const found = new Map<string, number>()
  for (let i = 0; i < count; i++) {
    const { arm, decision, share } = chosen(split, { ...asked, draw: String(i) })
    const outcome = `${arm} ${decision} ${share}`
    found.set(outcome, (found.get(outcome) ?? 0) + 1)
  }
  return found
}

function outcomesOf(split: Split, asked?: Asked): string[] {
  return [...outcomes(split, asked).keys()].toSorted()
}

test('a choice says the arm, its version, its probability and what was assigned', () => {
  const caller = { ...alice, name: 'key:bob' }
  assert.deepEqual(chosen(splitOf({ unit: { by: 'caller' } }), { caller }), {
    arm: 'stable',
    version: '1',
    decision: 'weight',
    share: 0.95,
    generation: 3,
    unit: 'key:bob',
    unitKind: 'caller',
  })
})

test('requests are drawn by weight, each with the probability of its arm', () => {
  const found = outcomes(splitOf(), {}, 20_000)
  assert.deepEqual([...found.keys()].toSorted(), ['canary weight 0.05', 'stable weight 0.95'])
  const canary = found.get('canary weight 0.05')!
  assert.ok(Math.abs(canary - 1_000) < 4 * Math.sqrt(950), `${canary}`)
})

test('a caller keeps its arm, whatever it sends', () => {
  const split = splitOf({
    unit: { by: 'caller' },
    arms: { a: { version: '1', weight: 1 }, b: { version: '2', weight: 1 } },
  })
  const kinds = new Set<string>()
  for (let i = 0; i < 50; i++) {
    const found = outcomesOf(split, { caller: { ...alice, name: `key:${i}` } })
    assert.equal(found.length, 1)
    kinds.add(found[0]!)
  }
  assert.deepEqual([...kinds].toSorted(), ['a weight 0.5', 'b weight 0.5'])
})

test('the order of arms in the file is of no matter', () => {
  const equal = { a: { version: '1', weight: 1 }, b: { version: '2', weight: 1 }, c: { version: '3', weight: 1 } }
  const turned = Object.fromEntries(Object.entries(equal).toReversed())
  const [one, other] = [splitOf({ arms: equal }), splitOf({ arms: turned })]
  const may = (version: string) => version !== '2'
  for (let i = 0; i < 500; i++) {
    const asked = { draw: String(i), may }
    assert.deepEqual(chosen(one, asked), chosen(other, asked))
  }
})

test('the salt is what makes a split', () => {
  const draws = (salt: string) => {
    const split = splitOf({ arms: { a: arms.stable, b: { ...arms.canary, weight: 95 } } }, { salt })
    return Array.from({ length: 64 }, (_, i) => chosen(split, { draw: String(i) }).arm).join('')
  }
  assert.equal(draws('digits'), draws('digits'))
  assert.notEqual(draws('digits'), draws('letters'))
})

test('a rule holds for who fits all that it names, and nobody else', () => {
  const match = { headers: { 'x-beta': 'yes' }, claims: { plan: 'gold' }, callers: ['key:*'], routes: ['digits'] }
  const split = splitOf({ arms: { ...arms, canary: { version: '2', weight: 0 } }, rules: [{ match, arm: 'canary' }] })
  const caller = { ...alice, claims: { plan: 'gold' } }
  const headers = { 'x-beta': 'yes' }
  assert.deepEqual(outcomesOf(split, { caller, headers }), ['canary rule 1'])
  for (const other of [
    { caller, headers: { 'x-beta': 'no' } },
    { caller, headers: { 'x-beta': ['yes'] } },
    { caller },
    { caller: alice, headers },
    { caller: { ...caller, claims: { plan: 'golden' } }, headers },
    { caller: { ...caller, name: 'mtls:alice' }, headers },
    { caller, headers, route: 'other' },
  ])
    assert.deepEqual(outcomesOf(split, other), ['stable weight 1'], JSON.stringify(other))
})

test('the first rule that fits holds', () => {
  const rules = [
    { match: { callers: ['key:bob'] }, arm: 'stable' },
    { match: { callers: ['key:*'] }, arm: 'canary' },
    { match: { callers: ['**'] }, arm: 'stable' },
  ]
  const split = splitOf({ rules })
  assert.deepEqual(outcomesOf(split), ['canary rule 1'])
  assert.deepEqual(outcomesOf(split, { caller: { ...alice, name: 'key:bob' } }), ['stable rule 1'])
})

test('a forced arm goes before rules', () => {
  const split = splitOf({ rules: [{ match: { callers: ['**'] }, arm: 'stable' }] })
  assert.deepEqual(outcomesOf(split, { force: 'canary' }), ['canary forced 1'])
})

test('who forces an arm that there is not is told those that it may use', () => {
  const split = splitOf()
  assert.equal(ask(split, { force: 'beta' }), 'there is no such arm; there are canary, stable')
  const may = (version: string) => version === '1'
  assert.equal(ask(split, { force: 'canary', may }), 'there is no such arm; there are stable')
  assert.equal(ask(split, { force: 'constructor', may: () => false }), 'there is no such arm')
})

test('who may not use the version of an arm is kept at the default arm, with a probability of 1', () => {
  const may = (version: string) => version === '1'
  assert.deepEqual(outcomesOf(splitOf(), { may }), ['stable kept 1', 'stable weight 1'])
  const rules = [{ match: { callers: ['**'] }, arm: 'canary' }]
  assert.deepEqual(outcomesOf(splitOf({ rules }), { may }), ['stable kept 1'])
})

test('who may not use the default arm either is kept at the largest that is left', () => {
  const four = { a: { version: '1', weight: 60 }, b: { version: '2', weight: 10 }, c: { version: '3', weight: 30 } }
  const may = (version: string) => version !== '1'
  assert.deepEqual(outcomesOf(splitOf({ arms: four }), { may }), ['b weight 0.1', 'c kept 0.9', 'c weight 0.9'])
})

test('who may use no arm goes to the default one, where it is refused', () => {
  const may = () => false
  assert.deepEqual(outcomesOf(splitOf({ default: 'canary' }), { may }), ['canary default 1'])
  const rules = [{ match: { callers: ['**'] }, arm: 'stable' }]
  assert.deepEqual(outcomesOf(splitOf({ rules }), { may }), ['stable default 1'])
})

test('the share of an arm that was rolled back goes to the default arm, and nobody else moves', () => {
  const three = { a: { version: '1', weight: 50 }, b: { version: '2', weight: 30 }, c: { version: '3', weight: 20 } }
  const [before, after] = [splitOf({ arms: three }), splitOf({ arms: three }, { rolledBack: new Set(['b']) })]
  for (let i = 0; i < 500; i++) {
    const draw = String(i)
    const { arm } = chosen(before, { draw })
    assert.equal(chosen(after, { draw }).arm, arm === 'b' ? 'a' : arm)
  }
  assert.deepEqual(outcomesOf(after), ['a kept 0.8', 'a weight 0.8', 'c weight 0.2'])
  assert.deepEqual(
    [...after.shares()],
    [
      ['a', 0.8],
      ['b', 0],
      ['c', 0.2],
    ],
  )
})

test('neither a rule nor a client brings back an arm that was rolled back', () => {
  const rules = [{ match: { callers: ['**'] }, arm: 'canary' }]
  const split = splitOf({ rules }, { rolledBack: new Set(['canary']) })
  assert.deepEqual(outcomesOf(split), ['stable kept 1'])
  assert.deepEqual(outcomesOf(split, { force: 'canary' }), ['stable kept 1'])
})

test('an arm that was rolled back is not where others are kept, even the default one', () => {
  const split = splitOf({ default: 'canary' }, { rolledBack: new Set(['canary']) })
  assert.deepEqual(outcomesOf(split), ['stable kept 1', 'stable weight 1'])
})

test('shares are those of weights', () => {
  assert.deepEqual(
    [...splitOf().shares()],
    [
      ['canary', 0.05],
      ['stable', 0.95],
    ],
  )
})

test('a shadow gets its share of requests, and never the version that answers', () => {
  const shadows = [
    { version: '2', share: 0.2 },
    { version: '3', share: 0.5 },
    { version: '4', share: 1 },
    { version: '5', share: 0 },
  ]
  const split = splitOf({ shadows, unit: { by: 'caller' } })
  const counts = new Map<string, number>()
  const count = 10_000
  let both = 0
  for (let i = 0; i < count; i++) {
    const found = split.shadowsFor({ version: '1', unit: alice.name }, String(i))
    for (const each of found) counts.set(each, (counts.get(each) ?? 0) + 1)
    if (found.includes('2') && found.includes('3')) both++
  }
  for (const [found, p] of [
    [counts.get('2')!, 0.2],
    [counts.get('3')!, 0.5],
    [both, 0.1],
  ] as const)
    assert.ok(Math.abs(found - count * p) < 4 * Math.sqrt(count * p * (1 - p)), `${found} for ${p}`)
  assert.deepEqual([counts.get('4'), counts.get('5')], [count, undefined])
  const others = Array.from({ length: 200 }, (_, i) => split.shadowsFor({ version: '2', unit: 'u' }, String(i)))
  assert.ok(others.every((each) => !each.includes('2')) && others.some((each) => each.includes('3')))
})

test('without a draw all requests of a unit have the same shadows', () => {
  const split = splitOf({ shadows: [{ version: '2', share: 0.5 }] })
  const found = Array.from({ length: 100 }, (_, i) => split.shadowsFor({ version: '1', unit: `u${i}` }).length)
  assert.deepEqual(new Set(found), new Set([0, 1]))
  assert.deepEqual(split.shadowsFor({ version: '1', unit: 'u1' }), split.shadowsFor({ version: '1', unit: 'u1' }))
})

test('with hmac-sha256 another salt is another secret', () => {
  const made = (hash: string, salt: string) => {
    const even = { a: arms.stable, b: { ...arms.canary, weight: 95 } }
    const split = splitOf({ hash, arms: even }, { salt })
    return Array.from({ length: 64 }, (_, i) => chosen(split, { draw: String(i) }).arm).join('')
  }
  assert.notEqual(made('hmac-sha256', 'a'), made('hmac-sha256', 'b'))
  assert.notEqual(made('hmac-sha256', 'a'), made('xxh64', 'a'))
})

test('a split that says nothing but its arms is by request, and by weight', () => {
  const rest = { unit: { by: 'request' }, hash: 'xxh64', rules: [], shadows: [] }
  assert.deepEqual(splitOptions.parse({ arms }), { arms, ...rest })
})

/** In YAML, without the arms; and what is said about it. */
const mistakes: readonly (readonly [text: string, message: string])[] = [
  ['rules: [{ match: { callers: ["key:*"] }, arm: beta }]', 'rules[0].arm: expected one of the arms canary, stable'],
  ['default: constructor', 'default: expected one of the arms canary, stable'],
  [
    'rules: [{ match: {}, arm: stable }]',
    'rules[0].match: expected headers, claims, callers or routes: as it is, it would be for everybody',
  ],
  [
    'rules: [{ match: { claims: {} }, arm: stable }]',
    'rules[0].match: expected headers, claims, callers or routes: as it is, it would be for everybody',
  ],
  [
    'rules: [{ match: { claims: { age: 3 } }, arm: stable }]',
    'rules[0].match.claims.age: expected a text, in quotes, found 3',
  ],
  ['unit: { by: claim }', 'unit.name: is missing: expected string'],
  ['unit: { by: header, name: X-User }', 'unit.name: expected the name of a header in lower case, found "X-User"'],
  ['unit: { by: caller, windowS: 0 }', 'unit.windowS: too small: expected number to be >=1, found 0'],
  ['unit: { by: request, windowS: 60 }', 'unit: unknown key "windowS"'],
  ['hash: md5', 'hash: expected one of "xxh64"|"hmac-sha256", found "md5"'],
  ['salt: ""', 'salt: expected a text, found ""'],
  ['shadows: [{ version: "2", share: 1.5 }]', 'shadows[0].share: expected a share from 0 to 1, found 1.5'],
  ['shadows: [{ version: 2, share: 1 }]', 'shadows[0].version: expected a version or an alias, in quotes, found 2'],
  [
    'shadows: [{ version: "2", share: 1 }, { version: "2", share: 0.1 }]',
    'shadows[1].version: another shadow has this version',
  ],
]

test('mistakes in the configuration are told in plain words, with the place', () => {
  const given = 'arms: { stable: { version: "1", weight: 95 }, canary: { version: "2", weight: 5 } }\n'
  for (const [text, message] of mistakes) {
    const read = readDocument('split.yaml', given + text, splitOptions)
    assert.ok('mistakes' in read, text)
    assert.deepEqual(read.mistakes.map(showMistake), [`split.yaml:2: ${message}`])
  }
})

test('weights that are no weights are mistakes, by whatever way they come', () => {
  const canary = (weight: unknown) =>
    splitMistake({ ...splitOptions.parse({ arms }), arms: { ...arms, canary: { version: '2', weight } } })
  assert.equal(canary(1e6), undefined)
  assert.equal(canary(0), undefined)
  for (const weight of [Number.NaN, -1, Infinity, -Infinity, 1e6 + 1, '5', undefined])
    assert.equal(canary(weight), 'arms.canary.weight: expected a weight from 0 to 1000000', String(weight))
})

test('a split needs arms, not too many, and one with a weight', () => {
  const of = (all: object) => splitMistake({ arms: all })
  const many = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, i) => [`arm-${i}`, arms.stable]))
  const empty = readDocument('split.yaml', 'arms: {}', splitOptions)
  assert.ok('mistakes' in empty)
  assert.deepEqual(empty.mistakes.map(showMistake), ['split.yaml:1: arms: expected at least one arm'])
  assert.equal(of(many(16)), undefined)
  assert.equal(of(many(17)), 'arms: expected at most 16 arms')
  assert.equal(of({ a: { version: '1', weight: 0 } }), 'arms: expected a weight above 0 for at least one arm')
})

test('rules, shadows and what they match are bounded', () => {
  const rule = { match: { callers: ['**'] }, arm: 'stable' }
  const rules = (count: number) => splitMistake({ arms, rules: Array.from({ length: count }, () => rule) })
  assert.deepEqual([rules(64), rules(65)], [undefined, 'rules: expected at most 64 rules'])
  const shadow = (_: unknown, i: number) => ({ version: String(i), share: 1 })
  const shadows = (count: number) => splitMistake({ arms, shadows: Array.from({ length: count }, shadow) })
  assert.deepEqual([shadows(4), shadows(5)], [undefined, 'shadows: expected at most 4 shadows'])
  const headers = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, i) => [`x-${i}`, 'yes']))
  const matched = (count: number) =>
    splitMistake({ arms, rules: [{ match: { headers: headers(count) }, arm: 'stable' }] })
  assert.deepEqual([matched(16), matched(17)], [undefined, 'rules.0.match.headers: expected at most 16 names'])
})

test('an edit that names an arm that is not there is a mistake', () => {
  assert.equal(splitMistake({ arms, default: 'beta' }), 'default: expected one of the arms canary, stable')
  assert.equal(splitMistake(undefined), 'expected object, received undefined')
})
