/** What becomes of a configuration: defaults where it is silent, and one clear line where it is wrong. */
import assert from 'node:assert/strict'
import { basename, join } from 'node:path'
import { suite, test, type TestContext } from 'node:test'
import { loadConfig, redact } from '../src/config.ts'
import { showMistake } from '../src/core/document.ts'
import { configWith, folderWith, ownStore, startGateway } from './support/gateway.ts'
import { penstock } from './support/process.ts'

/** What is wrong with a file, line by line; its name is without its folder. */
async function mistakesIn(text: string): Promise<string[]> {
  const folder = await folderWith({ 'penstock.yaml': text })
  const loaded = await loadConfig(join(folder, 'penstock.yaml'))
  assert.ok('mistakes' in loaded)
  return loaded.mistakes.map((mistake) => showMistake({ ...mistake, file: basename(mistake.file) }))
}

/** What `penstock check` says about a file after the heading; it has to end with a refusal. */
async function complaints(t: TestContext, text: string): Promise<string[]> {
  const folder = await folderWith({ 'penstock.yaml': text })
  const { code, stdout, stderr } = await penstock(t, ['check', 'penstock.yaml'], folder).finished
  assert.deepEqual({ code, stdout }, { code: 1, stdout: '' }, stderr)
  assert.doesNotMatch(stderr, /^ {4}at /m, 'no stack trace')
  const [heading, ...lines] = stderr.trimEnd().split('\n')
  assert.match(heading!, /^penstock: /)
  return lines.map((line) => line.trim())
}

/** In one line each: the mistake, the file, and the line that is said about it. */
const mistakes: [mistake: string, text: string, line: RegExp][] = [
  ['an unknown key', 'auth: none\nedge:\n  prot: 1', /^penstock\.yaml:3: edge: unknown key "prot"$/],
  ['an unknown concept', 'auth: none\nlimit: {}', /^penstock\.yaml:2: unknown key "limit"$/],
  ['a word for a number', 'auth: none\nedge:\n  port: high', /^penstock\.yaml:3: edge\.port: .*number, found "high"$/],
  ['a number for a word', 'auth: none\nedge:\n  host: 1', /^penstock\.yaml:3: edge\.host: .*string, found 1$/],
  ['a port that is none', 'auth: none\nedge:\n  port: 70000', /^penstock\.yaml:3: edge\.port: .*65535, found 70000$/],
  ['a time of nothing', 'auth: none\nedge:\n  deadlineMs: 0', /^penstock\.yaml:3: edge\.deadlineMs: .*1, found 0$/],
  ['a section left empty', 'auth: none\nedge:\nadmin: {}', /^penstock\.yaml:2: edge: expected .*, found nothing$/],
  ['broken YAML', 'auth: none\nedge: {port: 1', /^penstock\.yaml:2: not YAML: /],
  ['a key given twice', 'auth: none\nedge: {}\nedge: {}', /^penstock\.yaml:3: not YAML: .*unique/],
  ['an alias of nothing', 'auth: none\nlog: *other', /^penstock\.yaml(:2)?: .*other/],
  ['a list', '- auth', /^penstock\.yaml:1: expected .*, found a list$/],
  [
    'a kind of auth that is not there',
    'auth: jwt',
    /^penstock\.yaml:1: auth: expected "none" or a mapping, found "jwt"$/,
  ],
  [
    'a policy that is not there',
    'auth: none\nbatching:\n  policy:\n    kind: greedy',
    /^penstock\.yaml:4: batching\.policy\.kind: .*adaptive.*fixed.*, found "greedy"$/,
  ],
  [
    "another policy's option",
    'auth: none\nbatching:\n  policy:\n    kind: adaptive\n    windowMs: 2',
    /^penstock\.yaml:5: batching\.policy: unknown key "windowMs"$/,
  ],
  [
    'a bad setting of one model',
    'auth: none\nmodels:\n  digits:\n    batching:\n      policy: { kind: fixed, maxRows: 0 }',
    /^penstock\.yaml:5: models\.digits\.batching\.policy\.maxRows: .*1, found 0$/,
  ],
  [
    'a version without quotes',
    'auth: none\nmodels:\n  digits:\n    version: 1',
    /^penstock\.yaml:4: models\.digits\.version: expected a version in quotes, found 1$/,
  ],
  [
    'one port for two listeners',
    'auth: none\nedge:\n  port: 7000\nadmin:\n  port: 7000',
    /^penstock\.yaml:5: admin\.port: edge\.port is 7000 too: set another$/,
  ],
  [
    'workers by a word',
    'auth: none\nruntime:\n  executors: all',
    /^penstock\.yaml:3: .*"auto" or number, found "all"$/,
  ],
  [
    'a log level that is not there',
    'auth: none\nlog:\n  level: loud',
    /^penstock\.yaml:3: log\.level: .*"warn".*"loud"$/,
  ],
  [
    'an edge for strangers that asks nobody who they are',
    'auth: none\nedge:\n  host: 0.0.0.0',
    /^penstock\.yaml:3: edge\.host: `auth: none` .*loopback only.*set 127\.0\.0\.1, or `edge\.tls\.clientCa`$/,
  ],
  [
    'an admin listener for strangers',
    'auth: none\nadmin:\n  host: "::"',
    /^penstock\.yaml:3: admin\.host: .*asks who is calling.*127\.0\.0\.1, or `auth\.jwt` or `auth\.apiKeys`$/,
  ],
  [
    'an issuer for development where strangers reach the gateway',
    'edge:\n  host: 0.0.0.0',
    /^penstock\.yaml:2: edge\.host: tokens of the development issuer are for this machine only.*127\.0\.0\.1 here$/,
  ],
  [
    'an issuer for development behind a proxy',
    'mesh:\n  mode: sidecar',
    /^penstock\.yaml:2: mesh\.mode: tokens of the development issuer are for this machine only/,
  ],
  [
    'auth that lets nobody in',
    'auth:\n  access: []',
    /^penstock\.yaml:1: auth: nobody could call: set `jwt`, `apiKeys`, `mtls` or `mesh`, or `auth: none`$/,
  ],
  [
    'certificates for which nobody vouches',
    'auth:\n  mtls: {}',
    /^penstock\.yaml:2: auth\.mtls: needs `edge\.tls\.clientCa`/,
  ],
  [
    'identities of a mesh that is not there',
    'auth:\n  mesh: {}',
    /^penstock\.yaml:2: auth\.mesh: with `mesh\.mode: none` no proxy vouches for workloads$/,
  ],
  [
    'a shared limit with nothing to share it through',
    'limits:\n  rules:\n    - { name: all, by: [], rate: 5, store: redis }',
    /^penstock\.yaml:3: limits\.rules\[0\]\.store: needs `redis`: set its `url`$/,
  ],
  [
    'a password in an address',
    'redis:\n  url: redis://:pa55@host:6379',
    /^penstock\.yaml:2: redis\.url: .*name and password belong into files, found "redis:\/\/\[redacted\]@host:6379"$/,
  ],
  ['an anchor used before it is set', 'auth: *a\nlog: &a {}', /^penstock\.yaml(:1)?: .*a/],
]

