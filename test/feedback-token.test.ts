/** The id of a prediction: whatever is signed is read again, and nothing else is. */
import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { test } from 'node:test'
import { PredictionTokens, type PredictionFacts } from '../src/experiments/feedback/token.ts'
import { drawFrom, seeded } from './support/draw.ts'

const keys = [1, 2, 3].map((byte) => Buffer.alloc(32, byte))
const tokens = new PredictionTokens(keys.slice(0, 1))

const facts: PredictionFacts = {
  model: 'fraud',
  version: '8',
  arm: 'canary',
  share: 0.05,
  generation: 42,
  epochMs: 1_790_000_000_123,
  tenant: 'red',
  unit: '0123456789abcdef',
  nonce: 'fedcba9876543210',
}

function signed(given: Partial<PredictionFacts> = {}): string {
  const token = tokens.sign({ ...facts, ...given })
  assert.ok(token !== undefined)
  return token
}

/** A good signature on whatever bytes. */
function sealed(bytes: Buffer): string {
  const mac = createHmac('sha256', keys[0]!).update(bytes).digest().subarray(0, 16)
  return Buffer.concat([bytes, mac]).toString('base64url')
}

const bodyOf = (token: string) => Buffer.from(token, 'base64url').subarray(0, -16)

test('facts of every kind are read as they were signed', () => {
  const draw = drawFrom(1)
  const next = seeded(2)
  const text = (most: number) => String.fromCodePoint(...Array.from({ length: draw(most) }, () => 32 + draw(0xd000)))
  const word = () => Array.from({ length: 16 }, () => draw(16).toString(16)).join('')
  for (let i = 0; i < 2_000; i++) {
    const given = {
      model: text(20),
      version: text(10),
      arm: text(20),
      share: next(),
      generation: draw(2 ** 53),
      epochMs: draw(2 ** 43),
      tenant: text(20),
      unit: word(),
      nonce: word(),
    }
    assert.deepEqual(tokens.verify(tokens.sign(given)!), given)
  }
})

test('a share is kept to the last bit', () => {
  for (const share of [0, 1, 1 / 3, 0.1 + 0.2, Number.MIN_VALUE, 1 - Number.EPSILON / 2])
    assert.equal(tokens.verify(signed({ share }))?.share, share)
})

test('the layout is that of version 1, and the signature that of HMAC-SHA-256', () => {
  const [share, generation, epochMs] = [facts.share, facts.generation, facts.epochMs].map((value) => {
    const bytes = Buffer.alloc(8)
    bytes.writeDoubleBE(value)
    return bytes
  }) as [Buffer, Buffer, Buffer]
  const words = Buffer.from(facts.unit + facts.nonce, 'hex')
  const head = Buffer.from([1, 5, 1, 6, 3])
  const body = Buffer.concat([head, share, generation, epochMs, words, Buffer.from('fraud8canaryred')])
  assert.equal(signed(), sealed(body))
})

test('a token with any single bit changed is refused', () => {
  const bytes = Buffer.from(signed(), 'base64url')
  for (let bit = 0; bit < 8 * bytes.length; bit++) {
    const changed = Buffer.from(bytes)
    changed[bit >> 3]! ^= 1 << (bit & 7)
    assert.equal(tokens.verify(changed.toString('base64url')), undefined, `bit ${bit}`)
  }
})

test('a token that is cut or made longer is refused', () => {
  const token = signed()
  for (let length = 0; length < token.length; length++) assert.equal(tokens.verify(token.slice(0, length)), undefined)
  for (const more of ['A', 'AA', 'AAA', 'AAAA', '=', '.', '\n']) assert.equal(tokens.verify(token + more), undefined)
})

test('a token has one spelling', () => {
  // With 62 bytes of four characters to three the last one has bits that decoding leaves out.
  const token = ['', 'a', 'aa'].map((tenant) => signed({ tenant })).find(({ length }) => length % 4 === 2)!
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
  const last = alphabet.indexOf(token.at(-1)!)
  const other = token.slice(0, -1) + alphabet[last ^ 1]!
  assert.deepEqual(Buffer.from(other, 'base64url'), Buffer.from(token, 'base64url'))
  assert.equal(tokens.verify(other), undefined)
  let seen = 0
  for (let i = 0; i < 50; i++) {
    const each = signed({ nonce: i.toString(16).padStart(16, 'f') })
    const standard = each.replaceAll('-', '+').replaceAll('_', '/')
    if (standard !== each) seen++
    assert.equal(tokens.verify(standard) !== undefined, standard === each)
    for (const spelled of [` ${each}`, `${each}==`, `${each.slice(0, 9)}\n${each.slice(9)}`, `${each}\u0100`])
      assert.equal(tokens.verify(spelled), undefined)
  }
  assert.ok(seen > 20)
})

