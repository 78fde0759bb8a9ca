/** What becomes of good tokens: who they name, how long they are good for, and what they cost. */
import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { suite, test, type TestContext } from 'node:test'
import { Tokens } from '../src/auth/jwt/tokens.ts'
import { jwtOptions, withFiles } from '../src/auth/jwt/options.ts'
import { systemClock } from '../src/core/clock.ts'
import { isRefusal } from '../src/core/refusal.ts'
import { until } from './support/client.ts'
import { folderWith } from './support/gateway.ts'
import {
  audience,
  claimsAt,
  fromServer,
  goodToken,
  issuer,
  KeyServer,
  keysSeen,
  nameOf,
  signingKey,
  startTokens,
  tokenOf,
} from './support/issuer.ts'

const alice = `${issuer}/alice`
const [ec, rsa] = [signingKey('ES256', 'ec'), signingKey('RS256', 'rsa')]

async function withKeys(t: TestContext, keys: readonly unknown[], settings: object = {}, common: object = {}) {
  const started = await startTokens(t, fromServer(await KeyServer.start(t, keys), settings, common))
  await keysSeen(started)
  const mint = (changes: Record<string, unknown> = {}, key = ec) => goodToken(key, claimsAt(started.clock, changes))
  return { ...started, mint }
}

suite('a token gets in that is signed with', () => {
  for (const alg of [
    'RS256',
    'RS384',
    'RS512',
    'PS256',
    'PS384',
    'PS512',
    'ES256',
    'ES384',
    'ES512',
    'EdDSA',
    'Ed25519',
  ]) {
    test(alg, async (t) => {
      const key = signingKey(alg, 'k')
      const { alg: _any, ...withoutAlgorithm } = key.jwk
      const pinned = await withKeys(t, [key.jwk])
      const free = await withKeys(t, [withoutAlgorithm])
      assert.equal(nameOf(await pinned.show(pinned.mint({}, key))), alice)
      assert.equal(nameOf(await free.show(free.mint({}, key))), alice)
      const narrow = await withKeys(t, [key.jwk, ec.jwk, rsa.jwk], {
        algorithms: [alg === 'ES256' ? 'RS256' : 'ES256'],
      })
      assert.equal(nameOf(await narrow.show(narrow.mint({}, key))), 'algorithm')
    })
  }
})

test('claims say tenant, subject, scopes and profile, under their usual names', async (t) => {
  const { show, mint } = await withKeys(t, [ec.jwk])
  assert.deepEqual(await show(mint({ tenant: 'clinic', scope: 'models  admin', profile: 'brief' })), {
    name: alice,
    method: 'jwt',
    tenant: 'clinic',
    subject: 'alice',
    scopes: ['models', 'admin'],
    // For splits, whatever is a plain value of the caller's and not of the token itself.
    claims: { iss: issuer, aud: audience, sub: 'alice', tenant: 'clinic', scope: 'models  admin', profile: 'brief' },
    spiffe: undefined,
    profile: 'brief',
  })
  const plain = { name: `${issuer}/bob`, method: 'jwt', tenant: '', subject: 'bob', scopes: [], spiffe: undefined }
  const claims = { iss: issuer, aud: audience, sub: 'bob', tall: 'true', age: '7' }
  const odd = { sub: 'bob', tall: true, age: 7, list: ['a'], nested: { a: 1 }, empty: null, long: 'x'.repeat(300) }
  assert.deepEqual(await show(mint(odd)), { ...plain, claims, profile: undefined })
})

test('claims may have other names, with slashes and dots, or be nested', async (t) => {
  const claims = { tenant: 'https://example.com/org.name', subject: 'client_id', scopes: ['realm', 'roles'] }
  const { show, mint } = await withKeys(t, [ec.jwk], { claims })
  const token = mint({ 'https://example.com/org.name': 'x', client_id: 'robot', realm: { roles: ['a b', 'c'] } })
  const found = await show(token)
  assert.ok(typeof found !== 'string')
  const { name, tenant, subject, scopes } = found
  assert.deepEqual(
    { name, tenant, subject, scopes },
    { name: `${issuer}/robot`, tenant: 'x', subject: 'robot', scopes: ['a b', 'c'] },
  )
  assert.equal(nameOf(await show(mint({ client_id: 'robot', realm: 7, tenant: 'x' }))), `${issuer}/robot`)
  assert.equal(nameOf(await show(mint({ realm: { roles: [] } }))), 'claims')
})

