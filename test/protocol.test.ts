/** Every path of the Open Inference Protocol (REST), with Triton's additions, as a client meets them. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import packageFile from '../package.json' with { type: 'json' }
import { post, statsOf, wholeFile } from './support/client.ts'
import { startGateway, tensor } from './support/gateway.ts'
import { identity, onnx } from './support/onnx.ts'

function unary(op: string): Buffer {
  return onnx({
    inputs: [{ name: 'x', type: 'FP32', shape: ['n', 2] }],
    outputs: [{ name: 'y', type: 'FP32', shape: ['n', 2] }],
    nodes: [{ op, inputs: ['x'], outputs: ['y'] }],
  })
}

/** Three outputs of two inputs: x as it is, x with its sign turned, k with its sign turned. */
const several = onnx({
  inputs: [
    { name: 'x', type: 'FP32', shape: ['n', 2] },
    { name: 'k', type: 'INT64', shape: ['n'] },
  ],
  outputs: [
    { name: 'same', type: 'FP32', shape: ['n', 2] },
    { name: 'turned', type: 'FP32', shape: ['n', 2] },
    { name: 'count', type: 'INT64', shape: ['n'] },
  ],
  nodes: [
    { op: 'Identity', inputs: ['x'], outputs: ['same'] },
    { op: 'Neg', inputs: ['x'], outputs: ['turned'] },
    { op: 'Neg', inputs: ['k'], outputs: ['count'] },
  ],
})

const gateway = await startGateway(wholeFile, {
  store: {
    'sign/1/model.onnx': unary('Identity'),
    'sign/2/model.onnx': unary('Neg'),
    'sign/10/model.onnx': unary('Abs'),
    'several.onnx': several,
    'cube.onnx': identity('INT32', [2, 1, 3]),
    'odd.name-1.onnx': unary('Identity'),
    'pinned/1/model.onnx': unary('Identity'),
    'pinned/2/model.onnx': unary('Neg'),
  },
  settings: { models: { pinned: { version: '1' } } },
})

const x = tensor('x', 'FP32', [1, 2], [-1.5, 2])
const both = [tensor('x', 'FP32', [2, 2], [1, 2, 3, 4]), tensor('k', 'INT64', [2], [5, 6])]

test('the server says its name, its version and the extensions it speaks', async () => {
  for (const path of ['/v2', '/v2/']) {
    const { status, json } = await gateway.get(path)
    assert.equal(status, 200)
    assert.equal(json.name, 'penstock')
    assert.equal(json.version, packageFile.version)
    assert.deepEqual(json.extensions.toSorted(), [
      'binary_tensor_data',
      'model_configuration',
      'parameters',
      'statistics',
    ])
  }
})

test('the server is live and ready once it serves', async () => {
  const live = await gateway.get('/v2/health/live')
  assert.deepEqual([live.status, live.json], [200, { live: true }])
  const ready = await gateway.get('/v2/health/ready')
  assert.deepEqual([ready.status, ready.json], [200, { ready: true }])
})

test('the list of models names each once', async () => {
  const { json } = await gateway.get('/v2/models')
  assert.deepEqual(json, { models: ['cube', 'odd.name-1', 'pinned', 'several', 'sign'] })
})

/** Metadata without what it says of the machine, which is looked at elsewhere. */
function withoutParameters({ parameters, ...rest }: any) {
  assert.equal(parameters.provider, 'cpu')
  assert.notEqual(parameters.device, '')
  assert.ok(
    parameters.run_base_ms >= 0 && parameters.run_row_ms >= 0 && parameters.run_base_ms + parameters.run_row_ms > 0,
  )
  return rest
}

test('the models that come with Penstock are served', async (t) => {
  const own = await startGateway(t)
  assert.deepEqual((await own.get('/v2/models')).json, { models: ['breast-cancer', 'digits', 'spam'] })
  const { json } = await own.get('/v2/models/digits')
  assert.deepEqual(withoutParameters(json), {
    name: 'digits',
    versions: ['1', '2'],
    platform: 'onnx_onnxv1',
    inputs: [{ name: 'image', datatype: 'UINT8', shape: [-1, 1, 28, 28] }],
    outputs: [{ name: 'scores', datatype: 'FP32', shape: [-1, 10] }],
  })
})

