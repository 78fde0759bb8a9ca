/** API keys at the socket: which get in, as whom, and what becomes of the file that names them. */
import assert from 'node:assert/strict'
import { hash } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { stringify } from 'yaml'
import { ApiKeys, apiKeyOptions } from '../src/auth/api-keys.ts'
import { start } from '../src/cli/serve.ts'
import { systemClock } from '../src/core/clock.ts'
import { showMistake } from '../src/core/document.ts'
import { isRefusal } from '../src/core/refusal.ts'
import { until } from './support/client.ts'
import { configWith, folderWith, startGateway, tensor, type TestGateway } from './support/gateway.ts'
import { replace } from './support/handshake.ts'
import { identity } from './support/onnx.ts'
import { penstock } from './support/process.ts'
import { Wire } from './support/socket.ts'

const store = { 'echo.onnx': identity('FP32', ['n', 1]) }
const keyOf = (id: string, secret: string = `not-a-secret-of-${id}`) => `${id}.${secret}`

interface Entry {
  readonly id: string
  readonly [key: string]: unknown
}

function fileOf(...entries: readonly Entry[]): string {
  return stringify({ keys: entries.map((entry) => ({ sha256: hash('sha256', keyOf(entry.id)), ...entry })) })
}

const alice = { id: 'alice', tenant: 'acme', scopes: ['models'] }
const rules = [{ who: { methods: ['api-key'] }, operations: ['infer', 'metadata'] }]

interface Guarded extends TestGateway {
  readonly file: string
}

async function guarded(t: TestContext, text: string, keys: object = {}, more: object = {}): Promise<Guarded> {
  const file = join(await folderWith({ 'keys.yaml': text }), 'keys.yaml')
  const { access = rules, ...settings } = more as { access?: object[] }
  const apiKeys = { file, reloadMs: 100, ...keys }
  return { ...(await startGateway(t, { store, settings: { auth: { apiKeys, access }, ...settings } })), file }
}

async function ask({ url }: TestGateway, key: string | undefined, header: string = 'x-api-key') {
  const response = await fetch(`${url}/v2/models/echo`, { headers: key === undefined ? {} : { [header]: key } })
  const text = await response.text()
  return { status: response.status, json: JSON.parse(text), text }
}

test('a key gets in, and nothing that is only like it', async (t) => {
  const past = { id: 'past', expires: '2020-01-01T00:00:00Z' }
  const later = { id: 'later', expires: '2999-01-01T00:00:00Z' }
  const gateway = await guarded(t, fileOf(alice, { id: 'bob' }, past, later))
  for (const id of ['alice', 'bob', 'later']) assert.equal((await ask(gateway, keyOf(id))).status, 200, id)
  const bad = {
    'none at all': undefined,
    'an empty one': '',
    'an unknown id': keyOf('carol'),
    'a wrong secret': keyOf('alice', 'wrong'),
    'the id alone': 'alice',
    'no secret': 'alice.',
    'no id': keyOf('alice').slice('alice'.length),
    'the id of another': keyOf('bob').replace('bob', 'alice'),
    'other letters': keyOf('Alice'),
    'a part more': `${keyOf('alice')}.more`,
    'a letter less': keyOf('alice').slice(0, -1),
    'its hash': hash('sha256', keyOf('alice')),
    'a list of two': `${keyOf('alice')}, ${keyOf('alice')}`,
    'a name of every object': '__proto__.x',
    'a very long one': keyOf('alice', 'x'.repeat(8_000)),
    'an expired one': keyOf('past'),
  }
  for (const [what, key] of Object.entries(bad)) {
    const { status, json, text } = await ask(gateway, key)
    assert.deepEqual([status, json.code], [401, 'unauthenticated'], what)
    if (key !== undefined && key.length > 6) assert.ok(!text.includes(key), what)
  }
  assert.match((await ask(gateway, keyOf('past'))).json.error, /expired/)
  const said = ['alice.wrong', 'carol.wrong'].map(async (key) => (await ask(gateway, key)).json.error)
  assert.equal(await said[0], await said[1], 'nobody learns which ids there are')
})

