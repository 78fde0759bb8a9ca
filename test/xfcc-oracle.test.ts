/** Random headers of proxies, of which a second reading has to say the same as ours. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isRefusal } from '../src/core/refusal.ts'
import { isSpiffeId } from '../src/core/spiffe.ts'
import { identityFrom, parseXfcc, type XfccElement } from '../src/auth/xfcc.ts'
import { drawFrom } from './support/draw.ts'
import {
  drawHeader,
  elementsOf,
  isGoodId,
  mutate,
  nameByRules,
  pick,
  readByGrammar,
  type Named,
  type Pairs,
} from './support/xfcc.ts'

const ids = [
  'spiffe://cluster.local/ns/edge/sa/gateway',
  'spiffe://cluster.local/ns/edge/sa/second',
  'spiffe://cluster.local/ns/ml/sa/client',
  'spiffe://x/../admin',
  'SPIFFE://x/admin',
]
const trusted = ids.slice(0, 2)
const self = ids[2]!

/** In the order of the names, as the second reading sorts them. */
function sorted(elements: readonly XfccElement[]): Pairs[] {
  return elements.map((each) => Object.entries(each).flatMap(([name, values]) => values.map((v) => [name, v] as const)))
}

function inOrder(elements: readonly Pairs[]): Pairs[] {
  const names = ['by', 'hash', 'cert', 'chain', 'subject', 'uri', 'dns']
  return elements.map((pairs) => pairs.toSorted(([a], [b]) => names.indexOf(a) - names.indexOf(b)))
}

function nameOf(elements: readonly XfccElement[], own?: string): Named {
  const found = identityFrom(elements, { trustedProxies: new Set(trusted), self: own })
  if (found === undefined) return 'nobody'
  return isRefusal(found) ? 'refused' : { ...found.client, peer: found.peer }
}

/** Counts how often each outcome came, so that a test cannot pass by drawing one kind only. */
function compare(text: string, why: string, seen: Map<string, number>): void {
  const read = parseXfcc(text)
  const expected = readByGrammar(text)
  if (typeof read === 'string') {
    assert.equal(expected, undefined, `${why}: refused as "${read}"`)
    seen.set('broken', (seen.get('broken') ?? 0) + 1)
    return
  }
  assert.ok(expected, `${why}: read, though it is not of the grammar`)
  assert.deepEqual(sorted(read), inOrder(expected), why)
  for (const own of [undefined, self]) {
    const named = nameOf(read, own)
    assert.deepEqual(named, nameByRules(expected, trusted, own), `${why}, self ${own}`)
    const kind =
      typeof named === 'string' ? named : named.spiffe ? 'spiffe' : named.commonName ? 'common name' : 'nameless'
    seen.set(kind, (seen.get(kind) ?? 0) + 1)
  }
}

function haveCome(seen: ReadonlyMap<string, number>, ...kinds: readonly string[]): void {
  for (const kind of kinds) assert.ok((seen.get(kind) ?? 0) > 20, `only ${seen.get(kind)} of kind "${kind}"`)
}

test('5,000 headers drawn from the grammar are read as they were meant', () => {
  const seen = new Map<string, number>()
  for (let seed = 0; seed < 5_000; seed++) {
    const { text, elements } = drawHeader(drawFrom(seed), ids)
    const why = `seed ${seed}: ${JSON.stringify(text)}`
    assert.deepEqual(sorted(elementsOf(text, why)), inOrder(elements), why)
    compare(text, why, seen)
  }
  haveCome(seen, 'spiffe', 'common name', 'nameless', 'nobody', 'refused')
})

test('10,000 headers with changes that a client could make are read as a second reader does, or refused by both', () => {
  const seen = new Map<string, number>()
  for (let seed = 100_000; seed < 110_000; seed++) {
    const draw = drawFrom(seed)
    const text = mutate(draw, drawHeader(draw, ids).text, 1 + draw(3))
    compare(text, `seed ${seed}: ${JSON.stringify(text)}`, seen)
  }
  haveCome(seen, 'broken', 'spiffe', 'common name', 'nameless', 'nobody', 'refused')
})

test('10,000 strings of nothing but hostile pieces are read as a second reader does, or refused by both', () => {
  const seen = new Map<string, number>()
  const pieces = [
    'URI=',
    'uri=',
    'Subject=',
    'By=',
    '"',
    '\\',
    '\\"',
    ',',
    ';',
    '=',
    ' ',
    'spiffe://x/a',
    'CN=a',
    '\t',
    'é',
    '',
  ]
  for (let seed = 200_000; seed < 210_000; seed++) {
    const draw = drawFrom(seed)
    const text = `${pick(draw, ['', 'URI=', 'Subject="'])}${Array.from({ length: draw(8) }, () => pick(draw, pieces)).join('')}`
    compare(text, `seed ${seed}: ${JSON.stringify(text)}`, seen)
  }
  haveCome(seen, 'broken', 'spiffe', 'nameless', 'refused')
})

test('10,000 names near SPIFFE ids are told from good ones as a second reader does', () => {
  const pieces = [
    'spiffe://',
    'spiffe:/',
    'SPIFFE://',
    'x',
    'a.b',
    '/',
    '/a',
    '/A_9',
    '/..',
    '/.',
    '..',
    '%2e',
    '?',
    '#',
    ' ',
    '\n',
    'é',
    ':1',
  ]
  const seen = { good: 0, bad: 0 }
  for (let seed = 0; seed < 10_000; seed++) {
    const draw = drawFrom(seed)
    const id = `${pick(draw, ['spiffe://', 'spiffe://x', 'spiffe://x/a', ''])}${Array.from({ length: draw(5) }, () => pick(draw, pieces)).join('')}`
    assert.equal(isSpiffeId(id), isGoodId(id), `seed ${seed}: ${JSON.stringify(id)}`)
    seen[isSpiffeId(id) ? 'good' : 'bad']++
  }
  assert.ok(seen.good > 500 && seen.bad > 500, JSON.stringify(seen))
})
