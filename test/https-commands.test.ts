/** `penstock cert` and `penstock infer`: certificates for development, and requests to a gateway that speaks HTTPS. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { suite, test, type TestContext } from 'node:test'
import { promisify } from 'node:util'
import { stringify } from 'yaml'
import type { Issued } from '../src/cli/certificate.ts'
import { start } from '../src/cli/serve.ts'
import { loadConfig } from '../src/config.ts'
import { folderWith } from './support/gateway.ts'
import { serveTls, visit } from './support/handshake.ts'
import { identity } from './support/onnx.ts'
import { penstock } from './support/process.ts'
import { authority, certificateFolder, clientCertificate, pairsIn, serverCertificate } from './support/tls.ts'

const by = authority()
const other = authority('other authority')
const files = await folderWith({
  'authority.pem': by.cert,
  'echo.json': '{"inputs":[{"name":"x","datatype":"FP32","shape":[1,1],"data":[7]}]}',
})

/** A certificate for this machine that can be told from others by its common name. */
function named(name: string, authorityOf = by): Issued {
  return serverCertificate(authorityOf, name, 'localhost', '127.0.0.1')
}

/** A configuration for a small store in its folder. */
function configOf(): string {
  return stringify({ auth: 'none', metrics: { port: 0 }, admin: { port: 0 }, store: { path: '.' } })
}

/** A folder to work in, with a small store. */
function workFolder(others: Record<string, string> = {}): Promise<string> {
  return folderWith({ 'config/echo.onnx': identity('FP32', ['n', 1]), ...others })
}

/** Runs `penstock cert` there and gives back what it says; it has to go well. */
async function makeCertificate(t: TestContext, cwd: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await penstock(t, ['cert', ...args], cwd).finished
  assert.deepEqual([code, stderr], [0, ''])
  return stdout
}

/** Pastes advice into a configuration and starts a gateway with it, on a free port. */
async function startAdvised(t: TestContext, cwd: string, ...advice: string[]): Promise<string> {
  const lines = advice.flatMap((each) =>
    each.split('\n').filter((line) => /^edge:|^ +(tls|certificates|- cert|key|clientCa):/.test(line)),
  )
  const file = join(cwd, 'config/advised.yaml')
  await writeFile(file, configOf() + lines.join('\n').replace('edge:', 'edge:\n  port: 0'))
  const loaded = await loadConfig(file)
  assert.ok('config' in loaded, lines.join('\n'))
  const started = await start(loaded)
  assert.ok('running' in started)
  t.after(() => started.running.stop())
  return started.running.url
}

/** Runs the curl line of some advice as a person would paste it, for a gateway on another port. */
async function pasteCurl(cwd: string, advice: string, url: string): Promise<any> {
  const [line = ''] = /^ +curl .*:8080\/v2$/m.exec(advice) ?? []
  const pasted = `${line.replace(':8080', `:${new URL(url).port}`)} -sS`
  return JSON.parse((await promisify(execFile)('sh', ['-c', pasted], { cwd })).stdout)
}

async function certificateIn(cwd: string, name: string): Promise<X509Certificate> {
  return new X509Certificate(await readFile(join(cwd, `config/tls/${name}.pem`)))
}