test("a model's metadata lists its versions from the oldest, and its tensors with -1 for what varies", async () => {
  const { status, json } = await gateway.get('/v2/models/sign')
  assert.equal(status, 200)
  assert.deepEqual(withoutParameters(json), {
    name: 'sign',
    versions: ['1', '2', '10'],
    platform: 'onnx_onnxv1',
    inputs: [{ name: 'x', datatype: 'FP32', shape: [-1, 2] }],
    outputs: [{ name: 'y', datatype: 'FP32', shape: [-1, 2] }],
  })
})

test("a version's metadata lists that version alone", async () => {
  const { status, json } = await gateway.get('/v2/models/sign/versions/2')
  assert.equal(status, 200)
  assert.deepEqual(json.versions, ['2'])
})

test('a model and each of its versions say that they are ready', async () => {
  for (const path of ['/v2/models/sign/ready', '/v2/models/sign/versions/2/ready']) {
    const { status, json } = await gateway.get(path)
    assert.deepEqual([status, json], [200, { name: 'sign', ready: true }])
  }
})

test("a model's configuration leaves the row axis out of the dims of a model that is batched", async () => {
  const { status, json } = await gateway.get('/v2/models/sign/versions/2/config')
  assert.equal(status, 200)
  assert.equal(json.name, 'sign')
  assert.equal(json.max_batch_size, 64)
  assert.deepEqual(json.dynamic_batching, {})
  assert.deepEqual(json.version_policy, { specific: { versions: ['2'] } })
  assert.deepEqual(json.input, [{ name: 'x', data_type: 'TYPE_FP32', dims: [2] }])
  assert.deepEqual(json.output, [{ name: 'y', data_type: 'TYPE_FP32', dims: [2] }])
})

test("a model's configuration shows every dimension of a model that is not batched", async () => {
  const { json } = await gateway.get('/v2/models/cube/config')
  assert.equal(json.max_batch_size, 0)
  assert.equal('dynamic_batching' in json, false)
  assert.deepEqual(json.input, [{ name: 'x', data_type: 'TYPE_INT32', dims: [2, 1, 3] }])
})

test('statistics count rows, runs, answers and refusals as they happened', async (t) => {
  const fresh = await startGateway(t, { store: { 'a/1/m.onnx': unary('Identity'), 'a/2/m.onnx': unary('Identity') } })
  const before = (await fresh.get('/v2/models/a/versions/2/stats')).json.model_stats[0]
  assert.deepEqual([before.inference_count, before.execution_count, before.last_inference], [0, 0, 0])
  await fresh.infer('a', { inputs: [x] })
  await fresh.infer('a', { inputs: [tensor('x', 'FP32', [3, 2], [1, 2, 3, 4, 5, 6])] })
  await fresh.infer('a', { inputs: [tensor('x', 'FP32', [3, 2], [6, 5, 4, 3, 2, 1])] })
  await fresh.infer('a', { inputs: [tensor('x', 'FP32', [3, 2], [])] })
  const { model_stats: models } = (await fresh.get('/v2/models/a/versions/2/stats')).json
  assert.equal(models.length, 1)
  const [stats] = models
  assert.deepEqual([stats.name, stats.version], ['a', '2'])
  assert.equal(stats.inference_count, 7)
  assert.equal(stats.execution_count, 3)
  assert.ok(Math.abs(Date.now() - stats.last_inference) < 60_000)
  assert.equal(stats.inference_stats.success.count, 3)
  assert.equal(stats.inference_stats.fail.count, 1)
  assert.equal(stats.inference_stats.queue.count, 3)
  assert.equal(stats.inference_stats.compute_infer.count, 3)
  assert.ok(stats.inference_stats.compute_infer.ns > 0)
  const sizes = stats.batch_stats.map((each: any) => [each.batch_size, each.compute_infer.count])
  assert.deepEqual(sizes, [
    [1, 1],
    [3, 2],
  ])
})