test('types are the same in any letters and without `application/`, and may be narrowed', async (t) => {
  const { show, clock } = await withKeys(t, [ec.jwk])
  const narrow = await withKeys(t, [ec.jwk], { types: ['at+jwt'] })
  const typed = (typ: string | undefined) =>
    tokenOf({ alg: 'ES256', kid: 'ec', typ }, claimsAt(clock), { alg: 'ES256', key: ec.privateKey })
  for (const typ of ['JWT', 'jwt', 'at+jwt', 'application/AT+JWT', undefined])
    assert.equal(nameOf(await show(typed(typ))), alice)
  assert.equal(nameOf(await narrow.show(typed('application/at+jwt'))), alice)
  for (const typ of ['JWT', undefined]) assert.equal(nameOf(await narrow.show(typed(typ))), 'type')
})

test('one of several audiences is enough', async (t) => {
  const { show, mint } = await withKeys(t, [ec.jwk], { audiences: ['a', 'b'] })
  assert.equal(nameOf(await show(mint({ aud: ['x', 'b'] }))), alice)
  assert.equal(nameOf(await show(mint({ aud: ['x', 'y'] }))), 'audience')
})

test('a token that names no key gets in if just one can have signed it', async (t) => {
  const other = signingKey('ES256', 'other')
  const [one, two] = [await withKeys(t, [ec.jwk, rsa.jwk]), await withKeys(t, [ec.jwk, other.jwk])]
  const token = tokenOf({ alg: 'ES256' }, claimsAt(one.clock), { alg: 'ES256', key: ec.privateKey })
  assert.equal(nameOf(await one.show(token)), alice)
  assert.equal(nameOf(await two.show(token)), 'key')
})

test('issuers keep to their own keys, and nobody can take the name of a subject of another', async (t) => {
  const [outer, inner] = [signingKey('ES256', 'k'), signingKey('ES256', 'k')]
  const [a, b] = [await KeyServer.start(t, [outer.jwk]), await KeyServer.start(t, [inner.jwk])]
  const [first] = fromServer(a, { issuer: 'https://x' }).issuers
  const [second] = fromServer(b, { issuer: 'https://x/realm' }).issuers
  const { show, clock } = await startTokens(t, { issuers: [first, second] })
  const from = (key: typeof outer, iss: string, sub: string) => show(goodToken(key, claimsAt(clock, { iss, sub })))
  assert.equal(nameOf(await from(inner, 'https://x/realm', 'root')), 'https://x/realm/root')
  assert.equal(nameOf(await from(outer, 'https://x', 'a/b')), 'https://x/a/b')
  assert.equal(nameOf(await from(outer, 'https://x', 'realm/root')), 'claims')
  assert.equal(nameOf(await from(outer, 'https://x/realm', 'root')), 'signature')
})

test('a token that was seen is known at once, as the same caller', async (t) => {
  const { tokens, mint } = await withKeys(t, [ec.jwk])
  const field = `Bearer ${mint()}`
  const first = tokens.identify(field, 'a')
  assert.ok(first instanceof Promise)
  const caller = await first
  assert.equal(tokens.identify(field, 'b'), caller)
  assert.equal(tokens.identify(field, 'a'), caller)
  const { hits, misses } = tokens.state
  assert.deepEqual({ hits, misses }, { hits: 2, misses: 1 })
})

test('many requests at once with one new token cost one verification', async (t) => {
  const { tokens, show, mint } = await withKeys(t, [ec.jwk])
  await show(mint())
  const field = `Bearer ${mint({ sub: 'bob' })}`
  const all = Array.from({ length: 50 }, () => Promise.resolve(tokens.identify(field, 'a')))
  assert.equal(tokens.state.verifying, 1)
  assert.equal(new Set(await Promise.all(all)).size, 1)
  assert.equal(tokens.state.verifying, 0)
})

test('more verifications at once than allowed are refused for now; what is known gets in meanwhile', async (t) => {
  const { tokens, show, faults, mint } = await withKeys(
    t,
    [ec.jwk],
    {},
    { maxVerifications: 2, maxFailuresPerMinute: 1 },
  )
  const known = mint()
  await show(known)
  const [one, two, three] = ['1', '2', '3'].map((sub) => tokens.identify(`Bearer ${mint({ sub })}`, 'a'))
  assert.ok(!isRefusal(tokens.identify(`Bearer ${known}`, 'a')))
  const refusal = await three
  assert.ok(isRefusal(refusal))
  assert.deepEqual([refusal.code, refusal.status, refusal.retryAfterS, faults.at(-1)], ['overloaded', 503, 1, 'busy'])
  assert.ok(!isRefusal(await one) && !isRefusal(await two))
  assert.equal(nameOf(await show(mint({ sub: '3' }), 'a')), `${issuer}/3`)
})

