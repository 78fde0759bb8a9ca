/** Claims that a trusted proxy has verified, and tokens that are revoked. */
import assert from 'node:assert/strict'
import { suite, test, type TestContext } from 'node:test'
import type { ReadRevoked, Revoked } from '../src/auth/jwt/revocations.ts'
import { isRefusal } from '../src/core/refusal.ts'
import { until } from './support/client.ts'
import {
  claimsAt,
  encode,
  fromServer,
  goodToken,
  issuer,
  KeyServer,
  keysSeen,
  nameOf,
  signingKey,
  startTokens,
  StepClock,
} from './support/issuer.ts'

const ec = signingKey('ES256', 'ec')
const alice = `${issuer}/alice`

suite('claims that a proxy hands over', () => {
  const start = async (t: TestContext) => {
    const started = await startTokens(
      t,
      fromServer(await KeyServer.start(t, []), {}, { payloadHeader: 'x-jwt-payload' }),
    )
    const identify = (payload: string) => {
      const found = started.tokens.identifyPayload(payload)
      return isRefusal(found) ? started.faults.at(-1)! : found
    }
    return { ...started, identify }
  }

  test('name a caller, padded or not, without a key of the issuer', async (t) => {
    const { identify, clock } = await start(t)
    for (const sub of ['a', 'ab', 'abc']) {
      const payload = encode(claimsAt(clock, { sub }))
      const padded = payload.padEnd(4 * Math.ceil(payload.length / 4), '=')
      assert.equal(nameOf(identify(payload)), `${issuer}/${sub}`)
      assert.equal(nameOf(identify(padded)), `${issuer}/${sub}`)
      assert.equal(identify(payload), identify(payload), 'one object')
    }
  })

  test('are checked like those of a token', async (t) => {
    const { identify, clock } = await start(t)
    const { seconds: now } = clock
    const whole = ['a', 'ab', 'abc']
      .map((sub) => encode(claimsAt(clock, { sub })))
      .find(({ length }) => length % 4 === 0)!
    const bad: readonly [string, string][] = [
      [encode(claimsAt(clock, { iss: 'https://evil.example.com' })), 'issuer'],
      [encode(claimsAt(clock, { aud: 'billing' })), 'audience'],
      [encode(claimsAt(clock, { iat: now - 700, exp: now - 31 })), 'expired'],
      [encode(claimsAt(clock, { exp: undefined })), 'lifetime'],
      [encode(claimsAt(clock, { nbf: now + 31 })), 'early'],
      [encode(claimsAt(clock, { sub: '' })), 'claims'],
      [encode(claimsAt(clock, { filler: 'x'.repeat(8_192) })), 'malformed'],
      [encode([claimsAt(clock)]), 'malformed'],
      [JSON.stringify(claimsAt(clock)), 'malformed'],
      [`${encode(claimsAt(clock))}, ${encode(claimsAt(clock))}`, 'malformed'],
      [goodToken(ec, claimsAt(clock)), 'malformed'],
      [`${whole}A`, 'malformed'],
      ['', 'malformed'],
      ['===', 'malformed'],
    ]
    for (const [payload, fault] of bad) assert.equal(nameOf(identify(payload)), fault)
  })

  test('expire', async (t) => {
    const { identify, clock } = await start(t)
    const payload = encode(claimsAt(clock))
    assert.equal(nameOf(identify(payload)), alice)
    clock.pass(630_000)
    assert.equal(identify(payload), 'expired')
    clock.step(-630_000)
    assert.equal(identify(payload), 'expired')
  })

  test('are no token, nor is a token such claims', async (t) => {
    const { identify, show, clock } = await start(t)
    const payload = encode(claimsAt(clock))
    assert.equal(nameOf(identify(payload)), alice)
    assert.equal(await show(payload), 'malformed')
  })
})

/** A list of revocations that can be changed, and can fail. */
class List {
  members: readonly Revoked[] = []
  reads = 0
  asked: readonly number[] = []
  how: 'read' | 'fail' | 'hang' = 'read'
  read: ReadRevoked = (...asked) => {
    this.reads++
    this.asked = asked
    if (this.how === 'hang') return new Promise(() => undefined)
    return this.how === 'fail' ? Promise.reject(new Error('down')) : Promise.resolve(this.members)
  }
}

