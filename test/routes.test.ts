/** What a client addresses: paths as they are written, and routes of the configuration by host and path. */
import assert from 'node:assert/strict'
import { basename, join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { start } from '../src/cli/serve.ts'
import { loadConfig } from '../src/config.ts'
import { showMistake } from '../src/core/document.ts'
import { samples, statsOf, wholeFile } from './support/client.ts'
import { folderWith, startGateway, tensor } from './support/gateway.ts'
import { identity } from './support/onnx.ts'
import { http1Protocols, isHttp2, protocols, startEverywhere, type Protocol } from './support/protocols.ts'
import { Wire } from './support/socket.ts'

const echo = identity('FP32', ['n', 2])
const store = {
  'any/1/model.onnx': echo,
  'any/2/model.onnx': echo,
  'exact.onnx': echo,
  'wide.onnx': echo,
  'wider.onnx': echo,
}
const everywhere = await startEverywhere(wholeFile, {
  store,
  settings: {
    // The widest first: the order says nothing.
    routes: [
      { name: 'fraud', match: { path: '/fraud' }, model: 'any' },
      { name: 'fraud-wide', match: { host: '*.example.com', path: '/fraud' }, model: 'wide' },
      { name: 'fraud-wider', match: { host: '*.eu.example.com', path: '/fraud' }, model: 'wider' },
      { name: 'fraud-exact', match: { host: 'api.example.com', path: '/fraud' }, model: 'exact' },
      { name: 'of-host', match: { host: 'own.example.org' }, model: 'any' },
      { name: 'hidden', match: { host: '*.example.net', path: '/teams/risk/v1.2_x~-y' }, model: 'any' },
    ],
  },
})

const body = JSON.stringify({ inputs: [tensor('x', 'FP32', [1, 2], [1, 2])] })

interface Asked {
  readonly method?: string
  readonly host?: string
  /** Sent as it is written, where a client that takes URLs would tidy it up. */
  readonly target: string
}

/** Infers, or asks with a method if there is one. */
async function ask(t: TestContext, protocol: Protocol, { method = 'POST', host = 'localhost', target }: Asked) {
  const sent = method === 'POST' ? body : ''
  if (isHttp2(protocol)) {
    const headers = { ':authority': host }
    const got = await everywhere.open(t, protocol).send({ path: target, method, headers, ...(sent && { body: sent }) })
    return { status: got.status, json: got.json, allow: got.headers.allow }
  }
  const wire = await Wire.open(t, everywhere.served[protocol].url, everywhere.ca)
  wire.write(`${method} ${target} HTTP/1.1\r\nhost: ${host}\r\ncontent-length: ${sent.length}\r\n\r\n${sent}`)
  const { status, json, headers } = await wire.reply()
  return { status, json, allow: headers.get('allow') }
}

type Run = (send: (asked: Asked) => ReturnType<typeof ask>, protocol: Protocol) => Promise<void>

/** Makes one test for each protocol. */
function everyProtocol(name: string, run: Run): void {
  for (const protocol of protocols)
    test(`${name}, over ${protocol}`, (t) => run((asked) => ask(t, protocol, asked), protocol))
}

everyProtocol('a query, a slash behind /v2 and escapes do not change a path', async (send) => {
  for (const target of ['/v2?x=y', '/v2/?', '/v2?', '/v2?a=/nothing', '/%76%32', '/v2/?x=%zz'])
    assert.equal((await send({ method: 'GET', target })).json.name, 'penstock', target)
  for (const target of ['/v2/models/%61ny', '/v2/m%6Fdels/an%79?why', '/v2/models/any/versions/%31', '/fr%61ud?a'])
    assert.equal((await send({ method: 'GET', target })).json.name, 'any', target)
  assert.equal((await send({ target: '/v2/models/%61ny/%69nfer' })).status, 200)
})

everyProtocol('a path in disguise is not found', async (send) => {
  const slashes = [
    '//',
    '//v2',
    '/v2//models',
    '/v2/models//any',
    '/v2//',
    '/v2/models/any//ready',
    '//fraud',
    '/fraud/',
  ]
  const dots = ['/v2/../v2', '/./v2', '/v2/.', '/v2/models/../models/any', '/v2/%2e%2e/v2', '/..', '/x/../fraud']
  const escapes = ['/v2%2Fmodels', '/v2/models%2Fany', '/v2/models/any%2finfer', '/v2/models/an%00y', '/v2/%', '/%ff']
  const others = ['/v2;a=b', '/v2/models/any;v=1', '/v2/models/any%20', '/v2/models/Any', '/V2', '/Fraud', '/fraud%3F']
  const names = ['/v2/models/__proto__', '/v2/models/constructor/ready', '/__proto__', '/v2/models/any/versions/']
  const long = [`/v2/models/${'a'.repeat(8_000)}`, '/a'.repeat(4_000), `/${'%61'.repeat(2_500)}`]
  for (const target of [...slashes, ...dots, ...escapes, ...others, ...names, ...long]) {
    const { status, json } = await send({ method: 'GET', target })
    assert.deepEqual([status, json.code], [404, 'not_found'], target.slice(0, 80))
    assert.ok(json.error.length < 200)
  }
})

everyProtocol('all that can be asked of a model is behind the path of its route', async (send) => {
  for (const [middle, versions] of [['', ['1', '2']] as const, ['/versions/1', ['1']] as const]) {
    const get = async (end: string) => (await send({ method: 'GET', target: `/fraud${middle}${end}` })).json
    const { name, versions: listed, inputs } = await get('')
    assert.deepEqual([name, listed, inputs[0].name], ['any', versions, 'x'])
    assert.deepEqual(await get('/ready'), { name: 'any', ready: true })
    assert.equal((await get('/config')).name, 'any')
    assert.deepEqual(
      (await get('/stats')).model_stats.map((each: any) => each.version),
      versions,
    )
    const { status, json } = await send({ target: `/fraud${middle}/infer` })
    assert.deepEqual([status, json.model_name, json.model_version], [200, 'any', versions.at(-1)])
    const { allow } = await send({ method: 'OPTIONS', target: `/fraud${middle}/infer` })
    assert.equal(allow, 'POST, OPTIONS')
  }
  for (const end of ['/versions', '/nothing', '/infer/now', '/infer/', 'x/infer', '/versions/1/2'])
    for (const method of ['GET', 'POST', 'OPTIONS'])
      assert.equal((await send({ method, target: `/fraud${end}` })).status, 404, `${method} ${end}`)
  assert.equal((await send({ method: 'GET', target: '/fraud/versions/3/config' })).status, 404)
  assert.equal((await send({ target: '/fraud/versions/3/infer' })).status, 404)
})

/** Who answers at /fraud, by what the client calls the host. */
const hosts: Readonly<Record<string, string>> = {
  'api.example.com': 'exact',
  'API.Example.COM': 'exact',
  'api.example.com:8443': 'exact',
  'Api.example.com:80': 'exact',
  'www.example.com': 'wide',
  'api.www.example.com:1': 'wide',
  'eu.example.com': 'wide',
  'xeu.example.com': 'wide',
  'api.eu.example.com': 'wider',
  'a.b.EU.example.com': 'wider',
  'example.com': 'any',
  '.example.com': 'any',
  'evilexample.com': 'any',
  'api.example.com.evil.example': 'any',
  'api.example.co': 'any',
  '127.0.0.1:8080': 'any',
  '[::1]:8080': 'any',
  localhost: 'any',
}

everyProtocol('of several routes the one with the narrowest host answers', async (send) => {
  for (const [host, model] of Object.entries(hosts)) {
    assert.equal((await send({ host, target: '/fraud/infer' })).json.model_name, model, host)
    assert.equal((await send({ host, method: 'GET', target: '/fraud' })).json.name, model, host)
    // Each model stays where it was.
    assert.equal((await send({ host, target: '/v2/models/wider/infer' })).json.model_name, 'wider', host)
  }
})

everyProtocol('a route of one host is nowhere else, whatever the method', async (send) => {
  const target = '/teams/risk/v1.2_x~-y/infer'
  assert.equal((await send({ host: 'a.example.net', target })).status, 200)
  for (const host of ['example.net', 'localhost', 'a.example.net.evil.example']) {
    for (const method of ['GET', 'POST', 'OPTIONS', 'PUT']) {
      const { status, json } = await send({ host, method, target })
      assert.deepEqual([status, json.code], [404, 'not_found'], `${method} at ${host}`)
    }
  }
})

for (const protocol of http1Protocols) {
  test(`the host in a target that is a whole URL goes before the field, over ${protocol}`, async (t) => {
    const send = (target: string, host: string) => ask(t, protocol, { host, target })
    for (const origin of ['http://api.example.com', 'https://API.example.com:9'])
      assert.equal((await send(`${origin}/fraud/infer`, 'localhost')).json.model_name, 'exact')
    assert.equal((await send('http://localhost/fraud/infer', 'api.example.com')).json.model_name, 'any')
  })
}

test('the metrics tell routes apart, and the statistics of a model count all of them', async (t) => {
  const served = everywhere.served.http
  const before = await samples(served)
  const counted = (await statsOf(served, 'any/versions/2')).inference_stats.success.count
  const sent: [route: string, host: string, target: string][] = [
    ['fraud', 'localhost', '/fraud/infer'],
    ['any', 'localhost', '/v2/models/any/infer'],
    ['of-host', 'own.example.org:1', '/v2/models/any/infer'],
    ['hidden', 'x.example.net', '/teams/risk/v1.2_x~-y/versions/2/infer'],
  ]
  for (const [, host, target] of sent) assert.equal((await ask(t, 'http', { host, target })).status, 200, target)
  const seen = await samples(served)
  for (const [route] of sent) {
    const series = `penstock_requests_total{route="${route}",model="any",version="2",code="ok"}`
    assert.equal(seen.get(series), (before.get(series) ?? 0) + 1, route)
  }
  assert.equal((await statsOf(served, 'any/versions/2')).inference_stats.success.count, counted + sent.length)
})

/** What is wrong with routes over a store with the models a and b, line by line. */
async function mistakesIn(routes: readonly string[]): Promise<string[]> {
  const text = `auth: none\nedge: { port: 0 }\nmetrics: { port: 0 }\nadmin: { port: 0 }\nstore: { path: . }\nroutes:\n`
  const lines = routes.map((route) => `  - { ${route} }\n`)
  const folder = await folderWith({ 'penstock.yaml': text + lines.join(''), 'a.onnx': echo, 'b.onnx': echo })
  const file = await loadConfig(join(folder, 'penstock.yaml'))
  const started = 'mistakes' in file ? file : await start(file)
  if ('running' in started) await started.running.stop()
  const mistakes = 'mistakes' in started ? started.mistakes : []
  return mistakes.map((mistake) => showMistake({ ...mistake, file: basename(mistake.file) }))
}

const good = 'name: good, match: { path: /good }, model: a'
const pathOf = (path: string) => [good, `name: r, match: { path: "${path}" }, model: a`]
const hostOf = (host: string) => [good, `name: r, match: { host: "${host}" }, model: a`]
const wrongPath = /^penstock\.yaml:8: routes\[1\]\.match\.path: expected a path such as \/fraud, .*found /
const wrongHost = /^penstock\.yaml:8: routes\[1\]\.match\.host: expected a host name in lower case .*found /
const wrong: [routes: string[], line: RegExp][] = [
  [[good, 'name: r, match: { path: /r }, model: c'], /^penstock\.yaml:8: routes\[1\]\.model: no such model .*a, b$/],
  [[good, 'name: good, match: { path: /r }, model: a'], /^penstock\.yaml:8: routes\[1\]\.name: "good" .*two routes$/],
  [[good, 'name: b, match: { path: /r }, model: a'], /^penstock\.yaml:8: routes\[1\]\.name: "b" .*own route/],
  [[good, 'name: r, match: { path: /good }, model: b'], /^penstock\.yaml:8: routes\[1\]\.match: "good" takes the same/],
  [
    [1, 2].map((i) => `name: r${i}, match: { host: a.example, path: /r }, model: ${'ab'.charAt(i - 1)}`),
    /^penstock\.yaml:8: routes\[1\]\.match: "r1" takes the same requests: give one/,
  ],
  [
    [1, 2].map((i) => `name: r${i}, match: { host: a.example }, model: b`),
    /^penstock\.yaml:8: routes\[1\]\.match: "r1" takes the same requests: give one/,
  ],
  [[good, 'name: r, match: {}, model: a'], /^penstock\.yaml:8: routes\[1\]\.match: expected a host, a path or both$/],
  [[good, 'name: r, model: a'], /^penstock\.yaml:8: routes\[1\]\.match: is missing/],
  [[good, 'name: "a b", match: { path: /r }, model: a'], /^penstock\.yaml:8: routes\[1\]\.name: .*found "a b"$/],
  [
    [good, 'name: r, match: { path: /r, hots: b }, model: a'],
    /^penstock\.yaml:8: routes\[1\]\.match: unknown key "hots"/,
  ],
  ...['/v2', '/v2/models/c', '/v2/health'].map((path): [string[], RegExp] => [
    pathOf(path),
    /\.path: \/v2 is the prot/,
  ]),
  ...['r', '', '/', '/r/', '//r', '/r//s', '/r s', '/r?s', '/r%20s', '/r#', '/\u00e9', '/{r}'].map(
    (path): [string[], RegExp] => [pathOf(path), wrongPath],
  ),
  ...['Api.example', 'a.example:80', '*', '*.', 'a.*.example', 'http://a', 'a..b', '-a', 'a_b', '', '[::1]', 'a.'].map(
    (host): [string[], RegExp] => [hostOf(host), wrongHost],
  ),
]

test('a mistake in a route is told at load in one line that says where', async () => {
  for (const [routes, line] of wrong) {
    const lines = await mistakesIn(routes)
    assert.equal(lines.length, 1, `${routes.join(' | ')}: ${lines.join('\n')}`)
    assert.match(lines[0]!, line)
  }
})

test('routes of different hosts, and of one host for two models, are no mistake', async () => {
  const different = ['a.example', '*.a.example', '*.example'].map((host, i) => {
    return `name: r${i}, match: { host: "${host}", path: /good }, model: b`
  })
  const oneHost = ['a', 'b'].map((model) => `name: of-${model}, match: { host: a.example }, model: ${model}`)
  assert.deepEqual(await mistakesIn([good, ...different, ...oneHost]), [])
})

/** What a model has behind its address, and what the answer holds. */
const ends = { '': 'inputs', '/ready': 'ready', '/config': 'backend', '/stats': 'model_stats', '/infer': 'outputs' }

/** What is not there of all that a model should have at its address, in a gateway that starts. */
async function missing(t: TestContext, file: string, address: string, routes: readonly object[] = []) {
  const started = await startGateway(t, { store: { [file]: echo }, settings: { routes } }).catch((error: Error) => {
    assert.match(error.message, /\b(path|name)\b/)
  })
  if (!started) return []
  const post = { method: 'POST', body, headers: { 'content-type': 'application/json' } }
  const places = [address, `${address}/versions/${file.split('/')[1]}`]
  const asked = places.flatMap((place) =>
    Object.entries(ends).map(async ([end, key]) => {
      const response = await fetch(started.url + place + end, end === '/infer' ? post : {})
      return key in ((await response.json()) as object) ? [] : [`${response.status} ${place}${end}`]
    }),
  )
  return (await Promise.all(asked)).flat()
}

test('a route with words of the protocol in its path is refused at load, or answers in full', async (t) => {
  const paths = ['/infer', '/team/ready', '/config', '/stats/stats', '/versions/1', '/team/versions/2', '/a/../b']
  const lost = paths.map((path) => missing(t, 'm/1/model.onnx', path, [{ name: 'r', match: { path }, model: 'm' }]))
  assert.deepEqual((await Promise.all(lost)).flat(), [])
})

test('a model with the name of a word of the protocol is refused at load, or served in full', async (t) => {
  const names = ['versions', 'infer', 'ready', 'config', 'stats']
  const lost = names.map((name) => missing(t, `${name}/1/model.onnx`, `/v2/models/${name}`))
  assert.deepEqual((await Promise.all(lost)).flat(), [])
})

test('a version with the name of a word of the protocol is refused at load, or served in full', async (t) => {
  const names = ['versions', 'infer', 'ready', 'config', 'stats']
  const lost = names.map((name) => missing(t, `m/${name}/model.onnx`, '/v2/models/m'))
  assert.deepEqual((await Promise.all(lost)).flat(), [])
})
