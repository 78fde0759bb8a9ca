/** What is made of hostile certificates and chains, read as they are after a handshake. */
import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { test } from 'node:test'
import { authorityExtensions, extension, nameOf, type Issued } from '../src/cli/certificate.ts'
import { bits, boolean, der, integer, objectId, sequence } from '../src/cli/der.ts'
import { ClientTrust, ShownCertificate } from '../src/edge/transport/client-trust.ts'
import { ConnectionOrigin } from '../src/edge/transport/origin.ts'
import { authority, clientCertificate, forged, intermediate } from './support/tls.ts'

const by = authority()
const now = Date.now()

function originOf({ cert }: Issued) {
  const origin = new ConnectionOrigin('127.0.0.1')
  origin.proved(new X509Certificate(cert))
  return origin
}

function subjectAltName(...names: readonly Buffer[]): Buffer {
  return extension(17, sequence(...names))
}

function uri(text: string): Buffer {
  return der(0x86, Buffer.from(text, 'latin1'))
}

/** What is told of a certificate with these names beside its subject. */
function namesIn(...names: readonly Buffer[]) {
  return originOf(forged({ by, subject: nameOf('a'), extensions: [subjectAltName(...names)] })).certificate
}

const id = 'spiffe://cluster.local/ns/a/sa/b'

test('URIs are told exactly as they stand in the certificate', () => {
  const texts = [id, `${id},URI:${id}`, "urn:it's:(a),b;c", 'https://[::1]:8/?q=%00#f', `s:${'x'.repeat(2_046)}`]
  for (const text of texts) assert.deepEqual(namesIn(uri(text))?.uris, [text])
  assert.deepEqual(namesIn(...texts.map(uri))?.uris, texts)
})

test('if one of the URIs is none, no URI is told', () => {
  const bad = [
    '',
    'no scheme',
    `${id}\0.evil`,
    `${id}, URI:spiffe://x/y`,
    `${id}"`,
    `${id}\\`,
    `${id}\n`,
    ' ',
    `${id} `,
  ]
  for (const text of [...bad, `${id}é`, `s:${'x'.repeat(2_047)}`, ':a', '\x7f:a', `\u0016${id}`]) {
    assert.deepEqual(namesIn(uri(text))?.uris, [], JSON.stringify(text))
    assert.deepEqual(namesIn(uri(id), uri(text))?.uris, [], JSON.stringify(text))
  }
})

test('names of other kinds are no URIs, whatever they say', () => {
  const text = Buffer.from(`x, URI:${id}`)
  const others = [der(0x82, text), der(0x81, text), der(0xa4, nameOf(`x, URI:${id}`)), der(0x88, Buffer.of(42, 3))]
  const otherName = der(0xa0, objectId(1, 2, 3), der(0xa0, der(0x0c, text)))
  assert.deepEqual(namesIn(...others, otherName)?.uris, [])
  assert.deepEqual(namesIn(...others, uri(id), otherName)?.uris, [id])
})

test('a certificate with two lists of names, or with one that is cut off, tells nothing', () => {
  const twice = [subjectAltName(uri(id)), subjectAltName(uri('spiffe://x/y'))]
  const cutOff = [extension(17, der(0x30, Buffer.of(0x86, 9, 0x61)))]
  for (const extensions of [twice, cutOff]) {
    assert.equal(originOf(forged({ by, subject: nameOf('a'), extensions })).certificate, undefined)
  }
})

/** A kind of attribute (RFC 5280 appendix A.1), what it says, and in what kind of string. */
type Attribute = readonly [type: number, text: string | Buffer, tag?: number]

/** A distinguished name of such sets. */
function subjectOf(...sets: readonly Attribute[][]): Buffer {
  const parts = sets.map((set) =>
    der(
      0x31,
      ...set.map(([type, text, tag = 0x0c]) =>
        sequence(objectId(2, 5, 4, type), der(tag, Buffer.from(text as string))),
      ),
    ),
  )
  return sequence(...parts)
}

function told(...sets: readonly Attribute[][]) {
  const { certificate } = originOf(forged({ by, subject: subjectOf(...sets), extensions: [] }))
  return certificate && [certificate.commonName, ...certificate.organizations]
}

test('the common name and the organisations are told exactly as they stand in the certificate', () => {
  assert.deepEqual(told([[3, 'a']], [[10, 'b']]), ['a', 'b'])
  assert.deepEqual(
    told(
      [
        [10, 'b'],
        [3, 'a'],
      ],
      [[10, 'c']],
      [[11, 'd']],
    ),
    ['a', 'b', 'c'],
  )
  for (const text of [
    'a, CN=b',
    'a+CN=b',
    'CN=b',
    '"a"',
    '\\',
    '/CN=b',
    'é',
    '名',
    '#a',
    '__proto__',
    ' a ',
    'a'.repeat(256),
  ]) {
    assert.deepEqual(told([[3, text]], [[10, text]]), [text, text])
  }
  assert.deepEqual(told([[3, Buffer.from('\0a\0b'), 0x1e]]), ['ab'])
  assert.deepEqual(told([[3, Buffer.of(0xe9), 0x14]]), ['é'])
  assert.deepEqual(told(), [''])
})

