/** Clients' certificates at the handshake: which are taken, when they must be shown, and what revocation lists change. */
import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { test, type TestContext } from 'node:test'
import { issue, nameOf, type Issued } from '../src/cli/certificate.ts'
import { samples, until, wholeFile } from './support/client.ts'
import type { TestGateway } from './support/gateway.ts'
import { agree, isLetIn, isRefused, replace, serveTls, tlsVersions, visit, visitHttp2 } from './support/handshake.ts'
import {
  authority,
  behind,
  certificateFolder,
  clientCertificate,
  forged,
  intermediate,
  pairsIn,
  revocationList,
  serverCertificate,
} from './support/tls.ts'

const by = authority()
const other = authority('other authority')
const middle = intermediate(by, 'intermediate authority')
const alice = clientCertificate(by, 'alice')
const mallory = clientCertificate(by, 'mallory')
const viaMiddle = behind(clientCertificate(middle, 'carol'), middle)
const folder = await certificateFolder({ server: serverCertificate(by), ca: by })

function serve(t: TestContext, tls: object = {}): Promise<TestGateway> {
  const clientCa = `${folder}/ca.pem`
  return serveTls(t, { certificates: pairsIn(folder, 'server'), clientCa, reloadMs: 10, ...tls })
}

/** Writes a file of revocation lists; returns its path. */
async function listFile(name: string, ...lists: readonly string[]): Promise<string> {
  await writeFile(`${folder}/${name}`, lists.join(''))
  return `${folder}/${name}`
}

/** What a client shows of itself, if anything, and whom it trusts. */
function showing(shown?: Issued): { ca: string; cert?: string; key?: string } {
  return { ca: by.cert, ...(shown && { cert: shown.cert, key: shown.key }) }
}

/** How often a certificate was refused for each reason, but for those that there was none. */
async function refusals(served: TestGateway): Promise<Record<string, number>> {
  const name = /^penstock_tls_client_certificates_refused_total\{reason="(\w+)"\}$/
  const all = [...(await samples(served))].flatMap(([label, count]) => {
    const reason = name.exec(label)?.[1]
    return reason !== undefined && count > 0 ? [[reason, count] as const] : []
  })
  return Object.fromEntries(all)
}

/** In each version of TLS over each version of HTTP. */
async function assertLetIn(t: TestContext, served: TestGateway, shown?: Issued): Promise<void> {
  for (const maxVersion of tlsVersions) {
    assert.equal((await visit(served, { ...showing(shown), maxVersion })).status, 200)
    assert.equal(await visitHttp2(t, served, { ...showing(shown), maxVersion }), 200)
  }
}

async function assertKeptOut(t: TestContext, served: TestGateway, shown: Issued, reason: string): Promise<void> {
  const before = (await refusals(served))[reason] ?? 0
  for (const maxVersion of tlsVersions) {
    await assert.rejects(visit(served, { ...showing(shown), maxVersion }), isRefused, maxVersion)
    await assert.rejects(visitHttp2(t, served, { ...showing(shown), maxVersion }), isRefused, maxVersion)
  }
  await until(`four were counted as ${reason}`, async () => (await refusals(served))[reason] === before + 4)
}

function selfSigned(subject: string): Issued {
  const own = { ...clientCertificate(other, subject), subject }
  return forged({ by: own, keyOf: own, subject: nameOf(subject), extensions: [] })
}

/** Certificates that are good for nothing, and why. */
const bad: [what: string, shown: Issued, reason: string][] = [
  ['of another authority', clientCertificate(other, 'alice'), 'authority'],
  [
    'that is out of date',
    issue({ subject: 'alice', days: -0.5, issued: { by, as: 'client', names: [] } }, Date.now()),
    'expired',
  ],
  ['that is for servers', serverCertificate(by, 'alice'), 'purpose'],
  ['that it signed itself in the name of one that is good', selfSigned('alice'), 'authority'],
  [
    'of an authority that signed itself in the name of the one that is trusted',
    clientCertificate(authority(), 'alice'),
    'authority',
  ],
  ['of an intermediate authority that it does not send along', clientCertificate(middle, 'carol'), 'authority'],
  ['that another client has signed', behind(clientCertificate(alice, 'bob'), alice), 'authority'],
]

const required = await serve(wholeFile)
const optional = await serve(wholeFile, { clientAuth: 'optional' })

for (const [what, shown, reason] of bad) {
  test(`a client with a certificate ${what} is kept out, whether it must show one or not`, async (t) => {
    await assertKeptOut(t, required, shown, reason)
    await assertKeptOut(t, optional, shown, reason)
  })
}

test('with `clientAuth: required` nobody gets in without a certificate', async (t) => {
  const before = (await refusals(required)).missing ?? 0
  await assert.rejects(visit(required, showing()), isRefused)
  await assert.rejects(visitHttp2(t, required, { ...showing(), maxVersion: 'TLSv1.2' }), isRefused)
  await until('both were counted', async () => (await refusals(required)).missing === before + 2)
  await assertLetIn(t, required, alice)
})

test('with `clientAuth: optional` clients get in without a certificate and with a good one, anew and by resuming', async (t) => {
  for (const shown of [undefined, alice, viaMiddle]) {
    await assertLetIn(t, optional, shown)
    for (const maxVersion of tlsVersions) {
      const { session } = await visit(optional, { ...showing(shown), maxVersion })
      const again = await visit(optional, { ...showing(shown), maxVersion, session })
      assert.deepEqual([again.status, again.resumed], [200, true])
    }
  }
})

