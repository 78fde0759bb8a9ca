/** What a client and the gateway settle in their heads: ids, methods, types, targets, origins. */
import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { wholeFile } from './support/client.ts'
import { startGateway, tensor } from './support/gateway.ts'
import { slow } from './support/models.ts'
import { identity } from './support/onnx.ts'
import {
  http1Protocols,
  isHttp2,
  overHttp1,
  protocols,
  startEverywhere,
  type Client,
  type Everywhere,
  type Got,
  type Protocol,
} from './support/protocols.ts'
import { Wire, wireRequest } from './support/socket.ts'

const store = { 'echo.onnx': identity('FP32', ['n', 2]), 'slow.onnx': slow(20) }
const everywhere = await startEverywhere(wholeFile, { store })
/** Lets the pages of two origins call. Browsers never send the slash at the end. */
const origins = ['https://app.example.com/', 'http://localhost:3000']
const pages = await startEverywhere(wholeFile, { store, settings: { edge: { cors: { origins, maxAgeS: 60 } } } })
const { url } = everywhere.served.http

const infer = '/v2/models/echo/infer'
const body = JSON.stringify({ inputs: [tensor('x', 'FP32', [1, 2], [1, 2])] })
const questions = ['/v2', '/v2/', '/v2/health/live', '/v2/health/ready', '/v2/models', '/v2/models/stats']
  .concat(['/v2/openapi.json', '/v2/models/echo', '/v2/models/echo/versions/1'])
  .concat(['ready', 'config', 'stats'].map((end) => `/v2/models/echo/versions/1/${end}`))
const nowhere = ['/', '/nothing', '/v2/nothing', '/v2/models/', '/v2/models/echo/', '/v2/models/nobody']
  .concat(['/v2/models/nobody/ready', '/v2/models/echo/ready/now', '/v2/models/echo/versions'])
  .concat(['/v2/models/nobody/infer', '/v2/models/echo/infer/now'])

type Run = (client: Client, t: TestContext, protocol: Protocol) => Promise<void>

/** Makes one test for each protocol. */
function overAll(at: Everywhere) {
  return (name: string, run: Run) => {
    for (const protocol of protocols) test(`${name}, over ${protocol}`, (t) => run(at.open(t, protocol), t, protocol))
  }
}

const everyProtocol = overAll(everywhere)
const everyProtocolOfPages = overAll(pages)

/** The answer to each kind of request, all sent with these fields. */
function allKinds(client: Client, headers: Record<string, string>): Promise<Got[]> {
  const kinds = [
    { path: '/v2', status: 200 },
    { path: '/v2', method: 'HEAD', status: 200 },
    { path: '/v2', method: 'OPTIONS', status: 204 },
    { path: infer, body, status: 200 },
    { path: infer, body: '{', status: 400 },
    { path: infer, body, headers: { 'content-type': 'text/plain' }, status: 415 },
    { path: infer, body, headers: { accept: 'text/html' }, status: 406 },
    { path: infer, method: 'OPTIONS', status: 204 },
    { path: infer, status: 405 },
    { path: infer, method: 'HEAD', status: 405 },
    { path: '/nothing', status: 404 },
    { path: '/v2/models/nobody/infer', body, status: 404 },
  ]
  const answers = kinds.map(async ({ status, headers: own = {}, ...sent }) => {
    const got = await client.send({ ...sent, headers: { ...headers, ...own } })
    assert.equal(got.status, status, JSON.stringify(sent))
    return got
  })
  return Promise.all(answers)
}

/** A target that is sent as it is written, where a client that takes URLs would tidy it up. */
async function sendTarget(t: TestContext, protocol: Protocol, target: string, method = 'GET') {
  if (isHttp2(protocol)) return everywhere.open(t, protocol).send({ path: target, method })
  return sendHead(t, `${method} ${target} HTTP/1.1\r\nhost: localhost\r\n`, protocol)
}

async function sendHead(t: TestContext, head: string, protocol: Protocol) {
  const wire = await Wire.open(t, everywhere.served[protocol].url, everywhere.ca)
  wire.write(`${head}\r\n`)
  return { ...(await wire.reply()), wire }
}

everyProtocol('the id of a request comes back with every kind of answer', async (client) => {
  for (const id of ['a', 'Trace_1.2:/+=@-3', 'x'.repeat(128)]) {
    for (const { headers, json, status } of await allKinds(client, { 'x-request-id': id })) {
      assert.equal(headers['x-request-id'], id)
      if (status >= 400 && json) assert.equal(json.request_id, id)
    }
  }
})