test('what is signed by the key but does not add up is refused', () => {
  const body = bodyOf(signed())
  const cases: [why: string, change: (bytes: Buffer) => Buffer][] = [
    ['another layout', (bytes) => bytes.fill(2, 0, 1)],
    ['a byte too many', (bytes) => Buffer.concat([bytes, Buffer.from('x')])],
    ['a byte too few', (bytes) => bytes.subarray(0, -1)],
    ['texts beyond the end', (bytes) => bytes.fill(255, 1, 5)],
    ['a share above 1', (bytes) => (bytes.writeDoubleBE(1.5, 5), bytes)],
    ['a share below 0', (bytes) => (bytes.writeDoubleBE(-0.1, 5), bytes)],
    ['a share that is no number', (bytes) => (bytes.writeDoubleBE(Number.NaN, 5), bytes)],
    ['half a generation', (bytes) => (bytes.writeDoubleBE(0.5, 13), bytes)],
    ['a time before all times', (bytes) => (bytes.writeDoubleBE(-1, 21), bytes)],
    ['nothing but the head', (bytes) => bytes.subarray(0, 5)],
  ]
  assert.deepEqual(tokens.verify(sealed(body)), facts)
  for (const [why, change] of cases) assert.equal(tokens.verify(sealed(change(Buffer.from(body)))), undefined, why)
})

test('the first key signs, all verify, and a key that is gone does not', () => {
  const [old, both, fresh] = [keys.slice(0, 1), [keys[1]!, keys[0]!], keys.slice(1, 2)].map(
    (each) => new PredictionTokens(each),
  ) as [PredictionTokens, PredictionTokens, PredictionTokens]
  const before = old.sign(facts)!
  assert.deepEqual(both.verify(before), facts)
  assert.equal(fresh.verify(before), undefined)
  const after = both.sign(facts)!
  assert.equal(after, fresh.sign(facts))
  assert.equal(old.verify(after), undefined)
})

test('there is a key, and none is short', () => {
  assert.throws(() => new PredictionTokens([]), RangeError)
  assert.throws(() => new PredictionTokens([keys[0]!, Buffer.alloc(15)]), RangeError)
  assert.ok(new PredictionTokens([Buffer.alloc(16)]))
})

test('a token is 512 characters at most, and facts that need more get none', () => {
  const longest = { model: 'm'.repeat(100), version: 'v', arm: 'a', tenant: 't'.repeat(221) }
  assert.equal(signed(longest).length, 512)
  assert.equal(tokens.verify(signed(longest))?.tenant, longest.tenant)
  assert.equal(tokens.sign({ ...facts, ...longest, arm: 'ab' }), undefined)
  assert.equal(tokens.sign({ ...facts, tenant: 't'.repeat(256) }), undefined)
  assert.equal(tokens.verify(signed({ tenant: 't'.repeat(255) }))?.tenant.length, 255)
  assert.equal(tokens.sign({ ...facts, tenant: '\u00e9'.repeat(128) }), undefined)
  const body = Buffer.concat([bodyOf(signed(longest)), Buffer.from('x')])
  body[2] = 2
  assert.equal(sealed(body).length, 514)
  assert.equal(tokens.verify(sealed(body)), undefined)
})

test('facts that could not be read as they are get no token', () => {
  const wrong: Partial<PredictionFacts>[] = [
    { share: Number.NaN },
    { share: 1.1 },
    { share: -1 },
    { generation: -1 },
    { generation: 2 ** 53 },
    { epochMs: 0.5 },
    { unit: '0123' },
    { unit: '0123456789ABCDEF' },
    { nonce: '0123456789abcdef0' },
    { tenant: '\ud800' },
  ]
  for (const each of wrong) assert.equal(tokens.sign({ ...facts, ...each }), undefined, JSON.stringify(each))
})

test('a token that was given out stays as it is when the next is signed', () => {
  const first = signed()
  signed({ model: 'another', tenant: 'blue' })
  assert.deepEqual(tokens.verify(first), facts)
})
