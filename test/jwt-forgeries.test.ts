/** Tokens that somebody has made up or bent: none gets in, and each is refused for the right reason. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { jwtVerify } from 'jose'
import { isRefusal, Refusal } from '../src/core/refusal.ts'
import { wholeFile } from './support/client.ts'
import { drawFrom } from './support/draw.ts'
import { folderWith } from './support/gateway.ts'
import {
  claimsAt,
  encode,
  goodToken,
  KeyServer,
  fromServer,
  nameOf,
  signingKey,
  startTokens,
  StepClock,
  tokenOf,
} from './support/issuer.ts'

const clock = new StepClock()
const [rsa, ec, stranger] = [signingKey('RS256', 'rsa'), signingKey('ES256', 'ec'), signingKey('ES256', 'ec')]
const server = await KeyServer.start(wholeFile, [rsa.jwk, ec.jwk])
const requiring = { requiredClaims: ['tenant'], algorithms: ['RS256', 'ES256'] }
const options = fromServer(server, requiring, { maxFailuresPerMinute: 10_000 })
const { tokens, faults, show } = await startTokens(wholeFile, options, { clock })

const claims = claimsAt(clock, { tenant: 'clinic' })
const { seconds: now } = clock
const good = goodToken(ec, claims)
const [head, body, signature] = good.split('.') as [string, string, string]
const head256 = { alg: 'ES256', kid: 'ec' }
const by = { alg: 'ES256', key: ec.privateKey }
const byStranger = { alg: 'ES256', key: stranger.privateKey }
const pem = rsa.publicKey.export({ format: 'pem', type: 'spki' })
const attacker = await KeyServer.start(wholeFile, [stranger.jwk])

/** Signed by the issuer itself, with other claims. */
const saying = (changes: Record<string, unknown>) => goodToken(ec, { ...claims, ...changes })
const written = (text: string) => tokenOf(head256, text, by)
const headed = (changes: Record<string, unknown>, key = by) => tokenOf({ ...head256, ...changes }, claims, key)
const text = JSON.stringify(claims)