everyProtocol('a request without an id gets one of its own, with every kind of answer', async (client) => {
  const answers = [...(await allKinds(client, {})), ...(await allKinds(client, {}))]
  const ids = answers.map(({ headers }) => headers['x-request-id'] as string)
  for (const id of ids) assert.match(id, /^[\w.-]{1,64}$/)
  assert.equal(new Set(ids).size, ids.length)
  for (const { status, json, headers } of answers)
    if (status >= 400 && json) assert.equal(json.request_id, headers['x-request-id'])
})

everyProtocol('an id that should not be in a log is replaced, and echoed nowhere', async (client) => {
  const bad = ['two words', 'y'.repeat(129), 'caf\u00e9', 'a,b', '<b>', '"q"', '%0d%0aset-cookie:a=b', 'a\tb', '{}', '']
  for (const id of bad) {
    for (const { headers, body: sent } of await allKinds(client, { 'x-request-id': id })) {
      assert.match(headers['x-request-id'] as string, /^[\w.-]{1,64}$/, id)
      if (id !== '') assert.ok(!sent.includes(id === '{}' ? '"{}"' : id), id)
    }
  }
})

overHttp1('two ids, and an id on two lines, are no id', async (t, protocol) => {
  for (const fields of ['first\r\nx-request-id: second', 'first\r\n second']) {
    const head = `GET /v2 HTTP/1.1\r\nhost: a\r\nx-request-id: ${fields}\r\n`
    const { status, headers } = await sendHead(t, head, protocol)
    if (status !== 400) assert.doesNotMatch(headers.get('x-request-id')!, /first|second/)
  }
})

everyProtocol('HEAD has the head of GET and no body', async (client) => {
  const headers = { 'x-request-id': 'same' }
  for (const path of [...questions, ...nowhere]) {
    const { date: _, ...expected } = (await client.send({ path, headers })).headers
    const got = await client.send({ path, headers, method: 'HEAD' })
    const { date: __, ...head } = got.headers
    assert.deepEqual(head, expected, path)
    assert.ok(Number(head['content-length']) > 0)
    assert.equal(got.body.length, 0)
  }
})

everyProtocol('OPTIONS says what a path takes, and * what there is at all', async (client, t, protocol) => {
  for (const path of [...questions, infer]) {
    const { status, headers, body: sent } = await client.send({ path, method: 'OPTIONS' })
    const allow = path === infer ? 'POST, OPTIONS' : 'GET, HEAD, OPTIONS'
    assert.deepEqual([status, headers.allow, sent.length], [204, allow, 0], path)
  }
  assert.equal((await sendTarget(t, protocol, '*', 'OPTIONS')).status, 204)
})

everyProtocol('a path that is there refuses other methods, and says which it takes', async (client) => {
  const refused = [
    ['GET', [infer]],
    ['POST', questions],
  ].concat(['PUT', 'PATCH', 'DELETE', 'TRACE', 'PROPFIND'].map((method) => [method, [...questions, infer]])) as [
    string,
    string[],
  ][]
  for (const [method, paths] of refused) {
    for (const path of paths) {
      const { status, headers, json } = await client.send({ path, method })
      const allow = path === infer ? 'POST, OPTIONS' : 'GET, HEAD, OPTIONS'
      assert.deepEqual([status, headers.allow, json.code], [405, allow, 'method_not_allowed'], `${method} ${path}`)
    }
  }
})

everyProtocol('a path that is not there is 404, whatever the method', async (client) => {
  for (const path of nowhere) {
    for (const method of ['GET', 'POST', 'PUT', 'OPTIONS', 'TRACE']) {
      const { status, headers, json } = await client.send({ path, method })
      assert.deepEqual([status, json.code, headers.allow], [404, 'not_found', undefined], `${method} ${path}`)
    }
  }
})

test('a version that is not there is 404, whatever the method', async (t) => {
  const client = everywhere.open(t, 'http')
  for (const end of ['', '/ready', '/config', '/stats', '/infer']) {
    for (const method of ['GET', 'POST', 'PUT', 'OPTIONS']) {
      const { status, headers } = await client.send({ path: `/v2/models/echo/versions/9${end}`, method })
      assert.deepEqual([status, headers.allow], [404, undefined], `${method} ${end}`)
    }
  }
})