test('statistics come for one version, for all versions of a model, and for all models', async () => {
  const name = (path: string) => async () => {
    const { json } = await gateway.get(path)
    return json.model_stats.map((each: any) => `${each.name} ${each.version}`)
  }
  const ofSign = ['sign 1', 'sign 2', 'sign 10']
  assert.deepEqual(await name('/v2/models/sign/versions/2/stats')(), ['sign 2'])
  assert.deepEqual(await name('/v2/models/sign/stats')(), ofSign)
  const others = ['cube 1', 'odd.name-1 1', 'pinned 1', 'pinned 2', 'several 1']
  assert.deepEqual(await name('/v2/models/stats')(), [...others, ...ofSign])
})

test('a request that names no version gets the newest, and version 10 is newer than version 2', async () => {
  const { status, json } = await gateway.infer('sign', { inputs: [x] })
  assert.equal(status, 200)
  const outputs = [{ name: 'y', datatype: 'FP32', shape: [1, 2], data: [1.5, 2] }]
  assert.deepEqual(json, { model_name: 'sign', model_version: '10', outputs })
})

test('a request that names a version gets that version', async () => {
  const answers = { 1: [-1.5, 2], 2: [1.5, -2], 10: [1.5, 2] }
  for (const [version, data] of Object.entries(answers)) {
    const { json } = await gateway.infer(`sign/versions/${version}`, { inputs: [x] })
    assert.deepEqual([json.model_version, json.outputs[0].data], [version, data])
  }
})

test('the configuration can say which version serves requests that name none', async () => {
  const { json } = await gateway.infer('pinned', { inputs: [x] })
  assert.deepEqual([json.model_version, json.outputs[0].data], ['1', [-1.5, 2]])
})

test('nested data means the same as flat data', async () => {
  const nested = [[[1, -2, 3]], [[4, 5, -6]]]
  const { status, json } = await gateway.infer('cube', { inputs: [tensor('x', 'INT32', [2, 1, 3], nested)] })
  assert.equal(status, 200)
  assert.deepEqual(json.outputs[0].data, [1, -2, 3, 4, 5, -6])
})

test('inputs may come in any order', async () => {
  const { json } = await gateway.infer('several', { inputs: both.toReversed() })
  assert.deepEqual(json.outputs[0].data, [1, 2, 3, 4])
  assert.deepEqual(json.outputs[2].data, [-5, -6])
})

test('the outputs come that were asked for, in the order in which they were asked for', async () => {
  const namesFor = async (outputs: object[] | undefined) => {
    const { json } = await gateway.infer('several', { inputs: both, outputs })
    return json.outputs.map((output: any) => [output.name, output.data])
  }
  const [same, turned, count] = [
    ['same', [1, 2, 3, 4]],
    ['turned', [-1, -2, -3, -4]],
    ['count', [-5, -6]],
  ]
  assert.deepEqual(await namesFor([{ name: 'count' }]), [count])
  assert.deepEqual(await namesFor([{ name: 'count' }, { name: 'same' }]), [count, same])
  assert.deepEqual(await namesFor([]), [same, turned, count])
  assert.deepEqual(await namesFor(undefined), [same, turned, count])
})

test('an id comes back as it was sent, and none comes back if none was sent', async () => {
  for (const id of ['42', '', 'ünï "quoted"\n\u0000']) {
    assert.equal((await gateway.infer('sign', { id, inputs: [x] })).json.id, id)
  }
  assert.equal('id' in (await gateway.infer('sign', { inputs: [x] })).json, false)
  assert.equal((await gateway.infer('sign', { id: 42, inputs: [x] })).status, 400)
})

test('parameters that nobody here knows are let pass, and those that would change the answer are refused', async () => {
  const send = async (parameters: unknown) => gateway.infer('sign', { parameters, inputs: [x] })
  assert.equal((await send({ colour: 'blue', weight: 1.5, on: true, sequence_id: 0 })).status, 200)
  for (const parameters of [{ sequence_id: 7 }, { sequence_start: true }, { triton_anything: 1 }, [1], 'none', null]) {
    const { status, json } = await send(parameters)
    assert.deepEqual([status, json.code], [400, 'invalid'])
    assert.match(json.error, /parameter/)
  }
})