for (const [mistake, text, line] of mistakes) {
  test(`${mistake} is refused in one line that says where and what`, async () => {
    const lines = await mistakesIn(text)
    assert.equal(lines.length, 1, lines.join('\n'))
    assert.match(lines[0]!, line)
  })
}

const store = `auth: none\nstore:\n  path: ${ownStore}\nmodels:\n`
const checked: typeof mistakes = [
  ...mistakes.filter(([mistake]) => /broken YAML|alias|strangers|policy|a list/.test(mistake)),
  [
    'a setting of a model that is not in the store',
    `${store}  faces: {}`,
    /^penstock\.yaml:5: models\.faces: .*no such model/,
  ],
  [
    'a version that is not in the store',
    `${store}  digits:\n    version: '7'`,
    /^penstock\.yaml:6: models\.digits\.version: .*1, 2/,
  ],
]

suite('`penstock check` ends with exit code 1 and that one line', { concurrency: 3 }, () => {
  for (const [mistake, text, line] of checked) {
    test(mistake, async (t) => {
      const lines = await complaints(t, text)
      assert.equal(lines.length, 1, lines.join('\n'))
      assert.match(lines[0]!, line)
    })
  }
})

test('all mistakes are told at once', async (t) => {
  const lines = await complaints(t, 'auth: some\nedge:\n  port: -1\n  prot: 2\nlog:\n  level: 3\n')
  const places = lines.map((line) => /^penstock\.yaml:(\d): ([\w.]+)/.exec(line)?.slice(1).join(' '))
  assert.deepEqual(new Set(places), new Set(['1 auth', '3 edge.port', '4 edge', '6 log.level']))
  assert.equal(lines.length, 4)
})

test('a file that is missing or cannot be read is named, by every command that needs it', async (t) => {
  for (const command of ['check', 'serve', 'models']) {
    const { code, stderr } = await penstock(t, [command, 'config/nowhere.yaml']).finished
    assert.deepEqual([code, stderr], [1, 'penstock: cannot go on:\n  config/nowhere.yaml: no such file\n'])
  }
  const { code, stderr } = await penstock(t, ['check', 'config']).finished
  assert.equal(code, 1)
  assert.match(stderr, /^penstock: .*\n {2}config: cannot be read \(EISDIR\)\n$/)
})