everyProtocol('the answer has a type that the client accepts, or is refused', async (client) => {
  const good = ['*/*', 'application/*', 'application/json', 'APPLICATION/JSON', 'text/html, application/json;q=0.1']
  const odd = ['text/html;q=1,*/*;q=0.001', 'application/json;charset=utf-8', '*/*;q=0, application/json']
  const bad = ['text/html', 'application/json;q=0', 'application/xml, text/*', '*/*;q=0', 'application/*;q=0, */*']
  const badToo = ['application/json; q=0.0, text/plain', 'application/jsonx', 'json']
  for (const [status, values] of [[200, good.concat(odd)] as const, [406, bad.concat(badToo)] as const]) {
    for (const accept of values) {
      for (const sent of [{ path: infer, body }, { path: '/v2/models/echo' }]) {
        const got = await client.send({ ...sent, headers: { accept } })
        assert.equal(got.status, status, `${accept} at ${sent.path}`)
        if (status === 406) assert.equal(got.json.code, 'not_acceptable')
      }
    }
  }
  const accept = 'application/octet-stream'
  assert.equal((await client.send({ path: infer, body, headers: { accept } })).status, 200)
  for (const each of [accept, '*/*, application/json;q=0', 'application/*, application/json;q=0'])
    assert.equal((await client.send({ path: '/v2', headers: { accept: each } })).status, 406, each)
})

/** What becomes of a body that says it is of this type. */
async function withType(client: Client, type: string): Promise<unknown[]> {
  const { status, json } = await client.send({ path: infer, body, headers: { 'content-type': type } })
  return [status, json.code]
}

everyProtocol('a body is JSON in UTF-8, or of no type, or refused', async (client) => {
  assert.equal((await client.send({ path: infer, body })).status, 200)
  const json = ['', '; charset=utf-8', ';charset=UTF-8', ' ; x=y', '; CHARSET=us-ascii'].map((rest) => `json${rest}`)
  for (const type of [...json, 'JSON', 'octet-stream'])
    assert.deepEqual(await withType(client, `application/${type}`), [200, undefined], type)
  const charsets = ['latin-1', 'utf-16', '"iso-8859-1"'].map((each) => `application/json; charset=${each}`)
  const bad = ['text/plain', 'application/jsonp', 'application/x-json', 'json', 'text/json', 'application/json, text/x']
  for (const type of [...charsets, ...bad])
    assert.deepEqual(await withType(client, type), [415, 'unsupported_media'], type)
})

test('a charset may be in quotes, and is more than what it begins with', async (t) => {
  const client = everywhere.open(t, 'http')
  for (const [status, charset] of [
    [200, '"utf-8"'],
    [200, '"UTF-8"'],
    [415, '"utf-16"'],
    [415, 'utf-80'],
  ] as const)
    assert.equal((await withType(client, `application/json; charset=${charset}`))[0], status, charset)
})

for (const protocol of http1Protocols) {
  test(`a target may be a whole URL; one with a NUL or without end is refused, over ${protocol}`, async (t) => {
    const ask = async (target: string) => (await sendTarget(t, protocol, target)).status
    for (const target of ['http://localhost/v2', 'HTTPS://elsewhere.example:1/v2/models?x', `${url}/v2/models/echo`])
      assert.equal(await ask(target), 200, target)
    for (const target of ['http://localhost', 'ftp://localhost/v2', 'localhost/v2', 'http:/v2', 'http:///', '*'])
      assert.ok([400, 404].includes(await ask(target)), target)
    assert.equal(await ask('/v2/models/ec\0ho'), 400)
    assert.equal(await ask(`/${'a'.repeat(20_000)}`), 431)
  })

  test(`an expectation that nobody here can meet is refused, over ${protocol}`, async (t) => {
    const client = everywhere.open(t, protocol)
    for (const expect of ['a miracle', '200-ok']) {
      const { status, json, headers } = await client.send({
        path: infer,
        body,
        headers: { expect, 'x-request-id': 'e1' },
      })
      assert.deepEqual([status, json.code, headers['x-request-id']], [417, 'expectation_failed', 'e1'])
    }
    assert.equal((await client.send({ path: infer, body })).status, 200)
  })
}

const connect = 'CONNECT example.com:443 HTTP/1.1\r\nhost: example.com:443\r\n'

overHttp1('CONNECT is refused with the methods that there are, and the connection ends', async (t, protocol) => {
  const { status, json, headers, wire } = await sendHead(t, connect, protocol)
  assert.deepEqual([status, json.code], [405, 'method_not_allowed'])
  await wire.gone
  assert.ok(headers.has('allow'), 'RFC 9110 section 15.5.6 wants it')
})

overHttp1('the refusal of CONNECT does not take the place of the answer to the request before', async (t, protocol) => {
  const request = { id: 'first', inputs: [tensor('x', 'FP32', [1, 1], [5])] }
  const { status, json } = await sendHead(t, `${wireRequest('slow', JSON.stringify(request))}${connect}`, protocol)
  assert.deepEqual([status, json.id], [200, 'first'])
})

