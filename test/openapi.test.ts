/** The OpenAPI document: it is one, it lists what answers and nothing else, and what goes over the wire is as it says. */
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { gzipSync } from 'node:zlib'
import { Validator } from '@seriousme/openapi-schema-validator'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { wholeFile } from './support/client.ts'
import { repository, startGateway, tensor, type TestGateway } from './support/gateway.ts'
import { identity, onnx, onnxTypes, type OnnxType } from './support/onnx.ts'
import { isHttp2, openClient, protocols, startEverywhere } from './support/protocols.ts'
import { Wire } from './support/socket.ts'

const types = (Object.keys(onnxTypes) as OnnxType[]).filter((type) => type !== 'BF16')
const several = onnx({
  inputs: [
    { name: 'words', type: 'BYTES', shape: ['n', 2] },
    { name: 'k', type: 'INT64', shape: ['n', 'len', 3] },
    { name: 'on', type: 'BOOL', shape: ['n'] },
  ],
  outputs: [
    { name: 'again', type: 'BYTES', shape: ['n', 2] },
    { name: 'turned', type: 'INT64', shape: ['n', 'len', 3] },
    { name: 'off', type: 'BOOL', shape: ['n'] },
  ],
  nodes: [
    { op: 'Identity', inputs: ['words'], outputs: ['again'] },
    { op: 'Neg', inputs: ['k'], outputs: ['turned'] },
    { op: 'Not', inputs: ['on'], outputs: ['off'] },
  ],
})
const store = {
  ...Object.fromEntries(types.map((type) => [`of.${type}.onnx`, identity(type, ['n', 2])])),
  'scalar.onnx': identity('FP64', []),
  'cube.onnx': identity('UINT8', [2, 1, 3]),
  'free.onnx': identity('INT16', ['', 'w', 2, '']),
  'long.onnx': identity('FP32', ['n', 65]),
  'several/1.2/model.onnx': several,
  'several/1.10/model.onnx': several,
}
const routes = [
  { name: 'words', match: { path: '/words' }, model: 'several' },
  { name: 'ours', match: { host: '*.example.com', path: '/ours' }, model: 'cube' },
  { name: 'theirs', match: { host: 'their.example.com', path: '/ours' }, model: 'scalar' },
]
const everywhere = await startEverywhere(wholeFile, { store, settings: { routes } })
const gateway = everywhere.served.http
const own = await startGateway(wholeFile)

interface Document {
  readonly openapi: string
  readonly paths: Readonly<Record<string, any>>
  readonly components: { readonly schemas: Readonly<Record<string, any>> }
}

async function documentOf(served: TestGateway): Promise<Document> {
  const { status, json } = await served.get('/v2/openapi.json')
  assert.equal(status, 200)
  return json
}

const documents = { own: await documentOf(own), every: await documentOf(gateway) }

/** Says what is wrong with a value by the schema at a place in a document, in one string; nothing if it fits. */
function checker(document: Document): (place: readonly string[], value: unknown) => string {
  const ajv = new Ajv2020({ strict: false, allErrors: true })
  ajv.addSchema(document, 'document')
  return (place, value) => {
    const pointer = place.map((step) => encodeURIComponent(step.replaceAll('~', '~0').replaceAll('/', '~1'))).join('/')
    const validate = ajv.getSchema(`document#/${pointer}`)
    assert.ok(validate, `there is nothing at ${place.join(' ')}`)
    return validate(value) === true ? '' : ajv.errorsText(validate.errors)
  }
}

const check = checker(documents.every)
const requestOf = (model: string) => ['components', 'schemas', `${model}.request`]
const answerOf = (model: string) => ['components', 'schemas', `${model}.answer`]
const responseOf = (path: string, method: string, status: number) => [
  'paths',
  path,
  method,
  'responses',
  `${status}`,
  'content',
  'application/json',
  'schema',
]

/** Every operation with its path as it is called, once for each version that the document lists. */
function operationsIn({ paths }: Document) {
  return Object.entries(paths).flatMap(([path, { parameters = [], ...methods }]) => {
    const versions: string[] = parameters[0]?.schema.enum ?? ['']
    return Object.entries<any>(methods).flatMap(([method, operation]) =>
      versions.map((version) => ({
        path: path.replace('{version}', version),
        method: method.toUpperCase(),
        operation,
      })),
    )
  })
}

