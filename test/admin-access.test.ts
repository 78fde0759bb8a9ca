/** Who may ask and change what on the admin listener, what is written down of it, and tokens that are minted there. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdir, readFile, stat } from 'node:fs/promises'
import { request } from 'node:http'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { stringify } from 'yaml'
import { wholeFile } from './support/client.ts'
import { keyOf, keysFor } from './support/api-keys.ts'
import { folderWith, startGateway, type TestGateway } from './support/gateway.ts'
import { encode } from './support/issuer.ts'
import { identity } from './support/onnx.ts'
import { penstock } from './support/process.ts'
import { Wire } from './support/socket.ts'

const store = { 'echo.onnx': identity('FP32', ['n', 1]) }
const rules = [
  { who: { scopes: ['models'] }, operations: ['metadata'] },
  { who: { tenants: ['acme'], subjects: ['alice'] }, operations: ['stats'] },
]
const auth = { jwt: { issuers: [{ kind: 'development' }] }, access: rules }
const auditFile = join(await folderWith(), 'audit.jsonl')
const gateway = await startGateway(wholeFile, { store, settings: { auth, admin: { port: 0, auditFile } } })

interface Asked {
  readonly method?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
}

interface Told {
  readonly status: number
  readonly headers: NodeJS.Dict<string | string[]>
  readonly json: any
}

/** With a Host that `fetch` would not send. */
async function ask({ adminUrl }: TestGateway, path: string, { method, headers, body }: Asked = {}): Promise<Told> {
  const sent = request(adminUrl + path, { method: method ?? 'GET', headers, agent: false })
  sent.end(body)
  const [response] = await once(sent, 'response')
  let text = ''
  for await (const chunk of response) text += chunk
  return { status: response.statusCode, headers: response.headers, json: text === '' ? undefined : JSON.parse(text) }
}

const json = { 'content-type': 'application/json' }
function minting(wish: unknown, headers: Record<string, string> = json): Asked {
  return { method: 'POST', headers, body: typeof wish === 'string' ? wish : JSON.stringify(wish) }
}

async function seen({ url }: TestGateway, token: string, path: string): Promise<number> {
  return (await fetch(url + path, { headers: { authorization: `Bearer ${token}` } })).status
}

async function audited(file: string = auditFile): Promise<any[]> {
  const text = await readFile(file, 'utf8').catch(() => '')
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line))
}

const paths = ['/admin/status', '/admin/config', '/admin/tokens', '/', '/admin/none']
const methods = ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'OPTIONS']

test('on loopback whoever is on this machine may ask and mint', async () => {
  for (const path of ['/admin/status', '/admin/config']) assert.equal((await ask(gateway, path)).status, 200)
  assert.equal((await ask(gateway, '/admin/tokens', minting({}))).status, 200)
})

test('requests of pages of other sites get the same nothing on every path, with every method', async () => {
  const before = (await audited()).length
  const foreign: Record<string, string>[] = [
    { host: 'evil.example' },
    { host: 'localhost.evil.example:9091' },
    { host: '127.0.0.1.nip.example' },
    { origin: 'https://evil.example' },
    { origin: 'null' },
    { origin: 'file://' },
    { origin: 'http://localhost@evil.example' },
    { 'sec-fetch-site': 'cross-site' },
    { 'sec-fetch-site': 'same-site' },
    { 'sec-fetch-site': 'anything' },
    { origin: 'http://localhost', 'sec-fetch-site': 'cross-site' },
    { host: 'evil.example', origin: 'http://127.0.0.1' },
  ]
  for (const headers of foreign)
    for (const path of paths)
      for (const method of methods) {
        const asked = { method, headers: { ...json, ...headers }, ...(method.startsWith('P') && { body: '{}' }) }
        const { status, json: said } = await ask(gateway, path, asked)
        assert.equal(status, 404, `${method} ${path} ${JSON.stringify(headers)}`)
        if (method !== 'HEAD') assert.match(said.error, /admin\.names/)
      }
  assert.equal((await audited()).length, before, 'nothing was minted')
})

test('a request that names no host is answered as one that names another', async (t) => {
  for (const rest of ['1.0\r\n', '1.1\r\nhost:\r\n', '1.1\r\nhost: evil.example\r\n']) {
    const wire = await Wire.open(t, gateway.adminUrl)
    wire.write(`GET /admin/status HTTP/${rest}\r\n`)
    assert.equal((await wire.reply()).status, 404, rest)
  }
})

test('a body that is far too large is refused before all of it is there', async (t) => {
  const wire = await Wire.open(t, gateway.adminUrl)
  const head = 'POST /admin/tokens HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n'
  wire.write(`${head}content-length: 10000000\r\n\r\n${' '.repeat(200_000)}`)
  assert.equal((await wire.reply()).status, 413)
})

