/** Keys of issuers: fetched, kept, rotated and missed, from servers that do what servers do. */
import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { createServer as createSecureServer } from 'node:https'
import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import type { Caller } from '../src/core/caller.ts'
import { isRefusal } from '../src/core/refusal.ts'
import { until } from './support/client.ts'
import { folderWith } from './support/gateway.ts'
import {
  audience,
  claimsAt,
  fetchFailed,
  fromServer,
  goodToken,
  issuer,
  KeyServer,
  keysSeen,
  nameOf,
  signingKey,
  startFrom,
  startTokens,
  tokenOf,
  type TestTokens,
} from './support/issuer.ts'
import { authority, serverCertificate } from './support/tls.ts'

const alice = `${issuer}/alice`
const [one, two] = [signingKey('ES256', 'one'), signingKey('ES256', 'two')]
const rsa = signingKey('RS256', 'rsa')

/** Lets the next fetch by the clock happen. */
async function refresh(started: TestTokens, afterMs = 300_000): Promise<void> {
  started.clock.pass(afterMs)
  await keysSeen(started)
}

test('a request that comes while the keys are fetched for the first time waits for them', async (t) => {
  const server = await KeyServer.start(t, [one.jwk])
  let held: ServerResponse | undefined
  server.answer = (response) => void (held = response)
  const { showNew } = await startFrom(t, server)
  const found = showNew(one)
  await until('it was asked', () => Promise.resolve(held !== undefined))
  held!.end(JSON.stringify({ keys: [one.jwk] }))
  assert.equal(nameOf(await found), alice)
})

test('without keys from the start it is 503, until the server is there', async (t) => {
  const server = await KeyServer.start(t, [one.jwk])
  await server.down()
  const started = await startFrom(t, server)
  const { tokens, clock, mint, showNew, problems } = started
  for (const [failures, waitMs] of [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000].entries()) {
    await fetchFailed(started, failures + 1)
    const refusal = await tokens.identify(`Bearer ${mint(one)}`, 'a peer')
    assert.ok(isRefusal(refusal))
    assert.deepEqual([refusal.code, refusal.status, refusal.retryAfterS], ['not_ready', 503, 1])
    assert.equal(clock.nextMs, waitMs)
    clock.pass(waitMs)
  }
  await fetchFailed(started, 9)
  assert.deepEqual(problems, ['cannot be fetched: ECONNREFUSED'])
  assert.equal(tokens.state.issuers[0]!.ageS, Infinity)
  await server.up()
  await refresh(started, 60_000)
  assert.equal(nameOf(await showNew(one)), alice)
})

test('keys stay in force while they cannot be fetched, and not for ever', async (t) => {
  const server = await KeyServer.start(t, [one.jwk])
  const started = await startFrom(t, server, { refreshS: 100, staleS: 1_000 })
  const { tokens, show, clock, mint, showNew } = started
  await keysSeen(started)
  const known = mint(one, { exp: clock.seconds + 5_000 })
  const caller = await show(known)
  assert.equal(nameOf(caller), alice)
  await server.down()
  clock.pass(999_999)
  await fetchFailed(started, 1)
  assert.equal(await show(known), caller)
  assert.equal(nameOf(await showNew(one)), alice)
  clock.pass(1)
  assert.equal(await show(known), 'keys_unavailable')
  assert.equal(await showNew(one), 'keys_unavailable')
  await server.up()
  await until('they were fetched again', () => {
    clock.pass(1_000)
    return Promise.resolve(tokens.state.issuers[0]!.ageS < 100)
  })
  assert.equal(nameOf(await show(known)), alice)
})

test('what is broken in a set, or not for signatures, does not spoil the rest', async (t) => {
  const { x: _x, ...lame } = two.jwk
  const odd = [{ ...two.jwk, kid: 7 }, lame, 'key', { ...two.jwk, x: 'AAAA' }, { kty: 'RSA', n: 'AQ', e: 'AQAB' }]
  const foreign = [
    { ...two.jwk, use: 'enc' },
    { ...two.jwk, key_ops: ['sign'] },
    { kty: 'oct', k: 'AAAA', kid: 'two' },
  ]
  const started = await startFrom(t, await KeyServer.start(t, [...odd, ...foreign, one.jwk]))
  await keysSeen(started)
  assert.equal(nameOf(await started.showNew(one)), alice)
  assert.equal(await started.showNew(two), 'key')
  assert.equal(started.tokens.state.issuers[0]!.brokenKeys, odd.length)
})

