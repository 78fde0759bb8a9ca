/** Revocation lists: which are taken, from which files, and what they say about an open connection. */
import assert from 'node:assert/strict'
import { constants, generateKeyPairSync, sign, X509Certificate, type KeyObject } from 'node:crypto'
import { rm, writeFile } from 'node:fs/promises'
import { basename } from 'node:path'
import { test } from 'node:test'
import { stringify } from 'yaml'
import { extension, nameOf } from '../src/cli/certificate.ts'
import { der, integer, sequence } from '../src/cli/der.ts'
import { ClientTrust, ShownCertificate } from '../src/edge/transport/client-trust.ts'
import { RevocationLists } from '../src/edge/transport/revocation.ts'
import { until } from './support/client.ts'
import { isLetIn, replace, serveTls } from './support/handshake.ts'
import { identity } from './support/onnx.ts'
import { penstock } from './support/process.ts'
import {
  authority,
  certificateFolder,
  clientCertificate,
  forged,
  pairsIn,
  revocationList,
  serverCertificate,
  type ListOptions,
} from './support/tls.ts'

const by = authority()
const now = Date.now()
const leaf = clientCertificate(by, 'a')
const mallory = clientCertificate(by, 'mallory')
const expired = revocationList(by, [], { until: now - 1_000 })

function listed(...pems: readonly string[]): RevocationLists | string {
  return RevocationLists.read(pems.map((pem) => Buffer.from(pem.replace(/-----.*-----/g, ''), 'base64')))
}

/** What is wrong with the leaf by such lists. */
function flawBy(lists: RevocationLists): string {
  const trust = new ClientTrust([new X509Certificate(by.cert)], lists)
  const standing = trust.judge(new ShownCertificate(new X509Certificate(leaf.cert)), now)
  return 'flaw' in standing ? standing.flaw : 'none'
}

function withLists(...pems: readonly string[]): string {
  const lists = listed(...pems)
  assert.ok(typeof lists !== 'string')
  return flawBy(lists)
}

test('of several lists of an authority the latest that holds now is taken', () => {
  const [day, older, newer] = [86_400_000, { from: now - 2 * 86_400_000 }, { from: now - 3_600_000 }]
  assert.equal(withLists(revocationList(by, [leaf], older), revocationList(by, [], newer)), 'none')
  assert.equal(withLists(revocationList(by, [], older), revocationList(by, [leaf], newer)), 'revoked')
  assert.equal(withLists(revocationList(by, []), revocationList(by, [leaf], { ...newer, until: now - 1_000 })), 'none')
  assert.equal(
    withLists(revocationList(by, [leaf]), revocationList(by, [], { from: now + day, until: now + 2 * day })),
    'revoked',
  )
  assert.equal(withLists(revocationList(by, [], { until: now - 1_000 })), 'crl')
  assert.equal(withLists(revocationList(authority('other'), [])), 'crl')
})

test('lists that say less or something else than they seem to are refused', () => {
  const delta = { extensions: [extension(27, integer(Buffer.of(1)), true)] }
  const part = { extensions: [extension(28, sequence(), true)] }
  const indirect = { entryExtensions: [extension(29, sequence(), true)] }
  const cases: [ListOptions, RegExp][] = [
    [delta, /whole lists/],
    [part, /whole lists/],
    [indirect, /whole lists/],
    [{ until: undefined }, /no next update/],
  ]
  for (const [options, message] of cases) {
    const mistake = listed(revocationList(by, [leaf], options))
    assert.ok(typeof mistake === 'string')
    assert.match(mistake, message)
  }
  const good = {
    entryExtensions: [extension(21, der(0x0a, Buffer.of(1)))],
    extensions: [extension(20, integer(Buffer.of(7)))],
  }
  assert.equal(withLists(revocationList(by, [leaf], good)), 'revoked')
})