suite('`penstock cert`', { concurrency: 3 }, () => {
  test('makes certificates for a server and for its clients, and the lines it prints work when pasted', async (t) => {
    const cwd = await workFolder()
    const advice = await makeCertificate(t, cwd)
    const url = await startAdvised(t, cwd, advice)
    assert.equal((await pasteCurl(cwd, advice, url)).name, 'penstock')
    const client = await makeCertificate(t, cwd, '--client', 'alice')
    for (const name of ['ca', 'server', 'alice']) {
      assert.equal((await stat(join(cwd, `config/tls/${name}-key.pem`))).mode & 0o777, 0o600)
    }
    const guarded = await startAdvised(t, cwd, advice, client)
    assert.equal((await pasteCurl(cwd, client, guarded)).name, 'penstock')
    await assert.rejects(pasteCurl(cwd, advice, guarded), /curl/)
  })

  test('makes the next certificate with the same authority, for the names that it is given', async (t) => {
    const cwd = await workFolder()
    await makeCertificate(t, cwd)
    const trusted = await readFile(join(cwd, 'config/tls/ca.pem'), 'utf8')
    const before = await certificateIn(cwd, 'server')
    const names = ['localhost', 'api.example.com', '*.wild.example', '127.0.0.1', 'fd00::7']
    const url = await startAdvised(t, cwd, await makeCertificate(t, cwd, ...names))
    for (const servername of ['', 'localhost', 'api.example.com', 'a.wild.example']) {
      assert.equal((await visit({ url }, { ca: trusted, servername })).shown, 'localhost')
    }
    const after = await certificateIn(cwd, 'server')
    assert.ok(after.checkIP('fd00::7') && after.serialNumber !== before.serialNumber)
  })

  test('puts no empty list of names into a certificate (RFC 5280 section 4.2.1.6)', () => {
    assert.equal(new X509Certificate(clientCertificate(by, 'alice').cert).subjectAltName, undefined)
  })

  test('prints a curl line for an IPv6 address that curl takes', async (t) => {
    assert.match(await makeCertificate(t, await workFolder(), '::1'), /^ +curl .*https:\/\/\[::1\]:8080\/v2'?$/m)
  })

  const strange = named('strange', other)
  const inTheWay: [what: string, files: Record<string, string>, args: string[], file: string][] = [
    ['a certificate of somebody else', { 'server.pem': strange.cert, 'server-key.pem': strange.key }, [], 'server.pem'],
    ['a key of somebody else', { 'server-key.pem': strange.key }, [], 'server-key.pem'],
    ['an authority without its key', { 'ca.pem': other.cert }, [], 'ca.pem'],
    ['a file that is no certificate', { 'server.pem': 'notes' }, [], 'server.pem'],
    ['its authority, for a client "ca",', { 'ca.pem': by.cert, 'ca-key.pem': by.key }, ['--client', 'ca'], 'ca'],
  ]
  for (const [what, there, args, file] of inTheWay) {
    test(`does not overwrite ${what} and says so in one line`, async (t) => {
      const paths = Object.entries(there).map(([name, text]) => [`config/tls/${name}`, text] as const)
      const cwd = await workFolder(Object.fromEntries(paths))
      const { code, stdout, stderr } = await penstock(t, ['cert', ...args], cwd).finished
      for (const [path, text] of paths) assert.equal(await readFile(join(cwd, path), 'utf8'), text, path)
      assert.deepEqual([code, stdout], [1, ''])
      assert.match(stderr, new RegExp(`^penstock: .*${file}.*\n$`))
    })
  }
})

function infer(t: TestContext, url: string, ...args: string[]) {
  return penstock(t, ['infer', 'echo', '--input', 'echo.json', '--url', url, ...args], files).finished
}

/** What `penstock infer` says when it fails, in one line. */
async function inferFails(t: TestContext, url: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await infer(t, url, ...args)
  assert.deepEqual([code, stdout], [1, ''])
  assert.match(stderr, /^penstock: .*\n$/)
  return stderr
}

test('`penstock infer` trusts who is named by --ca, and says in one line what to do without', async (t) => {
  const { url } = await serveTls(t, {
    certificates: pairsIn(await certificateFolder({ server: named('server') }), 'server'),
  })
  const [trusting, doubting, plain] = await Promise.all([
    infer(t, url, '--ca', 'authority.pem'),
    inferFails(t, url),
    inferFails(t, url.replace('https:', 'http:')),
  ])
  assert.deepEqual([trusting.code, trusting.stderr], [0, ''])
  assert.deepEqual(JSON.parse(trusting.stdout).outputs[0].data, [7])
  assert.match(doubting, /not trusted.* with --ca$/m)
  assert.match(plain, /https:\/\//)
})

test('`penstock infer` does not say to name the authority where another name or a certificate is missing', async (t) => {
  const folder = await certificateFolder({ server: named('server'), elsewhere: serverCertificate(by, 'elsewhere') })
  const elsewhere = await serveTls(t, { certificates: pairsIn(folder, 'elsewhere') })
  const guarded = await serveTls(t, { certificates: pairsIn(folder, 'server'), clientCa: `${files}/authority.pem` })
  const said = await Promise.all([elsewhere, guarded].map(({ url }) => inferFails(t, url, '--ca', 'authority.pem')))
  assert.doesNotMatch(said.join(''), /name who signed it with --ca/)
})

test('`penstock infer` shows the certificate that it is given', async (t) => {
  const folder = await certificateFolder({ server: named('server'), alice: clientCertificate(by, 'alice') })
  const { url } = await serveTls(t, { certificates: pairsIn(folder, 'server'), clientCa: `${files}/authority.pem` })
  const own = ['--cert', `${folder}/alice.pem`, '--key', `${folder}/alice-key.pem`]
  const [shown, without] = await Promise.all([
    infer(t, url, '--ca', 'authority.pem', ...own),
    inferFails(t, url, '--ca', 'authority.pem'),
  ])
  assert.deepEqual([shown.code, shown.stderr], [0, ''])
  assert.match(without, /--cert and --key/)
})

test('`penstock infer` says which of its own files is wrong', async (t) => {
  const folder = await certificateFolder({ server: named('server'), alice: clientCertificate(by, 'alice') })
  const { url } = await serveTls(t, { certificates: pairsIn(folder, 'server') })
  const alice = `${folder}/alice.pem`
  const wrong: [args: string[], said: RegExp][] = [
    [['--cert', alice], /--cert and --key belong together/],
    [
      ['--cert', alice, '--key', `${folder}/server-key.pem`],
      /alice\.pem and .*server-key\.pem are no certificate and its key/,
    ],
    [['--ca', 'echo.json'], /echo\.json: holds no certificate/],
    [['--ca', alice], /is not signed by .*alice\.pem/],
  ]
  const said = await Promise.all(wrong.map(([args]) => inferFails(t, url, ...args)))
  for (const [i, [, expected]] of wrong.entries()) assert.match(said[i]!, expected)
})
