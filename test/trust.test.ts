/** Which headers are believed, from whom, in each mode of the mesh; and whose request it then is. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ClientCertificate, Origin } from '../src/core/origin.ts'
import { meshOptions } from '../src/mesh/options.ts'
import { createTrust, type HeadFields } from '../src/mesh/trust.ts'

const gatewayId = 'spiffe://cluster.local/ns/edge/sa/gateway'
const clientId = 'spiffe://cluster.local/ns/web/sa/client'

/** Everything that claims something, and what claims nothing. */
const claims: Readonly<Record<string, string>> = {
  'x-forwarded-client-cert': `URI=${clientId}`,
  'x-forwarded-for': '198.51.100.7, 192.0.2.9',
  forwarded: 'for=198.51.100.8',
  'x-real-ip': '198.51.100.9',
  'x-envoy-external-address': '203.0.113.5',
  'x-envoy-expected-rq-timeout-ms': '100',
  'x-jwt-payload': 'e30',
}
const harmless: Readonly<Record<string, string>> = {
  host: 'a.example',
  'x-request-id': '2f1c9c2e-7a52-4d5e-9f0a-3f1f4a3f5e11',
  'x-envoyance': '1',
  'x-forwarded-proto': 'https',
  authorization: 'Bearer x',
}
const verified = ['x-forwarded-for', 'x-envoy-external-address', 'x-envoy-expected-rq-timeout-ms', 'x-jwt-payload']
const withIdentity = ['x-forwarded-client-cert', ...verified]

function certificate(...uris: string[]): ClientCertificate {
  return { commonName: 'a', organizations: [], uris, expiresAt: Infinity }
}

function from(address: string, proved?: ClientCertificate): Origin {
  return { address, certificate: proved }
}

function screening(options: object, payloadHeader = 'x-jwt-payload') {
  const counted: string[] = []
  const untrusted = (header: string, reason: string) => counted.push(`${header} ${reason}`)
  const trust = createTrust(meshOptions.parse(options), { untrusted, payloadHeader })
  /** What of the head is left, and whose request it is. */
  const screen = (fields: HeadFields, origin: Origin) => {
    const headers = { ...fields }
    const client = trust.screen(headers, origin, 'the socket')
    return { headers, client }
  }
  return { screen, counted }
}

const byAddress = { mode: 'gateway', proxies: ['192.0.2.10', '2001:db8::/32'] }
const byCertificate = { mode: 'gateway', trustedProxies: [gatewayId] }
const waypoint = { mode: 'ambient-waypoint', proxies: ['10.1.0.0/16'] }
const closed = { mode: 'ambient-waypoint', waypointXfcc: true }
const both = { ...waypoint, waypointXfcc: true }

/** The mode, the other end of the connection, and what is left of the claims. */
const table: readonly (readonly [options: object, origin: Origin, left: readonly string[]])[] = [
  ...['127.0.0.1', '127.0.0.6', '::1', '::6', '192.0.2.10', '10.1.2.3'].flatMap((address) => [
    [{}, from(address), []] as const,
    [{ mode: 'none' }, from(address, certificate(gatewayId)), []] as const,
    [{ mode: 'ambient' }, from(address, certificate(gatewayId)), []] as const,
  ]),
  ...[
    '127.0.0.6',
    '::6',
    '127.0.0.1',
    '127.255.255.254',
    '::1',
    '::ffff:127.0.0.6',
    '::FFFF:127.0.0.1',
    '0:0:0:0:0:0:0:6',
  ].map((address) => [{ mode: 'sidecar' }, from(address), withIdentity] as const),
  ...[
    '128.0.0.1',
    '126.255.255.255',
    '10.1.2.3',
    '::7',
    '::',
    '::ffff:10.0.0.1',
    'fe80::1%eth0',
    '',
    'x',
    '127.0.0.6.7',
  ].map((address) => [{ mode: 'sidecar' }, from(address), []] as const),
  [{ mode: 'sidecar', trustedProxies: [gatewayId] }, from('10.1.2.3', certificate(gatewayId)), []],
  [waypoint, from('10.1.2.3'), verified],
  [waypoint, from('::ffff:10.1.2.3'), verified],
  [waypoint, from('10.2.0.1'), []],
  [waypoint, from('127.0.0.6'), []],
  [closed, from('10.2.0.1'), withIdentity],
  [both, from('10.1.255.255'), withIdentity],
  [both, from('10.2.0.1'), []],
  [byAddress, from('192.0.2.10'), withIdentity],
  [byAddress, from('2001:db8:1::1'), withIdentity],
  [byAddress, from('192.0.2.11'), []],
  [byAddress, from('2001:db9::1'), []],
  [byAddress, from('127.0.0.6'), []],
  [byAddress, from('192.0.2.11', certificate(gatewayId)), []],
  [byCertificate, from('192.0.2.11', certificate(gatewayId)), withIdentity],
  [byCertificate, from('192.0.2.11', certificate(clientId)), []],
  [byCertificate, from('192.0.2.11', certificate(`${gatewayId}/more`)), []],
  [byCertificate, from('192.0.2.11', certificate(gatewayId, clientId)), []],
  [byCertificate, from('192.0.2.11', certificate()), []],
  [byCertificate, from('127.0.0.1'), []],
  [{ ...byAddress, trustedProxies: [gatewayId] }, from('192.0.2.11', certificate(gatewayId)), withIdentity],
  [{ ...byAddress, trustedProxies: [gatewayId] }, from('192.0.2.10', certificate(clientId)), withIdentity],
  [{ mode: 'gateway', proxies: ['::/0'] }, from('192.0.2.10'), []],
]