test('pages of its own and people who type its address are answered', async () => {
  const good: Record<string, string>[] = [
    { 'sec-fetch-site': 'same-origin', origin: 'http://localhost:9091' },
    { 'sec-fetch-site': 'none' },
    { host: 'localhost' },
    { host: '[::1]:9091', origin: 'http://[::1]:9091' },
    { host: '127.8.8.8' },
  ]
  for (const headers of good) assert.equal((await ask(gateway, '/admin/status', { headers })).status, 200)
})

test('names that are configured are its own, whatever the port, and no others', async (t) => {
  const named = await startGateway(t, { store, settings: { admin: { port: 0, names: ['ops.example'] } } })
  for (const [host, status] of [
    ['ops.example', 200],
    ['ops.example:80', 200],
    ['x.ops.example', 404],
    ['ops.example.evil', 404],
  ] as const) {
    assert.equal((await ask(named, '/admin/status', { headers: { host } })).status, status, host)
    const origin = { headers: { origin: `https://${host}` } }
    assert.equal((await ask(named, '/admin/status', origin)).status, status, host)
  }
})

test('a minted token works with what was asked for, and with nothing else', async () => {
  const mint = async (wish: object) => (await ask(gateway, '/admin/tokens', minting(wish))).json.token as string
  const usual = await mint({})
  assert.equal(await seen(gateway, usual, '/v2/models/echo'), 200)
  assert.equal(await seen(gateway, usual, '/v2/models/echo/stats'), 403)
  const alice = await mint({ subject: 'alice', tenant: 'acme', scopes: ['other'], lifetimeS: 60 })
  assert.equal(await seen(gateway, alice, '/v2/models/echo/stats'), 200)
  assert.equal(await seen(gateway, alice, '/v2/models/echo'), 403)
  assert.equal(await seen(gateway, await mint({ scopes: [] }), '/v2/models/echo'), 404)
  const claims = JSON.parse(Buffer.from(alice.split('.')[1]!, 'base64url').toString())
  const { sub, tenant, scope, exp, iat } = claims
  assert.deepEqual([sub, tenant, scope, exp - iat], ['alice', 'acme', 'other', 60])
  const forged = [alice.split('.')[0], encode({ ...claims, scope: 'models' }), alice.split('.')[2]].join('.')
  assert.equal(await seen(gateway, forged, '/v2/models/echo'), 401)
})

const big = JSON.stringify({ subject: 'x'.repeat(100_000) })
const refused: [what: string, asked: Asked, status: number, said?: RegExp][] = [
  ['no JSON', minting('{'), 400, /not JSON/],
  ['nothing', minting(''), 400, /not JSON/],
  ['a list', minting([]), 400],
  ['null', minting('null'), 400],
  ['an unknown key', minting({ scope: ['models'] }), 400, /scope/],
  ['an empty subject', minting({ subject: '' }), 400, /^subject: /],
  ['a subject that is too long', minting({ subject: 'x'.repeat(257) }), 400, /^subject: /],
  ['scopes that are no list', minting({ scopes: 'models' }), 400, /^scopes: /],
  ['too many scopes', minting({ scopes: Array.from({ length: 101 }, () => 'a') }), 400, /^scopes: /],
  ['a lifetime of nothing', minting({ lifetimeS: 0 }), 400, /^lifetimeS: /],
  ['a lifetime of more than a day', minting({ lifetimeS: 86_401 }), 400, /^lifetimeS: /],
  ['a body that is too large', minting(big), 413],
  ['a body of no type', minting({}, {}), 415],
  ['a form, as any page can send', minting({}, { 'content-type': 'application/x-www-form-urlencoded' }), 415],
  ['a text, as any page can send', minting({}, { 'content-type': 'text/plain' }), 415],
  ['a text that names JSON', minting({}, { 'content-type': 'text/plain; x=application/json' }), 415],
  ['another type', minting({}, { 'content-type': 'application/json-seq' }), 415],
]
for (const [what, asked, status, said] of refused)
  test(`a wish for a token is refused with ${status} and written nowhere if it is ${what}`, async () => {
    const before = (await audited()).length
    const told = await ask(gateway, '/admin/tokens', asked)
    assert.equal(told.status, status)
    if (said) assert.match(told.json.error, said)
    assert.equal(told.json.token, undefined)
    assert.equal((await audited()).length, before)
  })

test('a type may have parameters and be written in any letters', async () => {
  for (const type of ['application/json; charset=utf-8', 'Application/JSON'])
    assert.equal((await ask(gateway, '/admin/tokens', minting({}, { 'content-type': type }))).status, 200, type)
})