test('the private half of a key in a set is not needed and not kept', async (t) => {
  const server = await KeyServer.start(t, [{ ...one.privateKey.export({ format: 'jwk' }), kid: 'one' }])
  const started = await startFrom(t, server)
  assert.equal(nameOf(await started.showNew(one)), alice)
})

test('two keys with one name are told apart by what they are for', async (t) => {
  const started = await startFrom(t, await KeyServer.start(t, [one.jwk, { ...rsa.jwk, kid: 'one' }]))
  const named = tokenOf({ alg: 'RS256', kid: 'one' }, claimsAt(started.clock), { alg: 'RS256', key: rsa.privateKey })
  assert.equal(nameOf(await started.show(named)), alice)
  assert.equal(nameOf(await started.showNew(one)), alice)
})

test('a key that says what it is for is for nothing else', async (t) => {
  const started = await startFrom(t, await KeyServer.start(t, [rsa.jwk]))
  const signed = (alg: string) => tokenOf({ alg, kid: 'rsa' }, claimsAt(started.clock), { alg, key: rsa.privateKey })
  assert.equal(nameOf(await started.show(signed('RS256'))), alice)
  for (const alg of ['PS256', 'RS512']) assert.equal(await started.show(signed(alg)), 'key')
})

test('a new key is fetched when a token names it', async (t) => {
  const server = await KeyServer.start(t, [one.jwk])
  const started = await startFrom(t, server)
  await keysSeen(started)
  const known = started.mint(one)
  const caller = await started.show(known)
  server.keys = [two.jwk, one.jwk]
  assert.equal(nameOf(await started.showNew(two)), alice)
  assert.equal(server.requests, 2)
  assert.equal(await started.show(known), caller, 'the other key is the same as before')
})

test('a flood of tokens with unknown keys costs one fetch in ten seconds', async (t) => {
  const server = await KeyServer.start(t, [one.jwk])
  const started = await startFrom(t, server, {}, { maxFailuresPerMinute: 10_000 })
  await keysSeen(started)
  const flood = async () => {
    const stranger = (i: number) => ({ ...two, kid: `k${i}` })
    const found = await Promise.all(Array.from({ length: 300 }, (_, i) => started.showNew(stranger(i))))
    assert.deepEqual([...new Set(found)], ['key'])
  }
  await flood()
  await flood()
  assert.equal(server.requests, 2)
  started.clock.pass(9_999)
  await flood()
  assert.equal(server.requests, 2)
  started.clock.pass(1)
  await flood()
  assert.equal(server.requests, 3)
})

test('those that wait for keys are few, and keep nobody out that has one', async (t) => {
  const server = await KeyServer.start(t, [one.jwk])
  const started = await startFrom(t, server, {}, { maxVerifications: 4 })
  await keysSeen(started)
  let held: ServerResponse | undefined
  server.answer = (response) => void (held = response)
  const waiting = Array.from({ length: 4 }, () => started.showNew(two))
  await until('it was asked', () => Promise.resolve(held !== undefined))
  assert.equal(await started.showNew(two), 'key', 'at once')
  assert.equal(nameOf(await started.showNew(one)), alice)
  held!.end(JSON.stringify({ keys: [one.jwk, two.jwk] }))
  assert.deepEqual((await Promise.all(waiting)).map(nameOf), Array(4).fill(alice))
})

suite('known tokens are dropped when their key', () => {
  const changes: Readonly<Record<string, readonly unknown[]>> = {
    'is gone': [two.jwk],
    'is another under the same name': [two.jwk, { ...signingKey('ES256', 'one').jwk }],
    'is for another purpose': [two.jwk, { ...one.jwk, use: 'enc' }],
  }
  for (const [name, keys] of Object.entries(changes)) {
    test(name, async (t) => {
      const server = await KeyServer.start(t, [one.jwk, two.jwk])
      const started = await startFrom(t, server)
      await keysSeen(started)
      const [first, second] = [started.mint(one), started.mint(two)]
      const [, other] = [await started.show(first), await started.show(second)]
      server.keys = keys
      await refresh(started)
      assert.match(nameOf(await started.show(first)), /^(key|signature)$/)
      assert.equal(await started.show(second), other as Caller)
    })
  }
})