overHttp1('HTTP/1.0 is answered, with or without a host, and its connection ends', async (t, protocol) => {
  for (const fields of ['', 'host: a\r\n']) {
    const { status, json, wire } = await sendHead(t, `GET /v2 HTTP/1.0\r\n${fields}`, protocol)
    assert.deepEqual([status, json.name], [200, 'penstock'])
    await wire.gone
  }
})

overHttp1('HTTP/1.1 without a host, or with two, is refused in the words of every refusal', async (t, protocol) => {
  for (const fields of ['', 'host: a\r\nhost: b\r\n']) {
    const { status, json } = await sendHead(t, `GET /v2 HTTP/1.1\r\n${fields}`, protocol)
    assert.deepEqual([status, json?.code], [400, 'invalid'], fields)
  }
})

overHttp1('a host that cannot be one is refused', async (t, protocol) => {
  for (const host of ['a b', 'a/b', 'a@b'])
    assert.equal((await sendHead(t, `GET /v2 HTTP/1.1\r\nhost: ${host}\r\n`, protocol)).status, 400, host)
})

/** Names of the fields that CORS knows. */
function corsFields({ headers }: Got): string[] {
  return Object.keys(headers).filter((name) => name.startsWith('access-control-'))
}

const preflight = { 'access-control-request-method': 'POST', 'access-control-request-headers': 'content-type' }

everyProtocol('no origin is let in unless it is configured', async (client) => {
  for (const origin of ['https://app.example.com', 'null', 'http://localhost:3000'])
    for (const answer of await allKinds(client, { origin, ...preflight }))
      assert.deepEqual([corsFields(answer), answer.headers.vary], [[], undefined])
})

everyProtocolOfPages('an origin that is configured may read every answer, and no other may', async (client) => {
  for (const origin of ['https://app.example.com', 'http://localhost:3000']) {
    for (const answer of await allKinds(client, { origin })) {
      assert.deepEqual(corsFields(answer), ['access-control-allow-origin', 'access-control-expose-headers'])
      assert.deepEqual([answer.headers['access-control-allow-origin'], answer.headers.vary], [origin, 'origin'])
      assert.match(answer.headers['access-control-expose-headers'] as string, /\bx-request-id\b/)
    }
  }
  const others = ['null', 'http://app.example.com', 'https://app.example.com.evil.example', 'http://localhost:30001']
  for (const fields of [{}, { origin: 'https://app.example.com:444' }, ...others.map((origin) => ({ origin }))])
    for (const answer of await allKinds(client, { ...fields, ...preflight }))
      assert.deepEqual([corsFields(answer), answer.headers.vary], [[], 'origin'])
})

everyProtocolOfPages('a browser that asks first is told what its pages may send', async (client) => {
  const headers = { origin: 'https://app.example.com', ...preflight }
  const ask = async (path: string) => (await client.send({ path, method: 'OPTIONS', headers })).headers
  const told = await ask(infer)
  assert.equal(told['access-control-allow-origin'], 'https://app.example.com')
  assert.match(told['access-control-allow-methods'] as string, /\bPOST\b/)
  assert.match(told['access-control-allow-headers'] as string, /\bcontent-type\b.*\binference-header-content-length\b/)
  assert.equal(told['access-control-max-age'], '60')
  assert.match((await ask('/v2'))['access-control-allow-methods'] as string, /\bGET\b/)
  const methods = (await ask('/v2/models/nobody/infer'))['access-control-allow-methods']
  assert.equal(methods, told['access-control-allow-methods'], 'it says nothing of what there is')
})

/** Lets one origin in; gives what a request from another one is told. */
async function pagesOf(t: TestContext, origin: string) {
  const { url: at } = await startGateway(t, { store, settings: { edge: { port: 0, cors: { origins: [origin] } } } })
  return async (from: string) => {
    const { headers } = await fetch(`${at}/v2`, { headers: { origin: from } })
    return [headers.get('access-control-allow-origin'), headers.get('vary')]
  }
}

test('all origins may be let in at once', async (t) => {
  const ask = await pagesOf(t, '*')
  assert.deepEqual(await ask('https://anywhere.example'), ['*', null])
})

test('the pages of an app may call if its scheme is configured, and pages without an origin may not', async (t) => {
  const ask = await pagesOf(t, 'capacitor://localhost')
  assert.deepEqual(await ask('capacitor://localhost'), ['capacitor://localhost', 'origin'])
  // Sandboxed frames of any page call themselves so.
  assert.deepEqual(await ask('null'), [null, 'origin'])
})