suite('a token is revoked', () => {
  const start = async (t: TestContext, list: List, settings: object = {}) => {
    const clock = new StepClock()
    const revocation = { everyMs: 5_000, staleMs: 60_000, ...settings }
    const options = fromServer(await KeyServer.start(t, [ec.jwk]), {}, { revocation, payloadHeader: 'x' })
    const started = await startTokens(t, options, { clock, readRevoked: list.read })
    await keysSeen(started)
    const next = async () => {
      clock.pass(5_000)
      await until('the list was read', () => Promise.resolve(started.tokens.state.revocationsAgeS === 0))
    }
    return { ...started, next }
  }
  const later = (clock: StepClock) => clock.seconds + 3_600

  test('by its id, also when it is known, and until the list says so', async (t) => {
    const list = new List()
    const { show, clock, next, tokens } = await start(t, list)
    const [bad, good] = ['1', '2'].map((jti) => goodToken(ec, claimsAt(clock, { jti }))) as [string, string]
    const fresh = goodToken(ec, claimsAt(clock, { jti: '1', tenant: 'not seen before' }))
    assert.equal(nameOf(await show(bad)), alice)
    list.members = [[`jti:${issuer}/1`, clock.seconds + 60]]
    await next()
    assert.equal(await show(bad), 'revoked')
    assert.equal(await show(fresh), 'revoked')
    assert.equal(nameOf(await show(good)), alice)
    const refusal = await tokens.identify(`Bearer ${bad}`, 'a peer')
    assert.equal(isRefusal(refusal) && refusal.status, 401)
    clock.step(55_000)
    assert.equal(nameOf(await show(bad)), alice)
    list.members = []
    await next()
    assert.equal(nameOf(await show(bad)), alice)
  })

  test('with all of its subject, and only of its issuer, also as claims from a proxy', async (t) => {
    const list = new List()
    const { show, clock, next, tokens, faults } = await start(t, list)
    const [one, two, bob] = [{}, { jti: 'x' }, { sub: 'bob' }].map((changes) => goodToken(ec, claimsAt(clock, changes)))
    list.members = [
      [`sub:${issuer}/alice`, later(clock)],
      ['sub:https://other.example.com/bob', later(clock)],
    ]
    await next()
    assert.equal(await show(one!), 'revoked')
    assert.equal(await show(two!), 'revoked')
    assert.equal(nameOf(await show(bob!)), `${issuer}/bob`)
    assert.ok(isRefusal(tokens.identifyPayload(encode(claimsAt(clock)))))
    assert.equal(faults.at(-1), 'revoked')
  })

  test('and the list is asked for what has not run out, within a bound', async (t) => {
    const list = new List()
    const { clock, next } = await start(t, list)
    await next()
    assert.deepEqual(list.asked, [clock.seconds, 20_001])
  })

  for (const how of ['fail', 'hang'] as const) {
    test(`or cannot be told from others, when the list has not been read for long: ${how}`, async (t) => {
      const list = new List()
      const { show, clock, problems, tokens } = await start(t, list)
      const token = goodToken(ec, claimsAt(clock))
      list.how = how
      const secondsPass = (what: string, holds: (ageS: number) => boolean) =>
        until(what, () => {
          clock.pass(1_000)
          return Promise.resolve(holds(tokens.state.revocationsAgeS!))
        })
      await secondsPass('it is a little old', (ageS) => ageS >= 59)
      assert.equal(nameOf(await show(token)), alice)
      await secondsPass('it is old', (ageS) => ageS >= 60)
      assert.equal(await show(token), 'revocations_unavailable')
      const refusal = await tokens.identify(`Bearer ${token}`, 'a peer')
      assert.equal(isRefusal(refusal) && refusal.code, 'not_ready')
      assert.equal(problems.length, 1, 'reported once')
      list.how = 'read'
      await secondsPass('it was read again', (ageS) => ageS < 10)
      assert.equal(nameOf(await show(token)), alice)
    })
  }

  test('as the last list has it, where that is what an outage is to mean', async (t) => {
    const list = new List()
    const { show, clock, next } = await start(t, list, { onError: 'allow' })
    const [bad, good] = ['1', '2'].map((jti) => goodToken(ec, claimsAt(clock, { jti }))) as [string, string]
    list.members = [[`jti:${issuer}/1`, later(clock)]]
    await next()
    list.how = 'fail'
    clock.pass(61_000)
    assert.equal(await show(bad), 'revoked')
    assert.equal(nameOf(await show(good)), alice)
  })

  test('or may be, when the list is too long to be kept', async (t) => {
    const list = new List()
    list.members = Array.from({ length: 20_001 }, (_, i) => [`jti:${issuer}/${i}`, 2e9] as const)
    const { show, clock, problems } = await start(t, list)
    assert.equal(await show(goodToken(ec, claimsAt(clock))), 'revocations_unavailable')
    assert.match(problems[0]!, /more than 20000/)
  })
})