test('a flood of bad tokens costs its sender the right to show new ones, and nobody else', async (t) => {
  const { tokens, show, clock, mint } = await withKeys(t, [ec.jwk], {}, { maxFailuresPerMinute: 6 })
  const stranger = signingKey('ES256', 'ec')
  const known = mint()
  await show(known, 'flood')
  for (let i = 0; i < 6; i++) assert.equal(await show(mint({ sub: `${i}` }, stranger), 'flood'), 'signature')
  const refusal = await tokens.identify(`Bearer ${mint({ sub: 'x' }, stranger)}`, 'flood')
  assert.ok(isRefusal(refusal))
  assert.deepEqual([refusal.code, refusal.status, refusal.retryAfterS], ['rate_limited', 429, 10])
  assert.ok(isRefusal(tokens.identify(`Bearer ${mint({ sub: 'new' })}`, 'flood')), 'unseen, good or bad')
  assert.equal(nameOf(await show(known, 'flood')), alice)
  assert.equal(nameOf(await show(mint({ sub: 'new' }), 'another')), `${issuer}/new`)
  clock.pass(10_000)
  assert.equal(nameOf(await show(mint({ sub: 'newer' }), 'flood')), `${issuer}/newer`)
})

test('a bad token is not verified again for five seconds', async (t) => {
  const { tokens, show, clock, mint } = await withKeys(t, [ec.jwk])
  const token = mint({}, signingKey('ES256', 'ec'))
  assert.equal(await show(token), 'signature')
  assert.ok(isRefusal(tokens.identify(`Bearer ${token}`, 'another')))
  clock.pass(5_000)
  const again = tokens.identify(`Bearer ${token}`, 'another')
  assert.ok(again instanceof Promise)
  assert.ok(isRefusal(await again))
})

suite('a known token ends', () => {
  test('when it expires, and the skew of clocks later', async (t) => {
    const { show, clock, mint } = await withKeys(t, [ec.jwk], { skewS: 30 })
    const token = mint()
    assert.equal(nameOf(await show(token)), alice)
    clock.pass(629_999)
    assert.equal(nameOf(await show(token)), alice)
    clock.pass(1)
    assert.equal(await show(token), 'expired')
  })

  test('no later when the wall clock is set back', async (t) => {
    const { show, clock, mint } = await withKeys(t, [ec.jwk])
    const token = mint()
    await show(token)
    clock.pass(300_000)
    clock.step(-400_000)
    assert.equal(await show(token), 'early', 'it is from the future')
    clock.step(300_000)
    assert.equal(nameOf(await show(token)), alice)
    clock.pass(330_000)
    assert.equal(await show(token), 'expired')
    clock.step(-400_000)
    assert.equal(await show(token), 'expired', 'for good')
  })

  test('when the wall clock is set ahead, and lives again when that was a mistake', async (t) => {
    const { show, clock, mint } = await withKeys(t, [ec.jwk])
    const token = mint()
    await show(token)
    clock.step(3_600_000)
    assert.equal(await show(token), 'expired')
    clock.step(-3_600_000)
    assert.equal(nameOf(await show(token)), alice)
  })
})

test('an issuer can share a secret, which is taken up anew from its file', async (t) => {
  const secrets = ['a'.repeat(32), 'b'.repeat(40)]
  const folder = await folderWith({ secret: `${secrets[0]}\n` })
  const secretFile = join(folder, 'secret')
  const { tokens, show, clock, problems } = await startTokens(t, {
    issuers: [{ kind: 'secret', issuer, audiences: [audience], secretFile }],
  })
  const by = (secret: string, alg = 'HS256') =>
    tokenOf({ alg, kid: 'any' }, claimsAt(clock, { jti: secret }), { alg, key: Buffer.from(secret) })
  const [old, next] = secrets.map((each) => by(each)) as [string, string]
  assert.equal(nameOf(await show(old)), alice)
  assert.equal(await show(next), 'signature')
  assert.equal(await show(by(secrets[0]!, 'HS512')), 'algorithm')
  await writeFile(secretFile, 'short')
  clock.pass(10_000)
  await until('the file was looked at', () => Promise.resolve(tokens.state.issuers[0]!.failures === 1))
  assert.deepEqual(problems, ['holds a secret of 5 bytes, and needs 32 at least'])
  assert.equal(nameOf(await show(old)), alice)
  await writeFile(secretFile, secrets[1]!)
  clock.pass(10_000)
  await until('the new secret is there', () => Promise.resolve(tokens.state.issuers[0]!.ageS === 0))
  assert.equal(nameOf(await show(next)), alice)
  assert.equal(await show(old), 'signature')
})