test('a key that was sent twice is refused', async (t) => {
  const wire = await Wire.open(t, (await guarded(t, fileOf(alice))).url)
  const field = `x-api-key: ${keyOf('alice')}\r\n`
  wire.write(`GET /v2 HTTP/1.1\r\nhost: localhost\r\n${field}${field}\r\n`)
  assert.equal((await wire.reply()).status, 401)
})

test('the field that carries keys can be chosen, and then the usual one carries none', async (t) => {
  const gateway = await guarded(t, fileOf(alice), { header: 'x-robot' })
  assert.equal((await ask(gateway, keyOf('alice'), 'x-robot')).status, 200)
  const { status, json } = await ask(gateway, keyOf('alice'))
  assert.equal(status, 401)
  assert.match(json.error, /x-robot/)
})

test('keys come, change and go with the file, and a broken file changes nothing', async (t) => {
  const gateway = await guarded(t, fileOf(alice, { id: 'bob' }))
  const becomes = (key: string, status: number) => {
    return until(`${key} is answered ${status}`, async () => (await ask(gateway, key)).status === status)
  }
  const rotated = keyOf('alice', 'another')
  await replace(gateway.file, fileOf({ ...alice, sha256: hash('sha256', rotated) }, { id: 'carol' }))
  await becomes(keyOf('carol'), 200)
  assert.equal((await ask(gateway, rotated)).status, 200)
  assert.equal((await ask(gateway, keyOf('alice'))).status, 401, 'the key before the change')
  assert.equal((await ask(gateway, keyOf('bob'))).status, 401, 'the key that is not in the file any more')
  await replace(gateway.file, fileOf({ ...alice, sha256: hash('sha256', rotated), expires: '2020-01-01T00:00:00Z' }))
  await becomes(rotated, 401)
  await replace(gateway.file, fileOf(alice, { id: 'dan' }))
  await becomes(keyOf('dan'), 200)
})

test('a file that breaks keeps the keys before, is reported once, and again when it breaks anew', async (t) => {
  const files = {
    'penstock.yaml': stringify({
      auth: { apiKeys: { file: 'keys.yaml', reloadMs: 100 }, access: rules },
      edge: { port: 0, drain: { idleMs: 0 } },
      metrics: { port: 0 },
      admin: { port: 0 },
      store: { path: 'store' },
    }),
    'keys.yaml': fileOf(alice),
    'store/echo.onnx': store['echo.onnx'],
  }
  const folder = await folderWith(files)
  const served = penstock(t, ['serve', 'penstock.yaml'], folder)
  const [, url] = await served.said(/at (http:\S+),/)
  let log = ''
  served.child.stderr!.on('data', (chunk: Buffer) => (log += chunk.toString()))
  const file = join(folder, 'keys.yaml')
  const reports = (pattern: RegExp) => log.match(new RegExp(pattern, 'g'))?.length ?? 0
  const isIn = async (id: string) => {
    return (await fetch(`${url}/v2/models/echo`, { headers: { 'x-api-key': keyOf(id) } })).status === 200
  }
  await replace(file, stringify({ keys: [{ id: 'alice', sha256: 'abc' }] }))
  await until('it is reported', () => Promise.resolve(reports(/SHA-256/) === 1))
  assert.equal(await isIn('alice'), true)
  await replace(file, 'keys: [')
  await until('the next problem is reported', () => Promise.resolve(reports(/not YAML/) === 1))
  assert.equal(await isIn('alice'), true)
  await replace(file, fileOf(alice, { id: 'bob' }))
  await until('it is good again', () => isIn('bob'))
  await replace(file, 'keys: [')
  await until('it is reported again', () => Promise.resolve(reports(/not YAML/) === 2))
  served.child.kill('SIGTERM')
  const { stderr } = await served.finished
  assert.equal(stderr.trimEnd().split('\n').length, 3, stderr)
})