test('paths that lead nowhere are answered 404 with the protocol’s error body', async () => {
  const nowhere = ['/', '/v1/models', '/v2/nothing', '/v2/models/', '/v2/models/sign/', '/v2/models/sign/nothing']
  const odd = ['/v2/models/sign/versions', '/v2/models/sign/versions/2/ready/now', '/v2//models', '/v2/models/%zz']
  const unknown = ['/v2/models/nobody', '/v2/models/nobody/ready', '/v2/models/sign/versions/3', '/v2/models/__proto__']
  const unknownToo = ['/v2/models/sign/versions/02/config', '/v2/models/nobody/stats', '/v2/models/sign%2Fready']
  for (const path of [...nowhere, ...odd, ...unknown, ...unknownToo]) {
    const { status, headers, json } = await gateway.get(path)
    assert.equal(status, 404, path)
    assert.equal(json.code, 'not_found')
    assert.ok(json.error.length > 0)
    assert.equal(headers.get('allow'), null)
  }
})

test('a known path with another method is answered 405 and says which method it takes', async () => {
  const send = (path: string, method: string) => fetch(gateway.url + path, { method })
  const gets = ['/v2', '/v2/health/live', '/v2/health/ready', '/v2/models', '/v2/models/stats', '/v2/models/sign']
  const ofModel = ['ready', 'config', 'stats'].map((what) => `/v2/models/sign/${what}`)
  for (const path of [...gets, ...ofModel]) {
    for (const method of ['POST', 'DELETE']) {
      const response = await send(path, method)
      assert.deepEqual(
        [response.status, response.headers.get('allow')],
        [405, 'GET, HEAD, OPTIONS'],
        `${method} ${path}`,
      )
      assert.equal(((await response.json()) as any).code, 'method_not_allowed')
    }
  }
  for (const method of ['GET', 'HEAD', 'PUT']) {
    const response = await send('/v2/models/sign/infer', method)
    assert.deepEqual([response.status, response.headers.get('allow')], [405, 'POST, OPTIONS'], method)
    await response.body?.cancel()
  }
})

test('a refusal says what to change, its code and the number of the request', async () => {
  const refused = [
    await gateway.get('/v2/nothing'),
    await gateway.get('/v2/models/nobody'),
    await gateway.infer('nobody', { inputs: [x] }),
    await gateway.infer('sign', { inputs: [] }),
  ]
  for (const { headers, json } of refused) {
    assert.deepEqual(Object.keys(json), ['error', 'code', 'request_id'])
    assert.equal(headers.get('x-request-id'), json.request_id)
    assert.match(headers.get('content-type')!, /^application\/json\b/)
  }
})

test('every inference answer has a request number of its own in its head', async () => {
  const replies = [await gateway.infer('sign', { inputs: [x] }), await gateway.infer('sign', { inputs: [x] })]
  const numbers = replies.map(({ headers }) => headers.get('x-request-id'))
  assert.ok(numbers.every((number) => number !== null && number.length > 0))
  assert.notEqual(numbers[0], numbers[1])
})

test('a name may be percent-encoded, and a query is no part of it', async () => {
  assert.equal((await gateway.get('/v2/models/s%69gn')).json.name, 'sign')
  assert.equal((await gateway.get('/v2/models/odd%2Ename%2D1')).json.name, 'odd.name-1')
  assert.equal((await gateway.get('/v2/models/sign?why=because')).json.name, 'sign')
  const reply = await post(gateway, 's%69gn/versions/%32', JSON.stringify({ inputs: [x] }))
  assert.equal(reply.json.model_version, '2')
})

test('statistics of a model count nothing that was asked of another', async () => {
  const before = await statsOf(gateway, 'cube')
  await gateway.infer('sign', { inputs: [x] })
  const after = await statsOf(gateway, 'cube')
  assert.equal(after.inference_count, before.inference_count)
  assert.equal(after.inference_stats.success.count, before.inference_stats.success.count)
})