for (const [name, document] of Object.entries(documents)) {
  test(`the document is valid OpenAPI 3.1, and its schemas are JSON Schema: ${name}`, async () => {
    const validator = new Validator()
    const { valid, errors } = await validator.validate(structuredClone(document) as any)
    assert.ok(valid, JSON.stringify(errors))
    assert.equal(validator.version, '3.1')
    const ajv = new Ajv2020({ strict: false })
    for (const [schema, value] of Object.entries(document.components.schemas))
      assert.ok(ajv.validateSchema(value), `${schema}: ${ajv.errorsText()}`)
    const ids = Object.values(document.paths).flatMap((item) => [item.get ?? item.post].map((each) => each.operationId))
    assert.equal(new Set(ids).size, Object.keys(document.paths).length)
  })

  test(`every path in the document answers, with the method that it says: ${name}`, async () => {
    const { url } = name === 'own' ? own : gateway
    for (const { path, method } of operationsIn(document)) {
      const response = await fetch(url + path, { method, ...(method === 'POST' && { body: '{}' }) })
      const text = await response.text()
      assert.ok(![404, 405].includes(response.status), `${method} ${path}: ${text}`)
      if (method === 'GET') assert.equal(response.status, 200, path)
      const other = await fetch(url + path, { method: method === 'GET' ? 'POST' : 'GET' })
      assert.equal(other.status, 405, path)
    }
  })

  test(`every example in the document is taken, and its answer is as the document says: ${name}`, async () => {
    const served = name === 'own' ? own : gateway
    const checkIn = checker(document)
    for (const [schema, { examples = [] }] of Object.entries(document.components.schemas)) {
      const model = schema.replace(/\.(request|answer)$/, '')
      for (const example of examples) {
        assert.equal(checkIn(requestOf(model), example), '', model)
        const { status, json } = await served.infer(model, example)
        assert.equal(status, 200, `${model}: ${JSON.stringify(json)}`)
        assert.equal(checkIn(answerOf(model), json), '', model)
      }
    }
  })
}

