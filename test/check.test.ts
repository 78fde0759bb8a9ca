/** `penstock check` explains who may do what and says what is weak; `serve` and `infer` carry tokens of their own. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { suite, test, type TestContext } from 'node:test'
import { promisify } from 'node:util'
import { stringify } from 'yaml'
import { loadConfig } from '../src/config.ts'
import { showMistake } from '../src/core/document.ts'
import { weaknesses } from '../src/weaknesses.ts'
import { folderWith, repository, tensor } from './support/gateway.ts'
import { identity } from './support/onnx.ts'
import { penstock, type Finished } from './support/process.ts'

const sample = JSON.stringify({ inputs: [tensor('x', 'FP32', [1, 1], [7])] })
const store = {
  's/echo/1/model.onnx': identity('FP32', ['n', 1]),
  's/echo/2/model.onnx': identity('FP32', ['n', 1]),
  's/other/1/model.onnx': identity('FP32', ['n', 1]),
}
const development = { jwt: { issuers: [{ kind: 'development' }] } }
const access = [
  { effect: 'deny', who: { tenants: ['globex'] }, operations: ['infer'], models: ['echo'] },
  { who: { scopes: ['models'] }, operations: ['infer', 'metadata'], versions: ['1'] },
  { who: { callers: ['key:ops'] }, operations: ['admin.read', 'stats'] },
  { who: { spiffe: ['spiffe://a.b/ns/*/sa/c'], methods: ['mtls'] }, operations: ['metadata'], models: ['oth*'] },
  { who: 'anyone', operations: ['metadata'], models: ['echo'], versions: ['2'] },
  { who: { scopes: ['*'] }, operations: ['admin.write'] },
]
const explained = await folderWith({
  ...store,
  'penstock.yaml': stringify({ auth: { ...development, access }, store: { path: 's' } }),
})

function check(t: TestContext, folder: string, ...args: string[]): Promise<Finished> {
  return penstock(t, ['check', 'penstock.yaml', ...args], folder).finished
}

/** What is said of a caller, line by line; it has to go well. */
async function explains(t: TestContext, as: string, ...args: string[]): Promise<string[]> {
  const { code, stdout, stderr } = await check(t, explained, '--as', as, ...args)
  assert.deepEqual([code, stderr], [0, ''])
  return stdout.trimEnd().split('\n')
}

