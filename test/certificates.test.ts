/** The files behind HTTPS: those that cannot be used, and those that change while the gateway runs. */
import assert from 'node:assert/strict'
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { Agent } from 'node:https'
import { basename, join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { stringify } from 'yaml'
import type { Issued } from '../src/cli/certificate.ts'
import { start } from '../src/cli/serve.ts'
import { loadConfig } from '../src/config.ts'
import { showMistake } from '../src/core/document.ts'
import { until } from './support/client.ts'
import { folderWith } from './support/gateway.ts'
import { isLetIn, put, replace, serveTls, tlsVersions, visit, type VisitOptions } from './support/handshake.ts'
import { identity } from './support/onnx.ts'
import { penstock } from './support/process.ts'
import { openClient } from './support/protocols.ts'
import { authority, certificateFolder, clientCertificate, pairsIn, serverCertificate } from './support/tls.ts'

const by = authority()
const other = authority('other authority')
const ca = by.cert

/** A certificate for this machine that can be told from others by its common name. */
function named(name: string, authorityOf = by): Issued {
  return serverCertificate(authorityOf, name, 'localhost', '127.0.0.1')
}

const good = named('server')
const passphrase = { type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'x' } as const
const broken = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n'
const files = await folderWith({
  'server.pem': good.cert,
  'server-key.pem': good.key,
  'der.pem': new X509Certificate(good.cert).raw,
  'chain.pem': good.cert + broken,
  'other-key.pem': named('other').key,
  'encrypted-key.pem': createPrivateKey(good.key).export(passphrase),
  'authority.pem': ca,
  'authorities.pem': ca + broken,
  'echo.onnx': identity('FP32', ['n', 1]),
})

/** A configuration for a small store in its folder. */
function configOf(settings: object = {}): string {
  return stringify({ auth: 'none', metrics: { port: 0 }, admin: { port: 0 }, store: { path: '.' }, ...settings })
}

function showing({ cert, key }: Issued): VisitOptions {
  return { ca, cert, key }
}

/** Settles once new connections are shown this certificate, whether they ask for a name or not. */
function untilShown(gateway: { readonly url: string }, name: string): Promise<void> {
  return until(`${name} is shown`, async () => {
    const visits = ['', 'localhost'].map((servername) => visit(gateway, { ca, servername }))
    return (await Promise.all(visits)).every(({ status, shown }) => status === 200 && shown === name)
  })
}

function startWatching(t: TestContext, folder: string, tls: object = {}) {
  return serveTls(t, { certificates: pairsIn(folder, 'server'), reloadMs: 10, ...tls })
}

test('a new certificate is shown to new connections, and those that are open go on', async (t) => {
  const folder = await certificateFolder({ server: named('old') })
  const gateway = await startWatching(t, folder)
  const agent = new Agent({ keepAlive: true, maxSockets: 1, maxCachedSessions: 0 })
  t.after(() => agent.destroy())
  const client = openClient(t, 'h2', { url: gateway.url, ca })
  await untilShown(gateway, 'old')
  assert.equal((await visit(gateway, { ca, agent })).shown, 'old')
  assert.equal((await client.send({ path: '/v2' })).status, 200)
  await put(folder, 'server', named('new'))
  await untilShown(gateway, 'new')
  const { status, shown, onOpenConnection } = await visit(gateway, { ca, agent })
  assert.deepEqual([status, shown, onOpenConnection], [200, 'old', true])
  assert.equal((await client.send({ path: '/v2' })).status, 200)
  assert.equal(client.session!.closed, false)
})

test('a session is resumed after the certificate was renewed', async (t) => {
  const folder = await certificateFolder({ server: named('old'), ca: by })
  const gateway = await startWatching(t, folder, { clientCa: `${folder}/ca.pem` })
  const alice = showing(clientCertificate(by, 'alice'))
  const before = await Promise.all(tlsVersions.map((maxVersion) => visit(gateway, { ...alice, maxVersion })))
  await put(folder, 'server', named('new'))
  await until('the new one is shown', async () => (await visit(gateway, alice)).shown === 'new')
  for (const [i, maxVersion] of tlsVersions.entries()) {
    const { status, resumed } = await visit(gateway, { ...alice, maxVersion, session: before[i]!.session })
    assert.deepEqual([status, resumed], [200, true])
  }
})

test('when `clientCa` is another authority, its clients get in, and those of the old one neither anew nor by resuming', async (t) => {
  const folder = await certificateFolder({ server: named('server'), ca: by })
  const gateway = await startWatching(t, folder, { clientCa: `${folder}/ca.pem` })
  const [alice, bob] = [showing(clientCertificate(by, 'alice')), showing(clientCertificate(other, 'bob'))]
  const before = await Promise.all(tlsVersions.map((maxVersion) => visit(gateway, { ...alice, maxVersion })))
  await replace(`${folder}/ca.pem`, by.cert + other.cert)
  await until('both are in', async () => (await isLetIn(gateway, bob)) && (await isLetIn(gateway, alice)))
  await replace(`${folder}/ca.pem`, other.cert)
  await until('the old one is out', async () => !(await isLetIn(gateway, alice)))
  for (const [i, maxVersion] of tlsVersions.entries()) {
    const { session } = before[i]!
    assert.equal(await isLetIn(gateway, { ...alice, maxVersion }), false)
    assert.equal(await isLetIn(gateway, { ...alice, maxVersion, session }), false)
    assert.equal(await isLetIn(gateway, { ca, maxVersion, session }), false)
    assert.equal(await isLetIn(gateway, { ...bob, maxVersion }), true)
  }
})

test('files that cannot be used change nothing and are logged once, and good ones that follow are taken', async (t) => {
  const old = named('old')
  const folder = await certificateFolder({ server: old })
  const tls = { certificates: pairsIn(folder, 'server'), reloadMs: 10 }
  await writeFile(join(files, 'watched.yaml'), configOf({ edge: { port: 0, tls } }))
  const served = penstock(t, ['serve', 'watched.yaml'], files)
  const logged: string[] = []
  served.child.stderr!.on('data', (chunk: Buffer) => logged.push(...chunk.toString().trimEnd().split('\n')))
  const [, url] = await served.said(/ at (https:\S+),/)
  const steps: [change: () => Promise<unknown>, file: string, words: RegExp][] = [
    [() => replace(`${folder}/server.pem`, 'garbage'), 'server.pem', /holds no certificate/],
    [() => replace(`${folder}/server.pem`, named('mismatched').cert), 'server-key.pem', /not the key of/],
    [() => rm(`${folder}/server.pem`), 'server.pem', /no such file/],
    [
      () => rm(`${folder}/server-key.pem`).then(() => replace(`${folder}/server.pem`, old.cert)),
      'server-key.pem',
      /no such/,
    ],
  ]
  for (const [i, [change, file, words]] of steps.entries()) {
    await change()
    await until(`it is logged that ${words} holds for ${file}`, async () => logged.length > i)
    // Nothing tells of a look that finds what the one before has found.
    await setTimeout(100)
    const line = JSON.parse(logged.at(-1)!)
    assert.deepEqual([logged.length, line.level, basename(line.file)], [i + 1, 50, file], logged.join('\n'))
    assert.match(line.msg, words)
    await untilShown({ url: url! }, 'old')
  }
  const { cert, key } = named('new')
  await replace(`${folder}/server.pem`, cert)
  await replace(`${folder}/server-key.pem`, key)
  await untilShown({ url: url! }, 'new')
  assert.equal(logged.length, steps.length)
})

test('certificates that Kubernetes swaps by a link to their folder are taken up', async (t) => {
  const folder = await folderWith()
  /** Each version lies in a folder of its own; one link leads to the folder, and the files' names lead through it. */
  const mount = async (version: string, { cert, key }: Issued) => {
    await mkdir(`${folder}/${version}`)
    await writeFile(`${folder}/${version}/server.pem`, cert)
    await writeFile(`${folder}/${version}/server-key.pem`, key)
    await symlink(version, `${folder}/..data_new`)
    await rename(`${folder}/..data_new`, `${folder}/..data`)
  }
  await mount('..2026_01', named('old'))
  await symlink('..data/server.pem', `${folder}/server.pem`)
  await symlink('..data/server-key.pem', `${folder}/server-key.pem`)
  const gateway = await startWatching(t, folder)
  await untilShown(gateway, 'old')
  await mount('..2026_02', named('new'))
  await rm(`${folder}/..2026_01`, { recursive: true })
  await untilShown(gateway, 'new')
})

type Settings = { readonly [each in 'cert' | 'key' | 'second' | 'clientCa']?: string }

/** What is wrong: files for `edge.tls` in a common folder, and the one line that tells of it. */
const unusable: [what: string, tls: Settings, line: RegExp][] = [
  ['a certificate that is not there', { cert: 'none.pem' }, /^none\.pem: no such file$/],
  ['a key that is not there', { key: 'none-key.pem' }, /^none-key\.pem: no such file$/],
  ['a certificate that is not PEM', { cert: 'der.pem' }, /^der\.pem: holds no certificate in PEM form/],
  ['a key of another certificate', { key: 'other-key.pem' }, /^other-key\.pem: is not the key of .*server\.pem$/],
  ['a key with a passphrase', { key: 'encrypted-key.pem' }, /^encrypted-key\.pem: holds no .* without a passphrase$/],
  ['a chain that is broken', { cert: 'chain.pem' }, /^chain\.pem: cannot be used/],
  ['a broken chain of the second certificate', { second: 'chain.pem' }, /^chain\.pem: cannot be used/],
  ['authorities that are not there', { clientCa: 'none.pem' }, /^none\.pem: no such file$/],
  ['authorities without a certificate', { clientCa: 'server-key.pem' }, /^server-key\.pem: holds no certificate/],
  ['authorities of which one is broken', { clientCa: 'authorities.pem' }, /^authorities\.pem: holds no certificate/],
]
/** Writes a configuration with such settings; returns its file. */
async function writeConfig(name: string, { cert = 'server.pem', key = 'server-key.pem', second, clientCa }: Settings) {
  const others = second === undefined ? [] : [{ cert: second, key }]
  const tls = { certificates: [{ cert, key }, ...others], ...(clientCa && { clientCa }) }
  await writeFile(join(files, name), configOf({ edge: { port: 0, tls } }))
  return join(files, name)
}

for (const [i, [what, tls, line]] of unusable.entries()) {
  test(`the gateway does not start with ${what}, and says so in one line`, async () => {
    const loaded = await loadConfig(await writeConfig(`${i}.yaml`, tls))
    assert.ok('config' in loaded)
    const started = await start(loaded)
    if ('running' in started) await started.running.stop()
    assert.ok('mistakes' in started)
    assert.equal(started.mistakes.length, 1)
    assert.match(showMistake(started.mistakes[0]!).replace(`${files}/`, ''), line)
  })
}

test('`penstock check` says the same', async (t) => {
  const some = [unusable[0]!, unusable.at(-1)!]
  const checks = some.map(async ([what, tls, line], i) => {
    const config = await writeConfig(`check-${i}.yaml`, tls)
    const { code, stderr } = await penstock(t, ['check', config], files).finished
    const [heading, said, ...more] = stderr.trimEnd().split('\n')
    assert.deepEqual([code, heading, more], [1, 'penstock: cannot go on:', []], what)
    assert.match(said!.trim(), line)
  })
  await Promise.all(checks)
})