test('a file that stays broken is reported once, however often it is looked at, and a key ends in its time', async (t) => {
  const file = join(await folderWith(), 'keys.yaml')
  await replace(file, fileOf({ id: 'a', expires: '2027-01-01T00:00:00Z' }))
  const problems: string[] = []
  const looks: (() => void)[] = []
  let epoch = Date.parse('2026-12-31T23:59:59Z')
  const after = (_ms: number, look: () => void) => {
    looks.push(look)
    return () => undefined
  }
  const clock = { ...systemClock, epoch: () => epoch, after }
  const onProblem = ({ message }: { message: string }) => void problems.push(message)
  const keys = await ApiKeys.create(apiKeyOptions.parse({ file }), { clock, onProblem })
  assert.ok(keys instanceof ApiKeys)
  t.after(() => keys.close())
  const show = () => keys.identify({ 'x-api-key': keyOf('a') })
  const known = show()
  await replace(file, 'keys: [')
  for (let i = 0; i < 3; i++) {
    looks[i]!()
    await until('it was looked at', () => Promise.resolve(looks.length === i + 2))
  }
  assert.equal(problems.length, 1)
  assert.equal(show(), known, 'the same object, by which much is remembered')
  epoch += 1_000
  assert.ok(isRefusal(show()))
})

test('rules see the name, tenant, subject, scopes and method of a key', async (t) => {
  for (const [who, isGood] of [
    [{ callers: ['key:alice'] }, true],
    [{ callers: ['alice'] }, false],
    [{ tenants: ['acme'] }, true],
    [{ subjects: ['alice'] }, true],
    [{ scopes: ['models'] }, true],
    [{ scopes: ['other', 'mod*'] }, true],
    [{ scopes: ['model'] }, false],
    [{ methods: ['jwt', 'mtls'] }, false],
    [{ spiffe: ['**'] }, false],
    [{ peers: ['**'] }, false],
    [{ tenants: ['acme'], subjects: ['bob'] }, false],
    ['identified', true],
  ] as const) {
    const gateway = await guarded(t, fileOf(alice), {}, { access: [{ who, operations: ['metadata'] }] })
    assert.equal((await ask(gateway, keyOf('alice'))).status, isGood ? 200 : 404, JSON.stringify(who))
    await gateway.stop()
  }
})

test('each key has a limit per caller of its own', async (t) => {
  const limits = { rules: [{ name: 'one', by: ['caller'], rate: 0.001 }] }
  const gateway = await guarded(t, fileOf(alice, { id: 'bob' }), {}, { limits })
  const infer = async (id: string) => {
    const headers = { 'content-type': 'application/json', 'x-api-key': keyOf(id) }
    const body = JSON.stringify({ inputs: [tensor('x', 'FP32', [1, 1], [7])] })
    return (await fetch(`${gateway.url}/v2/models/echo/infer`, { method: 'POST', headers, body })).status
  }
  assert.deepEqual([await infer('alice'), await infer('alice'), await infer('bob')], [200, 429, 200])
})