suite('`penstock check --as`', { concurrency: 2 }, () => {
  test('says of every operation and model what a caller may do, and which rule has it so', async (t) => {
    assert.deepEqual(await explains(t, 'subject=alice,tenant=globex,scopes=other models'), [
      'infer echo 1: denied, by auth.access[0]',
      'infer echo 2: denied, by auth.access[0]',
      'infer other 1: allowed, by auth.access[1]',
      'metadata echo 1: allowed, by auth.access[1]',
      'metadata echo 2: allowed, by auth.access[4]',
      'metadata other 1: allowed, by auth.access[1]',
      'stats echo 1: denied, no rule fits',
      'stats echo 2: denied, no rule fits',
      'stats other 1: denied, no rule fits',
      'admin.read: denied, no rule fits',
      'admin.write: allowed, by auth.access[5]',
    ])
  })

  const narrow: [as: string, args: string[], lines: string[]][] = [
    [
      'subject=a,scopes=models',
      ['--operation', 'infer', '--model', 'echo'],
      ['infer echo 1: allowed, by auth.access[1]', 'infer echo 2: denied, no rule fits'],
    ],
    [
      'anyone',
      ['--operation', 'metadata', '--model', 'echo', '--model-version', '2'],
      ['metadata echo 2: allowed, by auth.access[4]'],
    ],
    ['name=key:ops,method=api-key', ['--operation', 'admin.read'], ['admin.read: allowed, by auth.access[2]']],
    [
      'method=mtls,spiffe=spiffe://a.b/ns/x/sa/c',
      ['--operation', 'metadata', '--model', 'other'],
      ['metadata other 1: allowed, by auth.access[3]'],
    ],
    ['subject=key:ops,scopes=', ['--operation', 'admin.write'], ['admin.write: denied, no rule fits']],
  ]
  for (const [as, args, lines] of narrow)
    test(`says of "${as}" with ${args.join(' ')}: ${lines.join(', ')}`, async (t) => {
      assert.deepEqual(await explains(t, as, ...args), lines)
    })

  const wrong: [args: string[], said: RegExp][] = [
    [['--as', 'alice'], /--as alice: expected name, method/],
    [['--as', 'tenants'], /--as tenants: expected name, method/],
    [['--as', 'subject=alice,role=admin'], /--as .*: expected name, method/],
    [['--as', 'subject=alice,method=magic'], /--as .*: expected .*method/],
    [['--as', 'subject=a', '--operation', 'read'], /--operation read: expected one of infer, metadata, stats, admin/],
    [['--as', 'subject=a', '--model', 'none'], /--model none: no such model; there are echo, other/],
    [['--as', 'subject=a', '--model-version', '9'], /--model-version 9: no such version/],
  ]
  for (const [args, said] of wrong)
    test(`refuses ${args.map((each) => JSON.stringify(each)).join(' ')} in one line`, async (t) => {
      const { code, stdout, stderr } = await check(t, explained, ...args)
      assert.match(stderr, /^penstock: .*\n$/)
      assert.match(stderr, said)
      assert.deepEqual([code, stdout], [1, ''])
    })

  test('names no rule where `auth: none` lets everybody in', async (t) => {
    const plan = stringify({ auth: 'none', store: { path: 's' } })
    const folder = await folderWith({ ...store, 'penstock.yaml': plan })
    const { code, stdout } = await check(t, folder, '--as', 'anyone', '--operation', 'infer', '--model', 'other')
    assert.equal(code, 0)
    assert.match(stdout, /^infer other 1: allowed/)
    assert.doesNotMatch(stdout, /auth\.access\[/)
  })
})

const sound = {
  auth: {
    jwt: { issuers: [{ kind: 'jwks', issuer: 'https://a', audiences: ['b'], url: 'https://a/jwks' }] },
    access: [{ who: { scopes: ['models'] }, operations: ['infer', 'metadata', 'stats'] }],
  },
  edge: { host: '0.0.0.0', tls: { certificates: [{ cert: 'c.pem', key: 'k.pem' }] } },
  limits: { rules: [{ name: 'all', by: ['caller'], rate: 100 }] },
}

/** The sound configuration with something changed in it. */
async function changed(change: (plan: any) => void) {
  const plan = structuredClone(sound)
  change(plan)
  return loadConfig(join(await folderWith({ 'penstock.yaml': stringify(plan) }), 'penstock.yaml'))
}

async function weaknessesOf(change: (plan: any) => void): Promise<string[]> {
  const loaded = await changed(change)
  assert.ok('config' in loaded, 'mistakes' in loaded ? loaded.mistakes.map(showMistake).join('\n') : '')
  return weaknesses(loaded.config, ['a', 'b'])
}

const wild = { who: 'identified', operations: ['infer'] }
const rule = (change: object) => (plan: any) => plan.auth.access.push({ ...wild, ...change })
const issuing = (change: object) => (plan: any) => Object.assign(plan.auth.jwt.issuers[0], change)
const limiting =
  (rules: object[], more: object = {}) =>
  (plan: any) =>
    Object.assign(plan, { limits: { rules }, ...more })
const secretIssuer = { kind: 'secret', issuer: 's', audiences: ['b'], secretFile: 'secret' }
const common = { name: 'x', by: [], rate: 1 }

const judged: [what: string, change: (plan: any) => void, said: RegExp | undefined][] = [
  ['nothing changed', () => undefined, undefined],
  ['no identification', (plan) => Object.assign(plan, { auth: 'none', edge: {} }), /^`auth: none`: whoever/],
  ['all models to whoever is known', rule({}), /^`auth\.access\[1\]`: whoever is known may use every model/],
  ['all models to anyone', rule({ who: 'anyone' }), /^`auth\.access\[1\]`: everybody may use every model/],
  ['all models, written with one star', rule({ models: ['a', '*'] }), /whoever is known may use every model/],
  ['some models to whoever is known', rule({ models: ['a', 'b*'] }), undefined],
  ['no use of models', rule({ operations: ['metadata', 'stats'] }), undefined],
  ['a denial of all models', rule({ effect: 'deny' }), undefined],
  ['all models to named callers', rule({ who: { callers: ['key:a'] } }), undefined],
  [
    'changes by whoever is known',
    rule({ operations: ['admin.write'] }),
    /^`auth\.access\[1\]`: whoever is known may change/,
  ],
  ['questions by whoever is known', rule({ operations: ['admin.read'] }), undefined],
  ['changes by named callers', rule({ who: { scopes: ['ops'] }, operations: ['admin.write'] }), undefined],
  [
    'a model that is not there',
    rule({ models: ['a', 'aa'] }),
    /^`auth\.access\[1\]\.models`: "aa" fits nothing.*a, b\./,
  ],
  ['a pattern for no model', rule({ effect: 'deny', models: ['x*'] }), /^`auth\.access\[1\]\.models`: "x\*" fits/],
  ['a name that nobody has', rule({ who: { callers: ['a'] } }), /who\.callers`: nobody is called "a"\..*`key:a`/],
  ['an id that is none', rule({ who: { spiffe: ['a/*'] } }), /who`: "a\/\*" is no SPIFFE id/],
  ['no rules', (plan) => (plan.auth.access = []), /^`auth\.access`: without rules nobody/],
  [
    'a limit of no model',
    limiting([common, { ...common, name: 'y', where: { models: ['c'] } }]),
    /where\.models`: "c"/,
  ],
  [
    'a limit of no route',
    limiting([common, { ...common, name: 'y', where: { routes: ['c'] } }]),
    /where\.routes`: "c"/,
  ],
  [
    'proxies everywhere',
    (plan) => Object.assign(plan, { edge: { host: '::' }, mesh: { mode: 'gateway', proxies: ['0.0.0.0/0'] } }),
    /^`mesh\.proxies`: whoever reaches/,
  ],
  ['a secret', (plan) => plan.auth.jwt.issuers.push(secretIssuer), /^`auth\.jwt\.issuers\[1\]`: .*Use `kind: jwks`/],
  ['long lives', issuing({ maxLifetimeS: 86_401 }), /^`auth\.jwt\.issuers\[0\]`: .*Lower `maxLifetimeS`/],
  ['lives of a day', issuing({ maxLifetimeS: 86_400 }), undefined],
  ['clocks far apart', issuing({ skewS: 121 }), /^`auth\.jwt\.issuers\[0\]`: .*121 s .*Lower `skewS`/],
  ['clocks a little apart', issuing({ skewS: 120 }), undefined],
  ['no TLS', (plan) => delete plan.edge.tls, /^`edge\.host`: .*Set `edge\.tls`/],
  ['no TLS on loopback', (plan) => (plan.edge = { host: '::1' }), undefined],
  ['no TLS in a mesh', (plan) => Object.assign(plan, { edge: { host: '::' }, mesh: { mode: 'sidecar' } }), undefined],
  ['administration from afar', (plan) => (plan.admin = { host: '0.0.0.0' }), /^`admin\.host`: .*Set 127\.0\.0\.1/],
  ['no list of revoked certificates', (plan) => (plan.edge.tls.clientCa = 'ca.pem'), /^`edge\.tls\.clientCa`: /],
  ['such a list', (plan) => Object.assign(plan.edge.tls, { clientCa: 'ca.pem', crl: 'crl.pem' }), undefined],
  ['no limit', limiting([]), /^`limits\.rules`: no limit holds\. Add/],
  ['a limit for some', limiting([{ ...common, where: { tenants: ['a'] } }]), /no limit holds for all requests\. Add/],
  ['no limit, and models', limiting([], { models: { a: {}, b: {} } }), /no limit holds \(routes: a, b\)\. Add/],
  ['no limit on loopback', limiting([], { edge: {} }), undefined],
  [
    'a limit for all beside one for some',
    limiting([common, { ...common, name: 'y', where: { tenants: ['a'] } }]),
    undefined,
  ],
]

suite('what is weak is said in one sentence:', () => {
  for (const [what, change, said] of judged)
    test(`${said ? '' : 'nothing about '}${what}`, async () => {
      const found = await weaknessesOf(change)
      assert.equal(found.length, said ? 1 : 0, found.join('\n'))
      if (said) assert.match(found[0]!, said)
    })
})

const local = { edge: {}, limits: {} }
const withDevelopment = (plan: any) => plan.auth.jwt.issuers.push({ kind: 'development' })
const clashing: [what: string, change: (plan: any) => void, said: RegExp | undefined][] = [
  [
    'a development issuer beside another, on loopback',
    (plan) => withDevelopment(Object.assign(plan, local)),
    undefined,
  ],
  ['a development issuer beside another, in the open', withDevelopment, /edge\.host: tokens of the development issuer/],
  [
    'a development issuer with administration in the open',
    (plan) => withDevelopment(Object.assign(plan, { ...local, admin: { host: '::' } })),
    /admin\.host: tokens of the development issuer/,
  ],
  [
    'a development issuer behind a balancer',
    (plan) => withDevelopment(Object.assign(plan, { edge: { proxyProtocol: ['127.0.0.1'] } })),
    /edge\.proxyProtocol: tokens of the development issuer/,
  ],
  [
    'claims that nobody has verified',
    (plan) => (plan.auth.jwt.payloadHeader = 'x-claims'),
    /payloadHeader: with `mesh/,
  ],
  ['revocation without Redis', (plan) => (plan.auth.jwt.revocation = {}), /revocation: needs `redis`/],
  ['no way in', (plan) => delete plan.auth.jwt, /auth: nobody could call/],
  [
    'no way in, and a denial for anyone',
    (plan) => (plan.auth = { access: [{ effect: 'deny', who: 'anyone', operations: ['infer'] }] }),
    /auth: nobody could call/,
  ],
  ['a way in for anyone', (plan) => (plan.auth = { access: [{ who: 'anyone', operations: ['infer'] }] }), undefined],
]

suite('what cannot be meant together starts nothing:', () => {
  for (const [what, change, said] of clashing)
    test(`${said ? '' : 'unlike '}${what}`, async () => {
      const loaded = await changed(change)
      const mistakes = 'mistakes' in loaded ? loaded.mistakes.map(showMistake) : []
      assert.equal(mistakes.length, said ? 1 : 0, mistakes.join('\n'))
      if (said) assert.match(mistakes[0]!, said)
    })
})

test('`penstock check` passes with what is weak, and with --strict it does not', async (t) => {
  const [weak, good] = await Promise.all(
    [[wild], access.slice(0, 1)].map((rules) => {
      const plan = stringify({ auth: { ...development, access: rules }, store: { path: 's' } })
      return folderWith({ ...store, 'penstock.yaml': plan })
    }),
  )
  const [lax, strict, strong] = await Promise.all([
    check(t, weak!),
    check(t, weak!, '--strict'),
    check(t, good!, '--strict'),
  ])
  for (const { stdout } of [lax, strict]) assert.match(stdout, /^weak: `auth\.access\[0\]`: whoever is known may use/m)
  assert.deepEqual([lax.code, lax.stderr], [0, ''])
  assert.match(lax.stdout, /^OK: /m)
  assert.equal(strict.code, 1)
  assert.match(strict.stderr, /^penstock: weak settings: 1, .*--strict.*\n$/)
  assert.doesNotMatch(strict.stdout, /^OK: /m)
  assert.deepEqual([strong.code, strong.stderr], [0, ''])
  assert.doesNotMatch(strong.stdout, /weak/)
})

test('the configuration that comes with Penstock has no weakness', async () => {
  const loaded = await loadConfig(join(repository, 'config/penstock.yaml'))
  assert.ok('config' in loaded)
  assert.deepEqual(weaknesses(loaded.config, ['digits', 'spam', 'breast-cancer']), [])
})

test('the curl line of `serve` carries a token and works when pasted, and `infer` takes one from a file', async (t) => {
  const plan = {
    edge: { port: 0, drain: { idleMs: 0 } },
    metrics: { port: 0 },
    admin: { port: 0 },
    store: { path: 's' },
  }
  const files = { ...store, 'penstock.yaml': stringify(plan), 's/echo/2/samples/one.json': sample, 'one.json': sample }
  const folder = await folderWith(files)
  const served = penstock(t, ['serve', 'penstock.yaml'], folder)
  const [line, token, url] = await served.said(/^ {2}curl -sS -H 'authorization: Bearer (\S+)' (http:\/\/[^/]+).*$/m)
  const pasted = await promisify(execFile)('sh', ['-c', line], { cwd: folder })
  assert.deepEqual(JSON.parse(pasted.stdout).outputs[0].data, [7])
  const payload = JSON.parse(Buffer.from(token!.split('.')[1]!, 'base64url').toString())
  assert.deepEqual([payload.sub, payload.scope, payload.exp - payload.iat], ['developer', 'models', 3_600])
  const tokens = await folderWith({ good: `${token}\n`, bad: 'a.b.c', empty: '\n' })
  const infer = (...args: string[]) => {
    return penstock(t, ['infer', 'echo', '-i', 'one.json', '-u', url!, ...args], folder).finished
  }
  const [good, bad, without, none, empty] = await Promise.all([
    infer('--token-file', `${tokens}/good`),
    infer('--token-file', `${tokens}/bad`),
    infer(),
    infer('--token-file', `${tokens}/none`),
    infer('--token-file', `${tokens}/empty`),
  ])
  assert.deepEqual([good.code, good.stderr], [0, ''])
  assert.deepEqual(JSON.parse(good.stdout).outputs[0].data, [7])
  for (const { code, stdout, stderr } of [bad, without]) {
    assert.deepEqual([code, stdout], [1, ''])
    assert.match(stderr, /^penstock: 401: .*\n.*penstock token/)
  }
  assert.match(empty.stderr, /^penstock: 401: show who is calling/)
  assert.match(none.stderr, /^penstock: .*none: no such file\n$/)
})