test("lists that are cut off or changed anywhere are refused, or are nobody's", () => {
  const whole = Buffer.from(revocationList(by, []).replace(/-----.*-----/g, ''), 'base64')
  for (let i = 0; i < whole.length; i++) {
    assert.equal(typeof RevocationLists.read([whole.subarray(0, i)]), 'string')
    const changed = Buffer.from(whole)
    changed[i]! ^= 0x11
    const lists = RevocationLists.read([changed])
    if (typeof lists !== 'string') assert.equal(flawBy(lists), 'crl', `byte ${i}`)
  }
})

const newRsa = () => generateKeyPairSync('rsa', { modulusLength: 2_048 }).privateKey
const newEc = () => generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey
const pss = (key: KeyObject) => ({ key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 })
const pssHash = (last: string) => `300d06096086480165030402${last}0500`
const pssWith = (last: string) =>
  `304106092a864886f70d01010a3034a00f${pssHash(last)}a11c301a06092a864886f70d010108${pssHash(last)}a203020120`

/** Signatures on lists (RFC 4055, 5758, 8410): a key, how the list tells of it, and the hash that is signed. */
const kinds: [name: string, newKey: () => KeyObject, algorithm: string, hash: string | null][] = [
  ['RSA with SHA-256', newRsa, '300d06092a864886f70d01010b0500', 'sha256'],
  ['RSA with SHA-384', newRsa, '300d06092a864886f70d01010c0500', 'sha384'],
  ['RSA with SHA-512', newRsa, '300d06092a864886f70d01010d0500', 'sha512'],
  ['ECDSA with SHA-256', newEc, '300a06082a8648ce3d040302', 'sha256'],
  ['ECDSA with SHA-384', newEc, '300a06082a8648ce3d040303', 'sha384'],
  ['ECDSA with SHA-512', newEc, '300a06082a8648ce3d040304', 'sha512'],
  ['RSASSA-PSS with SHA-256', newRsa, pssWith('01'), 'sha256'],
  ['RSASSA-PSS with SHA-384', newRsa, pssWith('02'), 'sha384'],
  ['RSASSA-PSS with SHA-512', newRsa, pssWith('03'), 'sha512'],
  ['Ed25519', () => generateKeyPairSync('ed25519').privateKey, '300506032b6570', null],
  ['Ed448', () => generateKeyPairSync('ed448').privateKey, '300506032b6571', null],
]

for (const [name, newKey, hex, hash] of kinds) {
  test(`a list is taken that is signed by ${name}, with this key only`, () => {
    const keys = [newKey(), newKey(), newRsa(), newEc()]
    const algorithm = Buffer.from(hex, 'hex')
    const signer = (tbs: Buffer) => sign(hash, tbs, name.startsWith('RSASSA') ? pss(keys[0]!) : keys[0]!)
    const lists = listed(revocationList(by, [], { signature: { algorithm, signer } }))
    assert.ok(typeof lists !== 'string')
    const found = keys.map((key) => {
      const keyOf = { ...by, key: key.export({ type: 'pkcs8', format: 'pem' }) }
      const owner = forged({ by, keyOf, subject: nameOf('owner'), extensions: [] })
      return lists.of(new X509Certificate(owner.cert), now) !== undefined
    })
    assert.deepEqual(found, [true, false, false, false])
  })
}

test('a list is refused whose signature is by SHA-1 or of an unknown kind', () => {
  for (const hex of ['300d06092a864886f70d0101050500', '300906072a8648ce3d0401', '300b0609608648016503040311']) {
    const signature = { algorithm: Buffer.from(hex, 'hex'), signer: () => Buffer.alloc(64) }
    assert.match(listed(revocationList(by, [], { signature })) as string, /kind that is not known/)
  }
})

/** A folder with what a gateway needs for `edge.tls`, a list of revoked certificates included. */
async function filesFor(list: string): Promise<{ folder: string; crl: string; tls: object }> {
  const folder = await certificateFolder({ server: serverCertificate(by), ca: by })
  const crl = `${folder}/crl.pem`
  await writeFile(crl, list)
  await writeFile(`${folder}/echo.onnx`, identity('FP32', ['n', 1]))
  const tls = { certificates: pairsIn(folder, 'server'), clientCa: `${folder}/ca.pem`, crl, reloadMs: 10 }
  return { folder, crl, tls }
}