test('other methods are refused with the one that is taken', async () => {
  for (const method of ['GET', 'HEAD', 'PUT', 'DELETE', 'OPTIONS']) {
    const { status, headers } = await ask(gateway, '/admin/tokens', { method })
    assert.deepEqual([status, headers['allow']], [405, 'POST'], method)
  }
})

test('without an issuer for development there is nothing to mint', async (t) => {
  const none = await startGateway(t, { store })
  const { status, json: said } = await ask(none, '/admin/tokens', minting({}))
  assert.deepEqual([status, said.code], [404, 'not_found'])
  assert.match(said.error, /development issuer/)
})

const rights = { reader: ['r'], writer: ['w'], nobody: [], client: ['models'] }
const people = Object.entries(rights).map(([id, scopes]) => ({ id, scopes }))

test('beyond loopback callers show who they are, and need the right for what they ask', async (t) => {
  const access = [
    { who: { scopes: ['r'] }, operations: ['admin.read'] },
    { who: { scopes: ['w'] }, operations: ['admin.write'] },
    { who: { scopes: ['models'] }, operations: ['infer', 'metadata', 'stats'] },
    { who: { spiffe: ['spiffe://**'] }, operations: ['admin.read', 'admin.write'] },
  ]
  const mesh = { mode: 'sidecar' }
  const settings = {
    auth: { apiKeys: await keysFor(people), mesh: {}, access },
    mesh,
    admin: { host: '0.0.0.0', port: 0 },
  }
  const open = await startGateway(t, { store, settings })
  const statuses = async (headers: Record<string, string>) => [
    (await ask(open, '/admin/status', { headers })).status,
    (await ask(open, '/admin/config', { headers })).status,
    (await ask(open, '/admin/tokens', minting({}, { ...json, ...headers }))).status,
  ]
  assert.deepEqual(await statuses({}), [401, 401, 401])
  assert.deepEqual(await statuses({ 'x-api-key': keyOf('stranger') }), [401, 401, 401])
  assert.deepEqual(await statuses({ 'x-api-key': keyOf('nobody') }), [403, 403, 403])
  assert.deepEqual(await statuses({ 'x-api-key': keyOf('client') }), [403, 403, 403])
  assert.deepEqual(await statuses({ 'x-api-key': keyOf('reader') }), [200, 200, 403])
  assert.deepEqual(await statuses({ 'x-api-key': keyOf('writer') }), [403, 403, 404], 'no issuer for development')
  const forged = { 'x-forwarded-client-cert': `Hash=${'0'.repeat(64)};URI=spiffe://cluster.local/ns/a/sa/b` }
  assert.deepEqual(await statuses(forged), [401, 401, 401])
  assert.deepEqual(await statuses({ ...forged, 'x-api-key': keyOf('nobody') }), [403, 403, 403])
  assert.deepEqual(await statuses({ 'x-forwarded-for': '127.0.0.1', forwarded: 'for=127.0.0.1' }), [401, 401, 401])
  const rebound = await ask(open, '/admin/status', { headers: { host: 'evil', 'x-api-key': keyOf('reader') } })
  assert.equal(rebound.status, 404)
})

test('beyond loopback who shows nothing is asked who it is, also where a rule is about anyone', async (t) => {
  const folder = await folderWith({ 'keys.yaml': 'keys: []' })
  const access = [{ who: 'anyone', operations: ['metadata'] }]
  const settings = { auth: { apiKeys: { file: `${folder}/keys.yaml` }, access }, admin: { host: '0.0.0.0', port: 0 } }
  const open = await startGateway(t, { store, settings })
  assert.equal((await ask(open, '/admin/status')).status, 401)
})

test('every token is written down: when, who, what, before and after, and the token itself not', async (t) => {
  const file = join(await folderWith(), 'audit.jsonl')
  const settings = { auth, admin: { port: 0, auditFile: file } }
  const tokens: string[] = []
  for (let run = 0; run < 2; run++) {
    const fresh = await startGateway(t, { store, settings })
    const wish = { subject: `run-${run}`, tenant: 'acme' }
    tokens.push((await ask(fresh, '/admin/tokens', minting(wish))).json.token)
    await fresh.stop()
  }
  assert.equal((await stat(file)).mode & 0o777, 0o600)
  const lines = await audited(file)
  assert.equal(lines.length, 2, 'the next run goes on with the same file')
  for (const [run, { when, ...line }] of lines.entries()) {
    assert.ok(Math.abs(Date.parse(when) - Date.now()) < 60_000)
    const after = { subject: `run-${run}`, tenant: 'acme', scopes: ['models'] }
    assert.deepEqual(line, { who: 'local', what: 'tokens.mint', before: null, after })
  }
  const text = await readFile(file, 'utf8')
  for (const token of tokens) assert.ok(!text.includes(token) && !text.includes(token.split('.')[2]!))
})