test('a client with a bad certificate gets nothing to resume with', async () => {
  for (const maxVersion of tlsVersions) {
    const sessions: Buffer[] = []
    const shown = { ...showing(clientCertificate(other, 'alice')), maxVersion }
    await assert.rejects(visit(optional, { ...shown, onSession: (session) => sessions.push(session) }), isRefused)
    assert.deepEqual(sessions, [])
  }
})

test('a client gets in with a certificate of an intermediate authority that it sends along, anew and by resuming', async (t) => {
  await assertLetIn(t, required, viaMiddle)
  for (const maxVersion of tlsVersions) {
    const { session } = await visit(required, { ...showing(viaMiddle), maxVersion })
    const again = await visit(required, { ...showing(viaMiddle), maxVersion, session })
    assert.deepEqual([again.status, again.resumed], [200, true])
  }
})

test('a client that wants to shake hands again on an open connection is refused', async (t) => {
  for (const served of [required, optional]) {
    const { socket } = await agree(t, served, { ...showing(alice), maxVersion: 'TLSv1.2' })
    const refusal = await new Promise<Error | null>((resolve) => {
      socket.on('error', resolve)
      socket.renegotiate({}, resolve)
    })
    assert.match(String(refusal), /no.renegotiation/i)
    await assertLetIn(t, served, alice)
  }
})

test('with `crl` a client gets in unless its certificate is revoked', async (t) => {
  const crl = await listFile('revoked.pem', revocationList(by, [mallory]))
  for (const clientAuth of ['required', 'optional']) {
    const served = await serve(t, { crl, clientAuth })
    await assertLetIn(t, served, alice)
    await assertKeptOut(t, served, mallory, 'revoked')
  }
})

test('a client whose certificate is revoked does not get in by resuming', async (t) => {
  const crl = await listFile('later.pem', revocationList(by, []))
  const served = await serve(t, { crl })
  const sessions = await Promise.all(
    tlsVersions.map((maxVersion) => visit(served, { ...showing(mallory), maxVersion })),
  )
  await replace(crl, revocationList(by, [mallory]))
  await until('it is out', async () => !(await isLetIn(served, showing(mallory))))
  for (const [i, maxVersion] of tlsVersions.entries()) {
    const { session } = sessions[i]!
    assert.equal(await isLetIn(served, { ...showing(mallory), maxVersion, session }), false)
  }
  await assertLetIn(t, served, alice)
})

test('a list of every authority in the chain is needed, and each keeps out those that it names', async (t) => {
  const [root, own] = [revocationList(by, []), revocationList(middle, [])]
  const without = await serve(t, { crl: await listFile('root.pem', root) })
  await assertLetIn(t, without, alice)
  await assertKeptOut(t, without, viaMiddle, 'crl')
  await assertLetIn(t, await serve(t, { crl: await listFile('both.pem', root, own) }), viaMiddle)
  const withoutMiddle = await listFile('no-middle.pem', revocationList(by, [middle]), own)
  await assertKeptOut(t, await serve(t, { crl: withoutMiddle }), viaMiddle, 'revoked')
  const withoutCarol = await listFile('no-carol.pem', root, revocationList(middle, [viaMiddle]))
  await assertKeptOut(t, await serve(t, { crl: withoutCarol }), viaMiddle, 'revoked')
})

test('a list that another authority has signed in the name of this one is none', async (t) => {
  const crl = await listFile('false.pem', revocationList({ ...other, subject: by.subject }, []))
  await assertKeptOut(t, await serve(t, { crl }), alice, 'crl')
})

test('when a list has expired nobody of this authority gets in, by resuming neither, until there is a new one', async (t) => {
  const soon = Math.ceil(Date.now() / 1_000) * 1_000 + 2_000
  const crl = await listFile('expiring.pem', revocationList(by, [], { until: soon }))
  const served = await serve(t, { crl, clientAuth: 'optional' })
  const visits = tlsVersions.map((maxVersion) => visit(served, { ...showing(alice), maxVersion }))
  const sessions = (await Promise.all(visits)).map(({ session }) => session)
  await until('alice is out', async () => !(await isLetIn(served, showing(alice))))
  await assertKeptOut(t, served, alice, 'crl')
  for (const [i, maxVersion] of tlsVersions.entries()) {
    assert.equal(await isLetIn(served, { ...showing(alice), maxVersion, session: sessions[i] }), false)
  }
  await assertLetIn(t, served)
  await replace(crl, revocationList(by, []))
  await until('alice is in', () => isLetIn(served, showing(alice)))
})

test('an intermediate authority that expires takes its clients out, by resuming too', async (t) => {
  const brief = issue({ subject: 'brief', days: 3 / 86_400, issued: { by, as: 'authority', names: [] } }, Date.now())
  const shown = behind(clientCertificate(brief, 'dave'), brief)
  const served = await serve(t)
  const visits = tlsVersions.map((maxVersion) => visit(served, { ...showing(shown), maxVersion }))
  const sessions = (await Promise.all(visits)).map(({ session }) => session)
  await until('it is out', async () => !(await isLetIn(served, showing(shown))))
  for (const [i, maxVersion] of tlsVersions.entries()) {
    assert.equal(await isLetIn(served, { ...showing(shown), maxVersion, session: sessions[i] }), false)
  }
})