test('what the file does not say has its default, and nobody can change it afterwards', async () => {
  const folder = await folderWith({
    'conf/penstock.yaml': 'auth: none\nedge:\n  body: { maxBytes: 81 }\n  drain:\n    idleMs: 5\n',
  })
  const loaded = await loadConfig(join(folder, 'conf/penstock.yaml'))
  assert.ok('config' in loaded)
  const { config } = loaded
  assert.partialDeepStrictEqual(config, {
    auth: 'none',
    edge: {
      host: '127.0.0.1',
      port: 8080,
      body: { maxBytes: 81, timeoutMs: 30_000 },
      deadlineMs: 30_000,
      drain: { idleMs: 5, timeoutMs: 30_000 },
    },
    metrics: { host: '127.0.0.1', port: 9090 },
    admin: { host: '127.0.0.1', port: 9091 },
    routes: [],
    store: { path: join(folder, 'conf/models') },
    models: {},
    batching: { policy: { kind: 'adaptive', maxRows: 64 }, maxQueueRows: 4096 },
    runtime: { executors: 'auto', worker: { isolation: 'thread', providers: ['cpu'], threads: 1 } },
    log: { level: 'warn' },
  })
  assert.throws(() => Object.assign(config.edge.drain, { idleMs: 6 }), TypeError)
  const { config: fixed } = await configWith({
    batching: { policy: { kind: 'fixed' } },
    store: { path: '/srv/models' },
  })
  assert.deepEqual(fixed.batching.policy, { kind: 'fixed', maxRows: 16, windowMs: 2 })
  assert.equal(fixed.store.path, '/srv/models')
})

test('a version written without quotes is never another version: 1.10 is not 1.1', async () => {
  for (const version of ['1.10', '1.0', '0x2']) {
    const folder = await folderWith({ 'penstock.yaml': `auth: none\nmodels: { m: { version: ${version} } }\n` })
    const loaded = await loadConfig(join(folder, 'penstock.yaml'))
    const read = 'config' in loaded ? loaded.config.models['m']?.version : undefined
    assert.ok(read === undefined || read === version, `${version} became ${read}`)
  }
})

test('loopback has several names', async () => {
  for (const host of ['localhost', '127.0.0.2', '::1']) {
    assert.equal((await configWith({ edge: { host } })).config.edge.host, host)
  }
})

test('a good configuration passes the check with the plan and listens nowhere', async (t) => {
  const folder = await folderWith({ 'penstock.yaml': `auth: none\nedge:\n  port: 1\nstore:\n  path: ${ownStore}\n` })
  const { code, stdout, stderr } = await penstock(t, ['check', 'penstock.yaml'], folder).finished
  assert.deepEqual([code, stderr], [0, ''])
  assert.match(
    stdout,
    /^digits\n {2}takes image UINT8 \[batch, 1, 28, 28\]\n {2}gives scores FP32 \[batch, 10\]\n {2}version 1/m,
  )
  assert.match(
    stdout,
    /\nOK: penstock\.yaml would listen on 127\.0\.0\.1:1, metrics on 127\.0\.0\.1:9090, admin on 127\.0\.0\.1:9091\n$/,
  )
})

test('the admin listener shows the configuration in force, defaults and all', async (t) => {
  const gateway = await startGateway(t, { settings: { models: { digits: { version: '1' } } } })
  const shown = (await (await fetch(`${gateway.adminUrl}/admin/config`)).json()) as object
  assert.partialDeepStrictEqual(shown, {
    auth: 'none',
    edge: { body: { maxBytes: 16_777_216 } },
    models: { digits: { version: '1' } },
    batching: { policy: { kind: 'adaptive', maxRows: 64 } },
  })
})

test('without a word on auth callers show tokens of an issuer for development', async () => {
  for (const text of ['', 'edge:\n  port: 8080']) {
    const folder = await folderWith({ 'penstock.yaml': text })
    const loaded = await loadConfig(join(folder, 'penstock.yaml'))
    assert.ok('config' in loaded)
    assert.partialDeepStrictEqual(loaded.config.auth, { jwt: { issuers: [{ kind: 'development' }] } })
  }
})

test('a configuration is shown without its secrets', () => {
  const shown = redact({
    redis: { url: 'redis://h', password: 'p4ss' },
    keys: [
      { name: 'a', clientSecret: 's3cret' },
      { privateKey: ['s3cret'], TOKEN: 's3cret' },
    ],
    port: 1,
  })
  assert.doesNotMatch(JSON.stringify(shown), /s3cret|p4ss/)
  assert.partialDeepStrictEqual(shown, { redis: { url: 'redis://h' }, keys: [{ name: 'a' }, {}], port: 1 })
})

test('a model whose name sounds secret keeps its settings in view', () => {
  const config = { models: { 'token-classifier': { version: '2' } } }
  assert.deepEqual(redact(config), config)
})