test('many tokens at once are a line each', async () => {
  const before = (await audited()).length
  const all = Array.from({ length: 50 }, (_, i) => ask(gateway, '/admin/tokens', minting({ subject: `\n${i}` })))
  const told = await Promise.all(all)
  assert.equal(new Set(told.map(({ json: said }) => said.token)).size, 50)
  assert.equal((await audited()).length, before + 50)
})

test('what cannot be written down is not done', async (t) => {
  const folder = await folderWith()
  const file = join(folder, 'audit.jsonl')
  await mkdir(file)
  const deaf = await startGateway(t, { store, settings: { auth, admin: { port: 0, auditFile: file } } })
  const { status, json: said } = await ask(deaf, '/admin/tokens', minting({}))
  assert.deepEqual([status, said.code, said.token], [503, 'not_changed', undefined])
  assert.match(said.error, /auditFile/)
  assert.equal((await ask(deaf, '/admin/status')).status, 200, 'questions are answered all the same')
})

const plan = { edge: { port: 0, drain: { idleMs: 0 } }, metrics: { port: 0 }, admin: { port: 0 }, store: { path: 's' } }

async function served(t: TestContext, more: object = {}) {
  const files = { 'penstock.yaml': stringify({ ...plan, ...more }), 's/echo.onnx': store['echo.onnx'] }
  const folder = await folderWith(files)
  const running = penstock(t, ['serve', 'penstock.yaml'], folder)
  const [, url, adminUrl] = await running.said(/at (http:\S+), metrics at \S+, status at (http:\S+)\/admin/)
  return { url: url!, adminUrl: adminUrl!, folder }
}

test('`penstock token` mints what it is asked for, and each run of the gateway takes its own tokens only', async (t) => {
  const [one, two] = await Promise.all([served(t), served(t)])
  const options = ['--subject', 'alice', '--tenant', 'acme', '--scope', 'models', 'more', '--profile', 'full']
  const run = async (...args: string[]) => {
    const { code, stdout, stderr } = await penstock(t, ['token', '--admin', ...args]).finished
    assert.deepEqual([code, stderr], [0, ''])
    assert.match(stdout, /^[\w-]+\.[\w-]+\.[\w-]+\n$/)
    return stdout.trim()
  }
  const [plain, full] = await Promise.all([run(one.adminUrl), run(`${one.adminUrl}/`, ...options, '--lifetime', '60')])
  const claims = JSON.parse(Buffer.from(full.split('.')[1]!, 'base64url').toString())
  const { sub, tenant, scope, profile, exp, iat } = claims
  assert.deepEqual([sub, tenant, scope, profile, exp - iat], ['alice', 'acme', 'models more', 'full', 60])
  const status = async (url: string, token: string) => {
    return (await fetch(`${url}/v2/models/echo`, { headers: { authorization: `Bearer ${token}` } })).status
  }
  for (const token of [plain, full]) {
    assert.equal(await status(one.url, token), 200)
    assert.equal(await status(two.url, token), 401)
  }
  const lines = await audited(join(one.folder, 'audit.jsonl'))
  assert.deepEqual(
    lines.map(({ after }) => after.subject as string).toSorted((a, b) => a.localeCompare(b)),
    ['alice', 'developer'],
  )
})

test('`penstock token` says in one line why there is none', async (t) => {
  const { adminUrl } = await startGateway(t, { store })
  const wrong: [args: string[], said: RegExp][] = [
    [
      ['--admin', 'http://127.0.0.1:1'],
      /^penstock: no answer from http:\/\/127\.0\.0\.1:1\/admin\/tokens.*`npm start`/,
    ],
    [['--admin', 'nonsense'], /^penstock: --admin nonsense\S*: this is no URL/],
    [['--admin', gateway.adminUrl, '--lifetime', 'long'], /^penstock: --lifetime long: expected seconds/],
    [['--admin', gateway.adminUrl, '--lifetime', '0'], /^penstock: 400: lifetimeS: /],
    [['--admin', gateway.adminUrl, '--lifetime', '86401'], /^penstock: 400: lifetimeS: /],
    [['--admin', adminUrl], /^penstock: 404: there is no development issuer/],
    [['--admin', gateway.url], /^penstock: 401: /],
  ]
  const ended = await Promise.all(wrong.map(([args]) => penstock(t, ['token', ...args]).finished))
  for (const [i, { code, stdout, stderr }] of ended.entries()) {
    const [args, said] = wrong[i]!
    assert.deepEqual([code, stdout], [1, ''], args.join(' '))
    assert.match(stderr, /^penstock: .*\n$/, args.join(' '))
    assert.match(stderr, said)
  }
})