const forgeries: Readonly<Record<string, readonly [token: string, fault: string]>> = {
  'no algorithm, no signature': [`${encode({ alg: 'none' })}.${body}.`, 'malformed'],
  'no algorithm, some signature': [`${encode({ alg: 'none' })}.${body}.${signature}`, 'algorithm'],
  'no algorithm in odd letters': [`${encode({ alg: 'nOnE', kid: 'ec' })}.${body}.${signature}`, 'algorithm'],
  'an algorithm that is no text': [headed({ alg: ['ES256'] }), 'malformed'],
  'an algorithm that objects inherit': [headed({ alg: 'toString' }), 'algorithm'],
  'HMAC with the public key in PEM': [
    tokenOf({ alg: 'HS256', kid: 'rsa' }, claims, { alg: 'HS256', key: Buffer.from(pem) }),
    'algorithm',
  ],
  'HMAC that says it is RSA': [
    tokenOf({ alg: 'RS256', kid: 'rsa' }, claims, { alg: 'HS256', key: Buffer.from(pem) }),
    'signature',
  ],
  'an algorithm that is good and not allowed': [
    tokenOf({ alg: 'RS512', kid: 'rsa' }, claims, { alg: 'RS512', key: rsa.privateKey }),
    'algorithm',
  ],
  'the key of another algorithm': [headed({ kid: 'rsa' }), 'key'],
  'the signature of a stranger': [headed({}, byStranger), 'signature'],
  'the signature of another token': [`${head}.${encode({ ...claims, sub: 'root' })}.${signature}`, 'signature'],
  'a signature in DER': [
    `${head}.${body}.${Buffer.from('3006020101020101', 'hex').toString('base64url')}`,
    'signature',
  ],
  'a signature of zeros': [`${head}.${body}.${Buffer.alloc(64).toString('base64url')}`, 'signature'],
  'a key that is brought along': [headed({ jwk: stranger.jwk }, byStranger), 'signature'],
  'a key that is brought along, without a kid': [
    headed({ kid: undefined, jwk: stranger.jwk }, byStranger),
    'signature',
  ],
  'an address of keys': [headed({ jku: attacker.url }, byStranger), 'signature'],
  'an address of certificates': [headed({ x5u: attacker.url }, byStranger), 'signature'],
  certificates: [headed({ x5c: ['MIIB'], x5t: 'x' }, byStranger), 'signature'],
  'a kid that is a path': [headed({ kid: '../../../../dev/null' }), 'key'],
  'a kid that is SQL': [headed({ kid: "x' UNION SELECT 'secret" }), 'key'],
  'a kid of kilobytes': [headed({ kid: 'k'.repeat(4_000) }), 'key'],
  'a kid that objects inherit': [headed({ kid: '__proto__' }), 'key'],
  'a kid that is no text': [headed({ kid: { length: 1 } }), 'malformed'],
  'an extension that must be understood': [headed({ crit: ['exp'], exp: now + 600 }), 'malformed'],
  'an unencoded payload': [headed({ crit: ['b64'], b64: false }), 'malformed'],
  'an unencoded payload that need not be understood': [headed({ b64: false }), 'malformed'],
  'another type': [headed({ typ: 'dpop+jwt' }), 'type'],
  'a type that says it is none': [headed({ typ: 'none' }), 'type'],
  expired: [saying({ iat: now - 700, exp: now - 31 }), 'expired'],
  'not valid yet': [saying({ nbf: now + 31 }), 'early'],
  'made in the future, so as to be short': [saying({ iat: now + 86_400 * 365, exp: now + 86_400 * 365 + 60 }), 'early'],
  'valid for years': [saying({ exp: now + 86_400 * 3_650 }), 'lifetime'],
  'valid for years, and silent about its age': [saying({ iat: undefined, exp: now + 86_400 * 3_650 }), 'lifetime'],
  'valid for ever': [saying({ exp: undefined }), 'lifetime'],
  'an end in text': [saying({ exp: String(now + 600) }), 'claims'],
  'an end that is no number': [saying({ exp: null }), 'claims'],
  'an end beyond numbers': [written(text.replace(/"exp":\d+/, '"exp":1e999')), 'claims'],
  'an end that is NaN': [written(text.replace(/"exp":\d+/, '"exp":NaN')), 'malformed'],
  'a beginning in text': [saying({ nbf: '0' }), 'claims'],
  'an age in text': [saying({ iat: '0' }), 'claims'],
  'another audience': [saying({ aud: 'billing' }), 'audience'],
  'a longer audience': [saying({ aud: 'penstock-admin' }), 'audience'],
  'other audiences': [saying({ aud: ['billing', ['penstock'], { penstock: 1 }] }), 'audience'],
  'no audience': [saying({ aud: undefined }), 'audience'],
  'another issuer': [saying({ iss: 'https://evil.example.com' }), 'issuer'],
  'the issuer with a slash': [saying({ iss: `${claims.iss}/` }), 'issuer'],
  issuers: [saying({ iss: [claims.iss] }), 'issuer'],
  'no issuer': [saying({ iss: undefined }), 'issuer'],
  'no subject': [saying({ sub: undefined }), 'claims'],
  'an empty subject': [saying({ sub: '' }), 'claims'],
  'a subject that is a number': [saying({ sub: 7 }), 'claims'],
  'a subject with a line break': [saying({ sub: 'alice\nlevel=error' }), 'claims'],
  'a subject of kilobytes': [saying({ sub: 's'.repeat(1_000) }), 'claims'],
  'a tenant that is a list': [saying({ tenant: ['a', 'b'] }), 'claims'],
  'a tenant that is null': [saying({ tenant: null }), 'claims'],
  'a required claim that is missing': [saying({ tenant: undefined }), 'claims'],
  'scopes by the thousand': [saying({ scope: 'a '.repeat(1_000) }), 'claims'],
  'scopes that are no text': [saying({ scope: [['models']] }), 'claims'],
  'a scope that is null': [saying({ scope: null }), 'claims'],
  'a profile that is a number': [saying({ profile: 1 }), 'claims'],
  'the issuer twice, the right one first': [
    written(`{"iss":"${claims.iss}",${text.slice(1, -1)},"iss":"x"}`),
    'issuer',
  ],
  'a list of claims': [written(`[${text}]`), 'malformed'],
  'null for claims': [written('null'), 'malformed'],
  'claims that are text': [written('"claims"'), 'malformed'],
  'claims that are no JSON': [written('{exp:1}'), 'malformed'],
  'claims that are not UTF-8': [
    `${head}.${Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]).toString('base64url')}.${signature}`,
    'malformed',
  ],
  'claims nested without end': [written('['.repeat(2_500)), 'malformed'],
  'a head that is a list': [tokenOf([head256], claims, by), 'malformed'],
  'too long': [saying({ filler: 'x'.repeat(8_192) }), 'malformed'],
  'two parts': [`${head}.${body}`, 'malformed'],
  'four parts': [`${good}.${signature}`, 'malformed'],
  'five parts, encrypted': [`${good}.${body}.${signature}`, 'malformed'],
  padding: [`${head}=.${body}.${signature}`, 'malformed'],
  'base64 of the other kind': [`${head}.${body}+.${signature}`, 'malformed'],
  'a length that no bytes have': [
    `${head}.${'a'.repeat(1 + 4 * Math.ceil(body.length / 4))}.${signature}`,
    'malformed',
  ],
  'a space within': [good.replace('.', ' .'), 'malformed'],
  'a second token': [`${good} ${good}`, 'malformed'],
  'two fields in one': [`${good}, Bearer ${good}`, 'malformed'],
  'letters beyond ASCII': [`${good}\u00e9`, 'malformed'],
  'a line break': [`${good}\n`, 'malformed'],
  nothing: ['', 'malformed'],
}