test('a token whose key goes while it is being verified does not stay', async (t) => {
  const server = await KeyServer.start(t, [one.jwk])
  const started = await startFrom(t, server, {}, { maxVerifications: 1_000 })
  await keysSeen(started)
  const all = Array.from({ length: 200 }, (_, i) => started.mint(one, { jti: `${i}` }))
  server.keys = [two.jwk]
  started.clock.pass(300_000)
  const found = await Promise.all(all.map((token) => started.show(token)))
  for (const each of found) assert.match(nameOf(each), /^(https:\/\/login.example.com\/alice|key)$/)
  await keysSeen(started)
  for (const token of all) assert.equal(await started.show(token, token), 'key')
})

test('keys are fetched ahead of need, at a time that chance decides', async (t) => {
  const server = await KeyServer.start(t, [one.jwk])
  const started = await startTokens(t, fromServer(server), { random: () => 0.5 })
  await keysSeen(started)
  started.clock.pass(269_999)
  assert.equal(started.tokens.state.issuers[0]!.ageS, 269.999)
  await refresh(started, 1)
  assert.equal(server.requests, 2)
})

test('nothing is fetched any more after the end, and what is being fetched is left', async (t) => {
  const server = await KeyServer.start(t, [one.jwk])
  const [idle, busy] = [await startFrom(t, server), await startFrom(t, server)]
  await keysSeen(idle)
  await keysSeen(busy)
  idle.tokens.close()
  assert.equal(idle.clock.nextMs, Infinity)
  let gone = false
  server.answer = (response) => void response.on('close', () => (gone = true)).write('{')
  busy.clock.pass(300_000)
  await until('it was asked', () => Promise.resolve(server.requests === 3))
  busy.tokens.close()
  await until('the connection is closed', () => Promise.resolve(gone && busy.clock.nextMs === Infinity))
  assert.deepEqual(busy.problems, [])
})

test('keys in a file are taken up when it changes, and stay when it breaks', async (t) => {
  const folder = await folderWith({ 'keys.json': JSON.stringify({ keys: [one.jwk] }) })
  const file = join(folder, 'keys.json')
  const started = await startTokens(t, { issuers: [{ kind: 'jwks', issuer, audiences: [audience], file }] })
  const { show, clock, problems } = started
  const [first, second] = [one, two].map((key) => goodToken(key, claimsAt(clock)))
  const caller = await show(first!)
  assert.equal(nameOf(caller), alice)
  await writeFile(file, '{"keys":[')
  for (const times of [1, 2]) {
    clock.pass(10_000)
    await fetchFailed(started, times)
  }
  assert.deepEqual(problems, ['is not JSON'])
  assert.equal(await show(first!), caller)
  await writeFile(file, JSON.stringify({ keys: [one.jwk, two.jwk] }))
  await refresh(started, 10_000)
  assert.equal(await show(first!), caller)
  assert.equal(nameOf(await show(second!)), alice)
  await writeFile(file, JSON.stringify({ keys: [two.jwk] }))
  await refresh(started, 10_000)
  assert.equal(await show(first!), 'key')
})

test('a server of keys must be who it says, by its authority', async (t) => {
  const [ours, theirs] = [authority(), authority('others')]
  const folder = await folderWith({ 'ours.pem': ours.cert, 'theirs.pem': theirs.cert })
  const server = createSecureServer(serverCertificate(ours), (_request, response) => {
    response.end(JSON.stringify({ keys: [one.jwk] }))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  const url = `https://localhost:${(server.address() as AddressInfo).port}/`
  const by = (ca?: string) => {
    const keys = { kind: 'jwks', issuer, audiences: [audience], url, ca: ca && join(folder, ca) }
    return startTokens(t, { issuers: [keys] })
  }
  const good = await by('ours.pem')
  await keysSeen(good)
  for (const ca of [undefined, 'theirs.pem']) {
    const bad = await by(ca)
    await fetchFailed(bad, 1)
    assert.match(bad.problems[0]!, /UNABLE_TO|SELF_SIGNED|CERT/)
  }
})