const good = revocationList(by, [])
const unusable: [what: string, list: string, line: RegExp][] = [
  ['of another kind', by.cert, /crl\.pem: holds no revocation list in PEM form/],
  ['that is empty', '', /crl\.pem: holds no revocation list in PEM form/],
  ['that is garbage', good.replace(/\n.*\n/, '\nAAAA\n'), /crl\.pem: holds a list that cannot be read/],
  ['that ends within a list', good + good.slice(0, 90), /crl\.pem: holds a list that cannot be read/],
  ['without a next update', revocationList(by, [], { until: undefined }), /crl\.pem: holds a list that names no next/],
]

for (const [what, list, line] of unusable) {
  test(`the gateway does not start with a file of lists ${what}, and says so`, async (t) => {
    const { tls } = await filesFor(list)
    await assert.rejects(serveTls(t, tls), line)
  })
}

test('the gateway does not start without the file, or with a setting that needs `clientCa`', async (t) => {
  const { folder, crl, tls } = await filesFor(good)
  await assert.rejects(serveTls(t, { ...tls, crl: `${folder}/none.pem` }), /none\.pem: no such file/)
  const certificates = pairsIn(folder, 'server')
  for (const setting of [{ crl }, { clientAuth: 'optional' }]) {
    await assert.rejects(serveTls(t, { certificates, ...setting }), /edge\.tls\.\w+: .*set `clientCa` too/)
  }
})

test('files that are broken change nothing, and each problem is logged once', async (t) => {
  const { folder, crl, tls } = await filesFor(revocationList(by, [mallory]))
  const ports = { metrics: { port: 0 }, admin: { port: 0, auditFile: `${folder}/audit.jsonl` } }
  const settings = { auth: 'none', edge: { port: 0, tls }, ...ports, store: { path: '.' } }
  await writeFile(`${folder}/penstock.yaml`, stringify(settings))
  const served = penstock(t, ['serve', 'penstock.yaml'], folder)
  const logged: string[] = []
  served.child.stderr!.on('data', (chunk: Buffer) => logged.push(...chunk.toString().trimEnd().split('\n')))
  const [, url] = await served.said(/ at (https:\S+),/)
  const isIn = ({ cert, key }: typeof leaf) => isLetIn({ url: url! }, { ca: by.cert, cert, key })
  const steps: [change: () => Promise<unknown>, file: string, words: RegExp, leafIsIn: boolean][] = [
    [() => replace(crl, 'garbage'), 'crl.pem', /holds no revocation list/, true],
    [() => rm(crl), 'crl.pem', /no such file/, true],
    [() => replace(crl, good + good.slice(0, 60)), 'crl.pem', /cannot be read/, true],
    [() => replace(`${folder}/ca.pem`, by.cert + by.cert.slice(0, 200)), 'ca.pem', /holds no certificate/, true],
    [
      () => replace(crl, expired).then(() => replace(`${folder}/ca.pem`, by.cert)),
      'crl.pem',
      /no list of .*test auth/,
      false,
    ],
  ]
  for (const [i, [change, file, words, leafIsIn]] of steps.entries()) {
    await change()
    await until(`it is logged that ${words}`, async () => logged.length > i)
    for (let looks = 0; looks < 5; looks++) {
      assert.deepEqual([await isIn(leaf), await isIn(mallory)], [leafIsIn, false])
    }
    assert.equal(logged.length, i + 1, logged.join('\n'))
    const line = JSON.parse(logged.at(-1)!)
    assert.deepEqual([line.level, basename(line.file)], [50, file])
    assert.match(line.msg, words)
  }
  await replace(crl, good)
  await until('both are in', async () => (await isIn(leaf)) && (await isIn(mallory)))
  assert.equal(logged.length, steps.length)
})