suite('a token is refused that', () => {
  for (const [name, [token, fault]] of Object.entries(forgeries)) {
    test(`has or is: ${name}`, async () => {
      assert.equal(nameOf(await show(token)), fault)
      assert.equal(nameOf(await show(token)), fault, 'the second time')
    })
  }
})

test('the token from which they are all made gets in', async () => {
  assert.equal(nameOf(await show(good)), 'https://login.example.com/alice')
})

test('what can be seen without its key is looked at first: no signature is verified', () => {
  const after = new Set(['signature', 'key'])
  for (const [name, [token, fault]] of Object.entries(forgeries)) {
    // The same but for its signature, so that it was not seen before.
    const found = tokens.identify(`Bearer ${token}AAAA`, name)
    assert.ok(isRefusal(found) || after.has(fault), name)
  }
})

test('nothing that a token brings along is fetched', async () => {
  await show(headed({ jku: attacker.url, x5u: attacker.url, kid: 'ec' }, byStranger))
  assert.equal(attacker.requests, 0)
})

test('a refusal challenges the client and repeats nothing of the token', async () => {
  for (const [token] of Object.values(forgeries)) {
    const refusal = await tokens.identify(`Bearer ${token}`, 'a peer')
    assert.ok(isRefusal(refusal))
    assert.equal(refusal.status, 401)
    assert.deepEqual(refusal.head, ['www-authenticate', 'Bearer realm="penstock", error="invalid_token"'])
    assert.doesNotMatch(refusal.message, /alice|clinic|login|ES256|eyJ/)
  }
})

test('another scheme is refused, and the letters of this one do not matter', async () => {
  for (const field of [`Basic ${good}`, good, `Bearer${good}`, `DPoP ${good}`, '']) {
    assert.ok((await tokens.identify(field, 'a peer')) instanceof Refusal)
    assert.equal(faults.at(-1), 'scheme')
  }
  for (const field of [`bearer ${good}`, `BEARER  ${good}`]) {
    assert.ok(!isRefusal(await tokens.identify(field, 'a peer')))
  }
})

test('any bit of a token that is changed makes it bad', async () => {
  const bytes = Buffer.from(signature, 'base64url')
  for (let bit = 0; bit < 8 * bytes.length; bit += 7) {
    const bent = Buffer.from(bytes)
    bent[bit >> 3]! ^= 1 << (bit & 7)
    assert.equal(await show(`${head}.${body}.${bent.toString('base64url')}`), 'signature')
  }
  for (let at = 0; at < head.length + 1 + body.length; at += 5) {
    const letter = good[at] === 'A' ? 'B' : 'A'
    assert.equal(typeof (await show(good.slice(0, at) + letter + good.slice(at + 1))), 'string')
  }
})

test('of random tokens none gets in that jose would refuse with the same terms', async (t) => {
  const key = Buffer.from('a secret that is long enough, of 40 bytes')
  const folder = await folderWith({ secret: key })
  const common = { issuer: claims.iss, audiences: ['penstock', 'other'], requiredClaims: ['tenant'], types: ['JWT'] }
  const shared = { kind: 'secret', ...common, secretFile: join(folder, 'secret') }
  const own = await startTokens(t, { issuers: [shared], maxFailuresPerMinute: 100_000 }, { clock })
  const draw = drawFrom(6)
  const mostly = (usual: unknown, ...others: readonly unknown[]) => (draw(4) > 0 ? usual : others[draw(others.length)])
  const odd = [now, now - 29, now + 29, now - 31, now + 31, now + 600, now + 0.5, now - 30, '1', null, 1e9, undefined]
  const outcomes = { in: 0, out: 0 }
  for (let i = 0; i < 4_000; i++) {
    const top = {
      alg: 'HS256',
      typ: mostly('JWT', 'jwt', 'application/jwt', 'x', undefined),
      crit: mostly(undefined, []),
    }
    const said = {
      iss: mostly(claims.iss, 'x', [claims.iss], undefined),
      aud: mostly('penstock', ['x', 'other'], ['x'], 'x', [['penstock']], {}, undefined),
      sub: mostly('alice', '', 7),
      tenant: mostly('clinic', null, undefined),
      exp: mostly(now + 600, ...odd),
      nbf: mostly(undefined, ...odd),
      iat: mostly(undefined, ...odd),
    }
    const token = tokenOf(top, said, { alg: 'HS256', key })
    const found = await own.show(token, `peer ${i}`)
    outcomes[typeof found === 'string' ? 'out' : 'in']++
    if (typeof found === 'string') continue
    await jwtVerify(token, key, {
      algorithms: ['HS256'],
      issuer: common.issuer,
      audience: common.audiences,
      typ: 'JWT',
      clockTolerance: 30,
      currentDate: new Date(clock.epoch()),
      requiredClaims: ['exp', 'tenant'],
    })
  }
  assert.ok(outcomes.in > 400 && outcomes.out > 1_000, JSON.stringify(outcomes))
})