test('the issuer for development makes tokens that its own process accepts, and no other', async (t) => {
  const [here, there] = [
    await startTokens(t, { issuers: [{ kind: 'development' }] }),
    await startTokens(t, { issuers: [{ kind: 'development' }] }),
  ]
  const minting = { subject: 'dev', tenant: 'home', scopes: ['models', 'admin'], profile: 'full' }
  const token = await here.tokens.mint!(minting)
  const found = await here.show(token)
  assert.ok(typeof found !== 'string')
  const { name, tenant, scopes, profile } = found
  assert.deepEqual([name, tenant, scopes, profile], ['penstock-development/dev', 'home', minting.scopes, 'full'])
  assert.equal(await there.show(token), 'signature')
  const short = await here.tokens.mint!({ subject: 'dev', lifetimeS: 10 })
  assert.equal(nameOf(await here.show(short)), 'penstock-development/dev')
  here.clock.pass(40_000)
  assert.equal(await here.show(short), 'expired')
})

test('file names are taken from the folder of the configuration', () => {
  const common = { audiences: [audience] }
  const written = jwtOptions.parse({
    issuers: [
      { kind: 'jwks', issuer: 'a', url: 'https://a/keys', ca: 'ca.pem', ...common },
      { kind: 'jwks', issuer: 'b', file: 'keys.json', ...common },
      { kind: 'secret', issuer: 'c', secretFile: 'secret', ...common },
    ],
  })
  const files = withFiles(written, (file) => `/etc/penstock/${file}`).issuers.map((each) => {
    return each.kind === 'jwks' ? (each.file ?? each.ca) : each.kind === 'secret' && each.secretFile
  })
  assert.deepEqual(files, ['/etc/penstock/ca.pem', '/etc/penstock/keys.json', '/etc/penstock/secret'])
})

suite('a configuration is refused that', () => {
  const jwks = { kind: 'jwks', issuer, audiences: [audience], url: 'https://a/keys' }
  const bad: Readonly<Record<string, [written: object, message: RegExp]>> = {
    'has no issuer': [{ issuers: [] }, />=1/],
    'has two for the same tokens': [{ issuers: [jwks, { ...jwks, url: 'https://b/keys' }] }, /issuer of two/],
    'has two for development': [{ issuers: [{ kind: 'development' }, { kind: 'development' }] }, /issuer of two/],
    'has no keys': [{ issuers: [{ ...jwks, url: undefined }] }, /`url` or `file`/],
    'has keys in two places': [{ issuers: [{ ...jwks, file: 'keys.json' }] }, /`url` or `file`/],
    'fetches keys in the open': [{ issuers: [{ ...jwks, url: 'http://keys.example.com' }] }, /https/],
    'fetches keys with a password': [{ issuers: [{ ...jwks, url: 'https://a:b@keys.example.com' }] }, /password/],
    'fetches keys from a file': [{ issuers: [{ ...jwks, url: 'file:///etc/passwd' }] }, /https/],
    'has authorities for a file': [{ issuers: [{ ...jwks, url: undefined, file: 'k', ca: 'ca' }] }, /take it away/],
    'drops keys before they are fetched': [{ issuers: [{ ...jwks, staleS: 10 }] }, /no less than `refreshS`/],
    'allows no signature': [{ issuers: [{ ...jwks, algorithms: ['none'] }] }, /RS256/],
    'allows secrets for a JWK set': [{ issuers: [{ ...jwks, algorithms: ['HS256'] }] }, /RS256/],
    'wants no audience': [{ issuers: [{ ...jwks, audiences: [] }] }, />=1/],
    'relies on a list that is never read': [
      { issuers: [jwks], revocation: { staleMs: 1_000 } },
      /no less than `everyMs`/,
    ],
  }
  for (const [name, [written, message]] of Object.entries(bad)) {
    test(name, () => {
      const { error } = jwtOptions.safeParse(written)
      assert.match(error?.issues.map((issue) => issue.message).join('; ') ?? 'nothing', message)
    })
  }

  test('names files that are not there or not right', async () => {
    const folder = await folderWith({ 'keys.json': '{"keys":[]}', 'ca.pem': 'no', secret: 'short' })
    const at = (name: string) => join(folder, name)
    const { url: _url, ...file } = jwks
    const written = jwtOptions.parse({
      issuers: [
        { ...file, issuer: 'a', file: at('keys.json') },
        { ...file, issuer: 'b', file: at('nothing.json') },
        { ...jwks, issuer: 'c', ca: at('ca.pem') },
        { kind: 'secret', issuer: 'd', audiences: [audience], secretFile: at('secret') },
      ],
    })
    const nothing = { random: () => 0, onProblem: () => undefined, onRefused: () => undefined }
    const tokens = await Tokens.create(written, { clock: systemClock, ...nothing })
    assert.ok(!(tokens instanceof Tokens))
    assert.deepEqual(
      tokens.mistakes.map(({ message }) => message.slice(0, 20)),
      ['holds no public key ', 'no such file', 'holds no certificate', 'holds a secret of 5 '],
    )
  })
})
