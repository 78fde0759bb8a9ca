/** What is assigned as a whole, and what counts as having no such thing. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { unitOf, type ClaimingCaller } from '../src/routing/unit.ts'

const terms = { epochMs: 1_800_000_059_999, draw: '4711' }
const alice: ClaimingCaller = { name: 'https://login.example.com/alice', claims: { plan: 'gold' } }
const byRequest = { key: '4711', kind: 'request' }

function call(headers: Record<string, string | string[]> = {}) {
  return { headers, requestId: 'chosen-by-the-client' }
}

test('a request is a unit by the number that the gateway drew, not by the one that a client may choose', () => {
  assert.deepEqual(unitOf({ by: 'request' }, call(), alice, terms), byRequest)
})

test('all of a caller is a unit', () => {
  assert.deepEqual(unitOf({ by: 'caller' }, call(), alice, terms), { key: alice.name, kind: 'caller' })
})

test('who is nobody is assigned by request', () => {
  const nobody: ClaimingCaller = { name: '', claims: {} }
  assert.deepEqual(unitOf({ by: 'caller', windowS: 60 }, call(), nobody, terms), byRequest)
})

test('a caller that is known by its address only is a unit too', () => {
  const stranger: ClaimingCaller = { name: '192.0.2.1', claims: {} }
  assert.deepEqual(unitOf({ by: 'caller' }, call(), stranger, terms), { key: '192.0.2.1', kind: 'caller' })
})

test('a claim makes a unit, and who has not got it is assigned by request', () => {
  assert.deepEqual(unitOf({ by: 'claim', name: 'plan' }, call(), alice, terms), { key: 'gold', kind: 'claim' })
  assert.deepEqual(unitOf({ by: 'claim', name: 'team' }, call(), alice, terms), byRequest)
  assert.deepEqual(unitOf({ by: 'claim', name: 'plan' }, call(), { name: 'key:robot', claims: {} }, terms), byRequest)
})

test('what every object inherits is no claim and no header', () => {
  for (const name of ['constructor', 'toString', '__proto__']) {
    assert.deepEqual(unitOf({ by: 'claim', name }, call(), alice, terms), byRequest)
    assert.deepEqual(unitOf({ by: 'header', name }, call(), alice, terms), byRequest)
  }
})

test('a header makes a unit, and an empty, long, repeated or missing one does not', () => {
  const of = (value: string | string[]) =>
    unitOf({ by: 'header', name: 'x-user' }, call({ 'x-user': value }), alice, terms)
  assert.deepEqual(of('u1'), { key: 'u1', kind: 'header' })
  assert.deepEqual(of('u'.repeat(256)), { key: 'u'.repeat(256), kind: 'header' })
  assert.deepEqual(of('u'.repeat(257)), byRequest)
  assert.deepEqual(of(''), byRequest)
  assert.deepEqual(of(['u1']), byRequest)
  assert.deepEqual(unitOf({ by: 'header', name: 'x-user' }, call(), alice, terms), byRequest)
})

test('a long claim stands for nobody', () => {
  const long: ClaimingCaller = { ...alice, claims: { plan: 'p'.repeat(257) } }
  assert.deepEqual(unitOf({ by: 'claim', name: 'plan' }, call(), long, terms), byRequest)
})

test('with a window a unit keeps its key until the window ends', () => {
  const at = (epochMs: number) => unitOf({ by: 'caller', windowS: 60 }, call(), alice, { ...terms, epochMs }).key
  assert.equal(at(1_800_000_059_999), `${alice.name}\u001F30000000`)
  assert.equal(at(1_800_000_000_000), at(1_800_000_059_999))
  assert.equal(at(1_800_000_060_000), `${alice.name}\u001F30000001`)
})

test('a request has a number of its own in every window', () => {
  assert.deepEqual(unitOf({ by: 'header', name: 'x-user', windowS: 60 }, call(), alice, terms), byRequest)
})