test('the paths are those of the reference, for each model and each route that the host reaches', async () => {
  const text = await readFile(join(repository, 'config/REFERENCE.md'), 'utf8')
  const described = [...text.matchAll(/^\| (GET|POST) \| `(\/[^`]*)` \|/gm)].map(([, method = '', path = '']) => {
    return { method: method.toLowerCase(), path }
  })
  assert.ok(described.length > 10)
  const addresses = Object.keys(documents.every.components.schemas)
    .filter((name) => name.endsWith('.request'))
    .map((name) => `/v2/models/${name.replace('.request', '')}`)
  const expected = described.flatMap(({ method, path }) => {
    const [, end] = /^\/v2\/models\/NAME\[.*\](.*)$/.exec(path) ?? []
    if (end === undefined) return [`${method} ${path}`]
    const places = [...addresses, '/words'].flatMap((address) => [address, `${address}/versions/{version}`])
    return places.map((place) => `${method} ${place}${end}`)
  })
  const found = Object.entries(documents.every.paths).flatMap(([path, item]) =>
    ['get', 'post', 'put', 'delete'].flatMap((method) => (method in item ? [`${method} ${path}`] : [])),
  )
  assert.deepEqual(found.toSorted(), expected.toSorted())
})

test('each small model has an example, and a version its own name', () => {
  const without = Object.entries(documents.every.components.schemas).flatMap(([name, { examples }]) => {
    return name.endsWith('.request') && !examples ? [name] : []
  })
  // FP16 has no form in JSON, and 65 elements would be too long to read.
  assert.deepEqual(without, ['long.request', 'of.FP16.request'])
  const { parameters } = documents.every.paths['/words/versions/{version}/infer']
  assert.deepEqual(parameters[0].schema.enum, ['1.2', '1.10'])
})

for (const protocol of protocols) {
  test(`a host is told of what it reaches and of nothing else, over ${protocol}`, async (t) => {
    const fetchAt = async (host: string): Promise<Document> => {
      const path = '/v2/openapi.json'
      if (isHttp2(protocol))
        return (await everywhere.open(t, protocol).send({ path, headers: { ':authority': host } })).json
      // Its client would hold the certificate against the host.
      const wire = await Wire.open(t, everywhere.served[protocol].url, everywhere.ca)
      wire.write(`GET ${path} HTTP/1.1\r\nhost: ${host}\r\n\r\n`)
      return (await wire.reply()).json
    }
    const at = async (host: string) => {
      const { paths } = await fetchAt(host)
      return [paths['/ours']?.get.operationId, '/words' in paths, '/v2/models/cube/infer' in paths]
    }
    assert.deepEqual(await at('localhost'), [undefined, true, true])
    assert.deepEqual(await at('a.example.com:1'), ['ours-model', true, true])
    assert.deepEqual(await at('THEIR.example.com'), ['theirs-model', true, true])
  })
}

const cube = (...data: unknown[]) => tensor('x', 'UINT8', [2, 1, 3], data)
const words = tensor('words', 'BYTES', [1, 2], ['a', 'ß'])
const k = tensor('k', 'INT64', [1, 1, 3], [1, -2, 3])
const on = tensor('on', 'BOOL', [1], [true])

const right: [model: string, request: object][] = [
  ['cube', { inputs: [cube([[0, 1, 2]], [[3, 4, 255]])], id: 'one', parameters: { colour: 'red', weight: 1 } }],
  ['cube', { inputs: [cube(1, 2, 3, 4, 5, 6)], outputs: [{ name: 'y', parameters: { binary_data: false } }] }],
  ['several', { inputs: [words, k, on] }],
  ['several', { inputs: [on, { ...k, parameters: {} }, words], outputs: [{ name: 'off' }] }],
  ['scalar', { inputs: [tensor('x', 'FP64', [], [-1.5e-300])] }],
  ['free', { inputs: [tensor('x', 'INT16', [1, 2, 2, 1], [1, -32_768, 32_767, 4])], outputs: [] }],
]

test('requests that are taken fit the document, and so do their answers', async () => {
  for (const [model, request] of right) {
    assert.equal(check(requestOf(model), request), '', model)
    const { status, json } = await gateway.infer(model, request)
    assert.equal(status, 200, `${model}: ${JSON.stringify(json)}`)
    assert.equal(check(answerOf(model), json), '', model)
    assert.equal(check(responseOf(`/v2/models/${model}/infer`, 'post', 200), json), '', model)
  }
})

const x = { inputs: [tensor('x', 'FP64', [], [1])] }
const wrong: [model: string, request: unknown][] = [
  ['cube', []],
  ['cube', {}],
  ['cube', { inputs: {} }],
  ['cube', { inputs: [] }],
  ['cube', { inputs: [{ ...cube(1, 2, 3, 4, 5, 6), name: 'z' }] }],
  ['cube', { inputs: [{ ...cube(1, 2, 3, 4, 5, 6), name: undefined }] }],
  ['cube', { inputs: [{ ...cube(1, 2, 3, 4, 5, 6), datatype: 'INT8' }] }],
  ['cube', { inputs: [{ ...cube(1, 2, 3, 4, 5, 6), shape: [2, 3] }] }],
  ['cube', { inputs: [{ ...cube(1, 2, 3, 4, 5, 6), shape: [2, 3, 1] }] }],
  ['cube', { inputs: [{ ...cube(1, 2, 3, 4, 5, 6), shape: [2, 1, 3, 1] }] }],
  ['cube', { inputs: [{ ...cube(1, 2, 3, 4, 5, 6), shape: 6 }] }],
  ['cube', { inputs: [{ ...cube(), data: 6 }] }],
  ...[256, -1, 0.5, '1', true, null].map((value): [string, object] => [
    'cube',
    { inputs: [cube(1, 2, 3, 4, 5, value)] },
  ]),
  ['cube', { inputs: [cube(1, 2, 3, 4, 5, 6)], id: 1 }],
  ['cube', { inputs: [cube(1, 2, 3, 4, 5, 6)], outputs: [{ name: 'x' }] }],
  ['cube', { inputs: [cube(1, 2, 3, 4, 5, 6)], outputs: [{ name: 'y', parameters: { binary_data: 1 } }] }],
  ['cube', { inputs: [cube(1, 2, 3, 4, 5, 6)], parameters: 1 }],
  ['free', { inputs: [tensor('x', 'INT16', [0, 1, 2, 1], [])] }],
  ['free', { inputs: [tensor('x', 'INT16', [1.5, 1, 2, 1], [1, 2, 3])] }],
  ['several', { inputs: [words, k] }],
  ['several', { inputs: [words, k, on, on] }],
  ['several', { inputs: [words, k, { ...on, data: [1] }] }],
  ['several', { inputs: [{ ...words, data: [1, 2] }, k, on] }],
  ['scalar', { inputs: [{ ...x.inputs[0], shape: [1] }] }],
  ['scalar', { ...x, parameters: { binary_data_output: 1 } }],
]

test('requests that are refused as invalid do not fit the document, and their refusals do', async () => {
  for (const [model, request] of wrong) {
    const shown = JSON.stringify(request)
    const { status, json } = await gateway.infer(model, request)
    assert.equal(status, 400, shown)
    assert.equal(check(responseOf(`/v2/models/${model}/infer`, 'post', 400), json), '', shown)
    assert.notEqual(check(requestOf(model), request), '', shown)
  }
})

test('every refusal is one that the document has for its path', async (t) => {
  const client = openClient(t, 'http', { url: gateway.url, ca: '' })
  const path = '/v2/models/cube/infer'
  const body = JSON.stringify({ inputs: [cube(1, 2, 3, 4, 5, 6)] })
  const bomb = gzipSync(Buffer.alloc(2_000_000, ' '))
  const refused: [status: number, headers: Record<string, string>, sent?: Uint8Array][] = [
    [400, { 'inference-header-content-length': '-1' }],
    [406, { accept: 'text/html' }],
    [413, { 'content-encoding': 'gzip' }, bomb],
    [415, { 'content-type': 'text/plain' }],
    [417, { expect: 'more' }],
  ]
  for (const [status, headers, sent = body] of refused) {
    const got = await client.send({ path, body: sent, headers })
    assert.equal(got.status, status)
    assert.equal(check(responseOf(path, 'post', status), got.json), '', `${status}`)
  }
  const got = await client.send({ path: '/v2', headers: { accept: 'text/html' } })
  assert.equal(check(responseOf('/v2', 'get', got.status), got.json), '')
})

test('the refusal of a head that is too large is as the document says', async (t) => {
  for (const fields of [`x: ${'y'.repeat(20_000)}\r\n`, 'x: y\r\n'.repeat(101)]) {
    const wire = await Wire.open(t, gateway.url)
    wire.write(`POST /v2/models/cube/infer HTTP/1.1\r\nhost: a\r\n${fields}\r\n`)
    const { status, json } = await wire.reply()
    assert.equal(status, 431)
    assert.equal(check(responseOf('/v2/models/cube/infer', 'post', 431), json), '')
  }
})

test('what is said of readiness while the gateway shuts down is as the document says', async (t) => {
  const settings = { edge: { port: 0, drain: { idleMs: 1_000, timeoutMs: 5_000 } } }
  const leaving = await startGateway(t, { store: { 'cube.onnx': store['cube.onnx'] }, settings })
  const checkIn = checker(await documentOf(leaving))
  void leaving.stop()
  const { status, json } = await leaving.get('/v2/health/ready')
  assert.equal(status, 503)
  assert.equal(checkIn(responseOf('/v2/health/ready', 'get', 503), json), '')
})

/** Whether a document is sound for a model, and what it says of an answer. */
async function soundFor(t: TestContext, model: Buffer, request: object): Promise<void> {
  const served = await startGateway(t, { store: { 'm.onnx': model } })
  const document = await documentOf(served)
  const ajv = new Ajv2020({ strict: false })
  for (const [name, schema] of Object.entries(document.components.schemas))
    assert.ok(ajv.validateSchema(schema), `${name}: ${ajv.errorsText()}`)
  const { status, json } = await served.infer('m', request)
  assert.equal(status, 200)
  assert.equal(checker(document)(answerOf('m'), json), '')
}

test('a model that takes nothing is described by sound schemas', async (t) => {
  const model = onnx({
    inputs: [],
    outputs: [{ name: 'y', type: 'FP32', shape: [1] }],
    constants: [{ name: 'c', type: 'FP32', shape: [1], data: [1] }],
    nodes: [{ op: 'Identity', inputs: ['c'], outputs: ['y'] }],
  })
  await soundFor(t, model, { inputs: [] })
})

test('an answer without elements fits the document', async (t) => {
  const model = onnx({
    inputs: [{ name: 'x', type: 'INT32', shape: ['n'] }],
    outputs: [{ name: 'where', type: 'INT64', shape: [1, 'found'] }],
    nodes: [{ op: 'NonZero', inputs: ['x'], outputs: ['where'] }],
  })
  await soundFor(t, model, { inputs: [tensor('x', 'INT32', [2], [0, 0])] })
})