test('of several common names, and of one that is no plain text, none is told', () => {
  assert.deepEqual(told([[3, 'a']], [[3, 'b']]), [''])
  assert.deepEqual(
    told([
      [3, 'a'],
      [3, 'a'],
    ]),
    [''],
  )
  const odd: [text: string, tag?: number][] = [
    ['a\0b'],
    ['a\nCN=b'],
    ['a\u202eb'],
    ['\ufeffa'],
    ['a'.repeat(257)],
    // UniversalString, which nobody has.
    ['\0\0\0a', 0x1c],
  ]
  for (const [text, tag = 0x0c] of odd) {
    assert.deepEqual(told([[3, text, tag]], [[10, text, tag]]), [''], JSON.stringify(text))
  }
})

/** What is thought of a client's certificate that came with others, after a handshake by some authorities. */
function standingOf(leaf: Issued, sent: readonly Issued[], roots: readonly Issued[]) {
  const shown = new ShownCertificate(chained(leaf, ...sent))
  const trust = new ClientTrust(
    roots.map(({ cert }) => new X509Certificate(cert)),
    undefined,
  )
  return { shown, trust, flaw: (isVouched = false) => flawIn(trust.judge(shown, now, isVouched)) }
}

function flawIn(standing: ReturnType<ClientTrust['judge']>): string {
  return 'flaw' in standing ? standing.flaw : 'none'
}

/** As a socket gives it: each with the one that came behind it. */
function chained(...all: readonly Issued[]): X509Certificate {
  return all
    .map(({ cert }) => new X509Certificate(cert))
    .reduceRight((issuer, each) => Object.defineProperty(each, 'issuerCertificate', { value: issuer }))
}

/** An authority of another that may sign so much only. */
function limited(signer: Issued, name: string, ...extensions: readonly Buffer[]): Issued {
  const basic = extension(19, sequence(boolean(true)), true)
  const made = forged({
    by: signer,
    subject: nameOf(name),
    extensions: [basic, extension(15, bits(0x06, 1), true), ...extensions],
  })
  return { ...made, subject: name }
}

test('an authority has no more others below it than it may have', () => {
  for (const [most, flaw] of [
    [0, 'authority'],
    [1, 'none'],
  ] as const) {
    const basic = extension(19, sequence(boolean(true), integer(Buffer.of(most))), true)
    const first = { ...forged({ by, subject: nameOf('first'), extensions: [basic] }), subject: 'first' }
    const second = intermediate(first, 'second')
    assert.equal(standingOf(clientCertificate(second, 'a'), [second, first], [by]).flaw(), flaw)
    assert.equal(standingOf(clientCertificate(first, 'a'), [first], [by]).flaw(), 'none')
  }
})

test('what may not sign for everybody is taken as far as a handshake has found it good', () => {
  const permitted = extension(30, sequence(der(0xa0, sequence(der(0x86, Buffer.from('.a.example'))))))
  const unknown = sequence(objectId(1, 2, 3), boolean(true), der(0x04, Buffer.of(5, 0)))
  const serversOnly = extension(37, sequence(objectId(1, 3, 6, 1, 5, 5, 7, 3, 1)))
  for (const limit of [permitted, unknown, serversOnly]) {
    const sub = limited(by, 'sub', limit)
    const { shown, flaw } = standingOf(clientCertificate(sub, 'a'), [sub], [by])
    assert.equal(flaw(), 'authority')
    const again = standingOf(clientCertificate(sub, 'b'), [sub], [by])
    assert.equal(again.flaw(true), 'none')
    const later = new ClientTrust([new X509Certificate(by.cert)], undefined)
    assert.equal(flawIn(later.judge(again.shown, now)), 'none')
    assert.equal(flawIn(later.judge(shown, now)), 'authority')
  }
})

test('what is no authority signs for nobody, whatever else it lacks', () => {
  const client = { ...forged({ by, subject: nameOf('client'), extensions: [] }), subject: 'client' }
  assert.equal(standingOf(clientCertificate(client, 'a'), [client], [by]).flaw(true), 'authority')
})

test("a client that sends authorities which are each other's does not keep the gateway busy", () => {
  const [some, others] = [intermediate(by, 'some'), intermediate(by, 'others')]
  const cross = (from: Issued, to: Issued) =>
    Array.from({ length: 5 }, () =>
      forged({ by: from, keyOf: to, subject: nameOf(to.subject), extensions: authorityExtensions() }),
    )
  const shown = new ShownCertificate(
    chained(clientCertificate(some, 'a'), ...cross(others, some), ...cross(some, others)),
  )
  let checked = 0
  for (const { certificate } of [shown.leaf!, ...shown.sent]) {
    const verify = certificate.verify.bind(certificate)
    certificate.verify = (key) => {
      checked++
      return verify(key)
    }
  }
  const standing = new ClientTrust([new X509Certificate(authority('other').cert)], undefined).judge(shown, now)
  assert.equal(flawIn(standing), 'authority')
  assert.ok(checked > 10 && checked <= 64, String(checked))
})