for (const [options, origin, left] of table) {
  const who = `${origin.address || 'an unknown address'}${origin.certificate ? ` with ${origin.certificate.uris.join(' and ') || 'no id'}` : ''}`
  test(`of what is claimed by ${who}, ${left.length} fields are believed with ${JSON.stringify(options)}`, () => {
    const { screen, counted } = screening(options)
    for (let turn = 0; turn < 2; turn++) {
      const { headers } = screen({ ...harmless, ...claims }, origin)
      const kept = Object.keys(claims).filter((name) => left.includes(name))
      assert.deepEqual(Object.keys(headers).toSorted(), [...Object.keys(harmless), ...kept].toSorted())
      assert.deepEqual(headers, { ...harmless, ...Object.fromEntries(kept.map((name) => [name, claims[name]])) })
      assert.equal(counted.splice(0).length, Object.keys(claims).length - kept.length)
    }
  })
}

test('what is removed is counted, by a closed list of names, with the reason', () => {
  const cases: readonly (readonly [options: object, expected: readonly string[]])[] = [
    [{}, 'mode mode mode mode mode mode mode'.split(' ')],
    [{ mode: 'ambient' }, 'mode mode mode mode mode mode mode'.split(' ')],
    [{ mode: 'sidecar' }, ['peer', 'peer', 'mode', 'mode', 'peer', 'peer', 'peer']],
    [waypoint, ['mode', 'peer', 'mode', 'mode', 'peer', 'peer', 'peer']],
  ]
  const labels = [
    'x-forwarded-client-cert',
    'x-forwarded-for',
    'forwarded',
    'x-real-ip',
    'x-envoy-*',
    'x-envoy-*',
    'jwt-payload',
  ]
  for (const [options, reasons] of cases) {
    const { screen, counted } = screening(options)
    screen({ ...harmless, ...claims }, from('198.51.100.1'))
    assert.deepEqual(
      counted,
      labels.map((label, i) => `${label} ${reasons[i]}`),
    )
  }
})

test('a field for claims of a token is known by its name in the configuration', () => {
  const { screen } = screening({}, 'x-claims')
  assert.deepEqual(screen({ 'x-jwt-payload': 'e30', 'x-claims': 'e30' }, from('::1')).headers, {
    'x-jwt-payload': 'e30',
  })
  assert.deepEqual(screen({ 'x-claims': ['a', 'b'] }, from('::1')).headers, {})
})

test('a connection is believed no longer than it shows the certificate of a proxy', () => {
  const origin = { address: '192.0.2.11', certificate: certificate(gatewayId) as ClientCertificate | undefined }
  const { screen } = screening(byCertificate)
  assert.equal('x-forwarded-for' in screen(claims, origin).headers, true)
  origin.certificate = undefined
  assert.equal('x-forwarded-for' in screen(claims, origin).headers, false)
})

const five = '198.51.100.1, 198.51.100.2,198.51.100.3 , 2001:db8::4,198.51.100.5'
const socket = 'the socket'