const sha256 = '0'.repeat(64)
const secret = 'robot.this-was-meant-to-stay-secret'
const mistakes: [what: string, text: string | undefined, said: RegExp][] = [
  ['is missing', undefined, /keys\.yaml: no such file/],
  ['is empty', '', /keys\.yaml(:\d+)?: keys: is missing/],
  ['is not YAML', 'keys:\n  - [', /keys\.yaml:\d+: not YAML/],
  [
    'has an unknown key',
    `keys:\n  - id: a\n    sha256: '${sha256}'\n    scope: x`,
    /keys\.yaml:4: .*unknown key "scope"/,
  ],
  ['has no hash', 'keys:\n  - id: a', /keys\.yaml:2: keys\[0\]\.sha256: is missing/],
  [
    'has a hash that is too short',
    'keys:\n  - id: a\n    sha256: abc',
    /keys\.yaml:3: keys\[0\]\.sha256: expected the SHA/,
  ],
  [
    'holds a key itself',
    `keys:\n  - id: a\n    sha256: ${secret}`,
    /keys\.yaml:3: keys\[0\]\.sha256: expected the SHA/,
  ],
  [
    'has a dot in an id',
    `keys:\n  - id: a.b\n    sha256: '${sha256}'`,
    /keys\.yaml:2: keys\[0\]\.id: expected letters/,
  ],
  ['has a bad time', `keys:\n  - id: a\n    sha256: '${sha256}'\n    expires: soon`, /keys\.yaml:4: .*expected a time/],
  [
    'names one twice',
    fileOf(alice, alice),
    /keys\.yaml:\d+: keys\[1\]\.id: is that of another key too: give alice an id of its own$/m,
  ],
]

for (const [what, text, said] of mistakes)
  test(`nothing starts, and one line says where, if the file ${what}`, async () => {
    const files = { 'echo.onnx': store['echo.onnx'], ...(text !== undefined && { 'keys.yaml': text }) }
    const folder = await folderWith(files)
    const auth = { apiKeys: { file: join(folder, 'keys.yaml') }, access: rules }
    const started = await start(await configWith({ auth, store: { path: folder } }))
    assert.ok('mistakes' in started)
    const lines = started.mistakes.map(showMistake)
    assert.equal(lines.length, 1)
    assert.match(lines[0]!, said)
    assert.ok(!lines[0]!.includes('meant-to-stay-secret'), 'a key written instead of its hash is not shown')
  })

test('`penstock key` makes a key that works when its entry is pasted into the file', async (t) => {
  const args = ['robot', '--tenant', 'acme: [inc]', '--scope', 'models', 'more']
  const [made, plain] = await Promise.all([
    penstock(t, ['key', ...args]).finished,
    penstock(t, ['key', 'yes']).finished,
  ])
  const keys = [made, plain].map(({ code, stdout, stderr }) => {
    assert.deepEqual([code, stderr], [0, ''])
    const [, key, entry] = /^ {2}(\S+\.\S{43})\n[\s\S]*?\n\n( {2}- id: [\s\S]*)$/m.exec(stdout)!
    assert.ok(!entry!.includes(key!.split('.')[1]!), 'the entry holds the hash alone')
    return { key: key!, entry: entry! }
  })
  const access = [{ who: { tenants: ['acme: [inc]'], scopes: ['more'] }, operations: ['metadata'] }]
  const gateway = await guarded(t, `keys:\n${keys.map(({ entry }) => entry).join('')}`, {}, { access })
  assert.equal((await ask(gateway, keys[0]!.key)).status, 200)
  assert.equal((await ask(gateway, keys[1]!.key)).status, 404, 'known, and without a right')
  const [again, bad] = await Promise.all([penstock(t, ['key', 'yes']).finished, penstock(t, ['key', 'a.b']).finished])
  assert.ok(!again.stdout.includes(keys[1]!.key))
  assert.deepEqual([bad.code, bad.stdout], [1, ''])
  assert.match(bad.stderr, /^penstock: "a\.b" cannot be an id.*\n$/)
})

test('a key file named by a relative path is taken from the folder of the configuration', async (t) => {
  const plan = { auth: { apiKeys: { file: 'secret/keys.yaml' }, access: rules }, store: { path: 'store' } }
  const files = { 'at/penstock.yaml': stringify(plan), 'at/secret/keys.yaml': fileOf(alice) }
  const folder = await folderWith({ ...files, 'at/store/echo.onnx': store['echo.onnx'] })
  await writeFile(join(folder, 'keys.yaml'), 'nonsense')
  const { code, stderr } = await penstock(t, ['check', 'at/penstock.yaml'], folder).finished
  assert.deepEqual([code, stderr], [0, ''])
})
