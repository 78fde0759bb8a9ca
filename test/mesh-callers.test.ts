/** Who is calling, by a client certificate or by what a proxy has verified; and what rights they have. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createMeshIdentity, type MeshCaller } from '../src/auth/mesh-identity.ts'
import { createCertificateIdentity } from '../src/auth/mtls.ts'
import { workloadOptions } from '../src/auth/workload.ts'
import type { Caller } from '../src/core/caller.ts'
import { systemClock } from '../src/core/clock.ts'
import type { ClientCertificate } from '../src/core/origin.ts'
import { isRefusal, type Refusal } from '../src/core/refusal.ts'
import { meshOptions } from '../src/mesh/options.ts'
import { createTrust } from '../src/mesh/trust.ts'

const alice = 'spiffe://cluster.local/ns/web/sa/alice'
const gateway = 'spiffe://cluster.local/ns/edge/sa/gateway'
const subjects = [
  { spiffe: alice, tenant: 'first', scopes: ['models'], profile: 'full' },
  { spiffe: 'spiffe://cluster.local/ns/web/sa/*', tenant: 'web' },
  { commonName: 'robot-*', tenant: 'robots', scopes: ['a', 'b'] },
  { spiffe: 'spiffe://cluster.local/**', tenant: 'rest' },
]

const noProxy = () => false

function byCertificate(options: object, shown: Partial<ClientCertificate>, epoch = 0): Caller | Refusal | undefined {
  const certificate = { commonName: '', organizations: [], uris: [], expiresAt: 1_000, ...shown }
  const clock = { ...systemClock, epoch: () => epoch }
  return createCertificateIdentity(
    workloadOptions.parse(options),
    clock,
    noProxy,
  )({ address: '192.0.2.1', certificate })
}

const front = { trustedProxies: [gateway], maxBytes: 65_536 }

function byMesh(options: object, header: string | string[] | undefined, more: object = {}) {
  const identify = createMeshIdentity(workloadOptions.parse(options), { ...front, ...more })
  return identify({ 'x-forwarded-client-cert': header })
}

function codeOf(found: Caller | Refusal | undefined): string | undefined {
  return isRefusal(found) ? found.code : undefined
}

test('a certificate and the mesh name the same workload alike, each under its own name', () => {
  const rights = { tenant: 'first', subject: alice, scopes: ['models'], claims: {}, spiffe: alice, profile: 'full' }
  const shown = byCertificate({ subjects }, { commonName: 'robot-1', uris: ['https://a.example', alice] })
  assert.deepEqual(shown, { name: `mtls:${alice}`, method: 'mtls', ...rights })
  const told = byMesh({ subjects }, `Subject="CN=robot-1";URI=${alice}`)
  assert.deepEqual(told, { name: `mesh:${alice}`, method: 'mesh', ...rights, peer: alice })
})

test('rights are those of the first pattern that fits, of ids and of common names apart', () => {
  const rights = (options: object, id: string | undefined, commonName: string) => {
    const uris = id === undefined ? [] : [id]
    const shown = byCertificate(options, { commonName, uris }) as Caller
    const told = byMesh(options, `Subject="CN=${commonName}"${id === undefined ? '' : `;URI=${id}`}`) as Caller
    assert.deepEqual([shown.tenant, shown.scopes, shown.profile], [told.tenant, told.scopes, told.profile])
    return [shown.tenant, ...shown.scopes].join(' ')
  }
  assert.equal(rights({ subjects }, alice, 'robot-1'), 'first models')
  assert.equal(rights({ subjects }, `${alice}2`, ''), 'web')
  assert.equal(rights({ subjects }, `${alice}/more`, ''), 'rest')
  assert.equal(rights({ subjects }, 'spiffe://other/ns/web/sa/alice', 'robot-1'), '')
  assert.equal(rights({ subjects }, undefined, 'robot-1'), 'robots a b')
  assert.equal(rights({ subjects }, undefined, 'alice'), '')
  assert.equal(rights({}, alice, ''), '')
  assert.equal(rights({ subjects: [{ commonName: '**', tenant: 'any' }] }, alice, ''), '')
  assert.equal(rights({ subjects: [{ spiffe: '**', tenant: 'any' }] }, undefined, 'alice'), '')
})

test('a common name is who it says, unless it could be taken for something else', () => {
  const good = ['alice', 'a b', 'a.example', 'https://a.example', 'M\u00FCller']
  for (const commonName of good) {
    const caller = byCertificate({}, { commonName }) as Caller
    assert.deepEqual([caller.name, caller.subject, caller.spiffe], [`mtls:${commonName}`, commonName, undefined])
  }
  const bad = [
    '',
    alice,
    'SPIFFE://x/a',
    ' spiffe://x/a',
    'spiffe:',
    'a\nb',
    'a\0',
    'a\u202Eb',
    'a\u0085b',
    'a'.repeat(257),
  ]
  for (const commonName of bad) assert.equal(codeOf(byCertificate({}, { commonName })), 'unauthenticated', commonName)
  assert.equal((byMesh({}, 'Subject="CN=alice"') as Caller).name, 'mesh:alice')
  for (const commonName of ['', 'spiffe://x/a', 'SPIFFE://x/a', '\\ spiffe://x/a', 'M\\C3\\BCller']) {
    assert.equal(codeOf(byMesh({}, `Subject="CN=${commonName}"`)), 'unauthenticated', commonName)
  }
})

test('a certificate with several SPIFFE ids, or a bad one, is nobody’s', () => {
  const all = [
    [alice, gateway],
    [alice, alice],
    [alice, 'SPIFFE://x/a'],
    ['spiffe://x'],
    ['spiffe://x/../a'],
    ['Spiffe://x/a'],
  ]
  for (const uris of [...all, [`${alice};URI=${gateway}`], [`${alice},URI:${gateway}`], [`${alice}\0`]]) {
    assert.equal(codeOf(byCertificate({}, { commonName: 'alice', uris })), 'unauthenticated', uris.join())
  }
})

test('only ids of trust domains that are accepted count, if any are listed', () => {
  const options = { trustDomains: ['cluster.local', 'b'] }
  assert.equal((byCertificate(options, { uris: [alice] }) as Caller).spiffe, alice)
  assert.equal((byMesh(options, 'URI=spiffe://b/a') as Caller).spiffe, 'spiffe://b/a')
  for (const id of ['spiffe://cluster.local.evil/a', 'spiffe://evil/cluster.local', 'spiffe://local/a']) {
    assert.equal(codeOf(byCertificate(options, { uris: [id] })), 'unauthenticated', id)
    assert.equal(codeOf(byMesh(options, `URI=${id}`)), 'unauthenticated', id)
  }
})

test('a certificate counts until it expires, also on a connection that stays open', () => {
  const certificate = { commonName: 'alice', organizations: [], uris: [], expiresAt: 1_000 }
  let epoch = 999
  const identify = createCertificateIdentity(workloadOptions.parse({}), { ...systemClock, epoch: () => epoch }, noProxy)
  const origin = { address: '192.0.2.1', certificate }
  const caller = identify(origin)
  assert.equal(codeOf(caller), undefined)
  assert.equal(identify(origin), caller, 'one object for a connection')
  epoch = 1_000
  assert.equal(codeOf(identify(origin)), 'unauthenticated')
})

test('a certificate that is shown later on the same connection counts at once', () => {
  const shown = (commonName: string) => ({ commonName, organizations: [], uris: [], expiresAt: Infinity })
  const identify = createCertificateIdentity(workloadOptions.parse({}), systemClock, noProxy)
  const origin = { address: '192.0.2.1', certificate: undefined as ClientCertificate | undefined }
  assert.equal(identify(origin), undefined)
  origin.certificate = shown('alice')
  assert.equal((identify(origin) as Caller).subject, 'alice')
  origin.certificate = shown('bob')
  assert.equal((identify(origin) as Caller).subject, 'bob')
})

test('the certificate of a proxy does not make its clients its equals', () => {
  const trust = createTrust(meshOptions.parse({ mode: 'gateway', trustedProxies: [gateway] }), { untrusted: () => {} })
  const identify = createCertificateIdentity(workloadOptions.parse({}), systemClock, trust.isProxy)
  const shown = (id: string) => ({ commonName: '', organizations: [], uris: [id], expiresAt: Infinity })
  assert.equal(identify({ address: '192.0.2.1', certificate: shown(gateway) }), undefined)
  assert.equal((identify({ address: '192.0.2.1', certificate: shown(alice) }) as Caller).spiffe, alice)
})

test('the mesh says nothing of a request without its header, nor of one by proxies alone', () => {
  assert.equal(byMesh({}, undefined), undefined)
  assert.equal(byMesh({}, `Subject="CN=alice";URI=${gateway}`), undefined)
})

test('behind a gateway the caller is its client, and the gateway the peer', () => {
  const told = byMesh({ subjects }, `By=x;URI=${alice},By=y;Subject="";URI=${gateway}`) as MeshCaller
  assert.deepEqual([told.spiffe, told.subject, told.tenant, told.peer], [alice, alice, 'first', gateway])
  const person = byMesh({ subjects }, [`Subject="CN=robot-7,O=b"`, `URI=${gateway}`]) as MeshCaller
  assert.deepEqual(
    [person.spiffe, person.name, person.tenant, person.peer],
    [undefined, 'mesh:robot-7', 'robots', gateway],
  )
})

test('a broken header is refused, without an echo of it, and does not become a stranger', () => {
  for (const header of [
    '',
    'secret',
    'URI=secret,',
    'URI=secret"',
    `URI=${alice};URI=spiffe://x/secret`,
    'Hash=secret',
  ]) {
    const found = byMesh({}, header)
    assert.ok(isRefusal(found), header)
    assert.equal(found.code, 'unauthenticated')
    assert.doesNotMatch(found.message, /secret|alice/)
  }
  assert.equal(codeOf(byMesh({}, `URI=${alice}`, { maxBytes: 10 })), 'unauthenticated')
  assert.equal(codeOf(byMesh({}, `By=${gateway};URI=${alice}`, { self: alice })), 'unauthenticated')
  assert.equal(codeOf(byMesh({}, `By=${alice};URI=${alice}`, { self: alice })), undefined)
})

test('the same header is the same caller, until so many others have come that it is forgotten', () => {
  const identify = createMeshIdentity(workloadOptions.parse({}), front)
  const ask = (header: string) => identify({ 'x-forwarded-client-cert': header })
  const caller = ask(`URI=${alice}`)
  assert.equal(ask(`URI=${alice}`), caller)
  // 16 MiB hold fewer than 300 of these.
  for (let i = 0; i < 300; i++) ask(`Cert="${'a'.repeat(60_000)}";URI=spiffe://x/${i}`)
  const again = ask(`URI=${alice}`)
  assert.notEqual(again, caller)
  assert.deepEqual(again, caller)
  for (let i = 0; i < 10_000; i++) ask(`URI=spiffe://x/${i}`)
  assert.notEqual(ask(`URI=${alice}`), again)
})

test('a subject is told apart by one of two names', () => {
  for (const subject of [{ tenant: 'a' }, { spiffe: alice, commonName: 'a' }, { spiffe: 'a*b*c*d*e*' }]) {
    assert.equal(workloadOptions.safeParse({ subjects: [subject] }).success, false, JSON.stringify(subject))
  }
  assert.equal(workloadOptions.safeParse({ trustDomains: ['spiffe://x'] }).success, false)
})