const clients: readonly (readonly [what: string, hops: number, fields: HeadFields, client: string])[] = [
  ['the nearest', 0, { 'x-forwarded-for': five }, '198.51.100.5'],
  ['one further', 1, { 'x-forwarded-for': five }, '2001:db8::4'],
  ['two further, with space', 2, { 'x-forwarded-for': five }, '198.51.100.3'],
  ['the furthest, if so many are trusted', 4, { 'x-forwarded-for': five }, '198.51.100.1'],
  ['the socket, where there are too few', 5, { 'x-forwarded-for': five }, socket],
  ['the socket, where there are far too few', 16, { 'x-forwarded-for': '198.51.100.1' }, socket],
  ['the socket, where there is none', 0, {}, socket],
  ['the socket, by an empty field', 0, { 'x-forwarded-for': '' }, socket],
  ['the socket, by an empty field, further', 1, { 'x-forwarded-for': '' }, socket],
  ['the socket, by commas', 1, { 'x-forwarded-for': ',,' }, socket],
  ['the socket, by an empty end', 0, { 'x-forwarded-for': '198.51.100.1,' }, socket],
  ['the socket, by an empty beginning', 1, { 'x-forwarded-for': ',198.51.100.1' }, socket],
  ['the socket, by a name', 0, { 'x-forwarded-for': '198.51.100.1, unknown' }, socket],
  ['the socket, by a port', 0, { 'x-forwarded-for': '198.51.100.1:80' }, socket],
  ['the socket, by brackets', 0, { 'x-forwarded-for': '[2001:db8::1]' }, socket],
  ['the socket, by a zone', 0, { 'x-forwarded-for': 'fe80::1%eth0' }, socket],
  ['the socket, by a network', 0, { 'x-forwarded-for': '198.51.100.0/24' }, socket],
  ['the socket, by an old notation', 0, { 'x-forwarded-for': '0306.0063.1' }, socket],
  ['the nearest of several lines', 0, { 'x-forwarded-for': ['198.51.100.1', '198.51.100.2'] }, '198.51.100.2'],
  [
    'one further of several lines',
    2,
    { 'x-forwarded-for': ['198.51.100.1,198.51.100.2', '198.51.100.3'] },
    '198.51.100.1',
  ],
  ['whom Envoy says', 0, { 'x-forwarded-for': five, 'x-envoy-external-address': '203.0.113.5' }, '203.0.113.5'],
  ['whom Envoy says, whatever the hops', 9, { 'x-envoy-external-address': '2001:db8::9' }, '2001:db8::9'],
  [
    'the nearest, where Envoy says nonsense',
    0,
    { 'x-forwarded-for': five, 'x-envoy-external-address': 'x' },
    '198.51.100.5',
  ],
  [
    'the nearest, where Envoy says two',
    0,
    { 'x-forwarded-for': five, 'x-envoy-external-address': '192.0.2.1, 192.0.2.2' },
    '198.51.100.5',
  ],
]

for (const [what, hops, fields, client] of clients) {
  test(`a request is of ${what}`, () => {
    const options = { ...byAddress, hops }
    assert.equal(screening(options).screen(fields, from('192.0.2.10')).client, client)
    assert.equal(screening(options).screen(fields, from('192.0.2.11')).client, socket, 'from anybody else')
    assert.equal(screening({}).screen(fields, from('192.0.2.10')).client, socket, 'with nobody in front')
  })
}

const mistakes: readonly (readonly [options: object, where: string])[] = [
  [{ mode: 'gateway' }, 'proxies'],
  [{ mode: 'ambient-waypoint' }, 'proxies'],
  [{ mode: 'none', proxies: ['10.0.0.0/8'] }, 'proxies'],
  [{ mode: 'sidecar', proxies: ['10.0.0.0/8'] }, 'proxies'],
  [{ mode: 'ambient', trustedProxies: [gatewayId] }, 'trustedProxies'],
  [{ mode: 'none', hops: 1 }, 'hops'],
  [{ mode: 'ambient', self: gatewayId }, 'self'],
  [{ mode: 'sidecar', waypointXfcc: true }, 'waypointXfcc'],
  [{ mode: 'gateway', proxies: ['10.0.0.0/33'] }, 'proxies'],
  [{ mode: 'gateway', proxies: ['2001:db8::/129'] }, 'proxies'],
  [{ mode: 'gateway', proxies: ['fe80::1%eth0'] }, 'proxies'],
  [{ mode: 'gateway', proxies: ['gateway.example'] }, 'proxies'],
  [{ mode: 'gateway', proxies: ['10.0.0.0/'] }, 'proxies'],
  [{ mode: 'sidecar', trustedProxies: ['spiffe://x'] }, 'trustedProxies'],
  [{ mode: 'sidecar', self: 'cluster.local/ns/a/sa/b' }, 'self'],
  [{ mode: 'sidecar', hops: 17 }, 'hops'],
  [{ mode: 'istio' }, 'mode'],
]

for (const [options, where] of mistakes) {
  test(`a mistake is told, at ${where}: ${JSON.stringify(options)}`, () => {
    const { error } = meshOptions.safeParse(options)
    assert.deepEqual(
      error?.issues.map(({ path }) => path[0]),
      [where],
    )
  })
}
