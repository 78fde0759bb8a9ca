/** How long a request may take: what the client, the route and the edge say of it, and what is refused for want of time. */
import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { edgeWith, fixed, outcomes, post, queuedRows, statsOf, until, wholeFile } from './support/client.ts'
import { startGateway, tensor, type TestGateway } from './support/gateway.ts'
import { slow } from './support/models.ts'
import { identity, onnx, type Node } from './support/onnx.ts'
import { http1Protocols, isOnNode, protocols, startEverywhere, type Protocol } from './support/protocols.ts'
import { Wire, wireRequest } from './support/socket.ts'

const echo = identity('INT64', ['n'])
const timeoutField = 'x-request-timeout-ms'
/** Two rows make a batch. One alone is answered when the window is over, unless its deadline is sooner. */
const pairs = { batching: fixed(2, 6_000) }
/** Sooner than the window, and later than all that is there to do before a request waits. */
const soonMs = 300
/** Later than any test waits. */
const lateMs = 60_000

const echoRequest = { inputs: [tensor('x', 'INT64', [1], [7])] }
const slowRequest = JSON.stringify({ inputs: [tensor('x', 'FP32', [1, 1], [1])] })

/** How a request ended. */
const endOf = ({ status, json }: { status: number; json: any }): [number, string | undefined] => [status, json.code]
const expired = [504, 'expired']
const answered = [200, undefined]

interface Said {
  readonly header?: number
  readonly timeout?: unknown
  readonly path?: string
}

/** One request of one row, with what it says about its time. */
async function ask({ url }: TestGateway, { header, timeout, path = '/v2/models/echo' }: Said = {}) {
  const parameters = timeout === undefined ? {} : { parameters: { timeout } }
  const response = await fetch(`${url}${path}/infer`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...(header !== undefined && { [timeoutField]: String(header) }) },
    body: JSON.stringify({ ...echoRequest, ...parameters }),
  })
  return { status: response.status, json: (await response.json()) as any }
}

suite('over every protocol', async () => {
  // One for each, so that nobody knows yet how slow it is. Each takes a worker for seconds, at its start too.
  const slowModel = (protocol: Protocol) => `slow-${protocol.replaceAll(' ', '-')}`
  const startOver = (over: readonly Protocol[], slowOver: readonly Protocol[]) => {
    const slows = slowOver.map((protocol) => [`${slowModel(protocol)}.onnx`, slow(150)] as const)
    const store = { 'echo.onnx': echo, ...Object.fromEntries(slows) }
    return startEverywhere(wholeFile, { store, settings: { runtime: { executors: 1 }, ...pairs }, over })
  }
  const ours = protocols.filter((protocol) => !isOnNode(protocol))
  const [onOurs, onNode] = [await startOver(ours, ours), await startOver(protocols.filter(isOnNode), ['http on node'])]
  const everywhereOf = (protocol: Protocol) => (isOnNode(protocol) ? onNode : onOurs)

  for (const protocol of [...ours, 'http on node'] as const)
    test(`a deadline that passes is told at once, though the worker is still busy, over ${protocol}`, async (t) => {
      const path = `/v2/models/${slowModel(protocol)}/infer`
      const order: string[] = []
      const send = async (name: string, headers: Record<string, string>) => {
        const got = await everywhereOf(protocol).open(t, protocol).send({ path, headers, body: slowRequest })
        order.push(name)
        return got
      }
      const running = send('running', {})
      const hurried = await send('hurried', { [timeoutField]: '100' })
      assert.deepEqual(endOf(hurried), expired)
      assert.match(String(hurried.headers['retry-after']), /^[1-9]\d*$/)
      assert.deepEqual(endOf(await running), answered)
      assert.deepEqual(order, ['hurried', 'running'])
    })

  for (const protocol of protocols) {
    test(`a time that is none is a mistake, over ${protocol}`, async (t) => {
      const client = everywhereOf(protocol).open(t, protocol)
      const bad = [
        '0',
        '0.0',
        '-1',
        'abc',
        '1e3',
        '',
        '5, 6',
        '5,',
        '1234567890123',
        '5ms',
        '0x10',
        'Infinity',
        '.5',
        '1.',
      ]
      for (const value of bad) {
        const body = JSON.stringify(echoRequest)
        const got = await client.send({ path: '/v2/models/echo/infer', headers: { [timeoutField]: value }, body })
        assert.deepEqual(endOf(got), [400, 'invalid'], `"${value}"`)
        assert.match(got.json.error, /"x-request-timeout-ms" must be/)
      }
    })
  }

  for (const protocol of http1Protocols) {
    const { served, ca } = everywhereOf(protocol)
    const { url } = served[protocol]

    test(`a mistake in the head is told before there is a body, over ${protocol}`, async (t) => {
      const wire = await Wire.open(t, url, ca)
      wire.write(wireRequest('echo', '', { expect: '100-continue', 'content-length': '100', [timeoutField]: 'soon' }))
      assert.deepEqual(endOf(await wire.reply()), [400, 'invalid'])
    })

    test(`a time that is given twice is a mistake, over ${protocol}`, async (t) => {
      const wire = await Wire.open(t, url, ca)
      const head = `POST /v2/models/echo/infer HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n`
      wire.write(`${head}${timeoutField}: 5000\r\n${timeoutField}: 5000\r\ncontent-length: 2\r\n\r\n{}`)
      assert.deepEqual(endOf(await wire.reply()), [400, 'invalid'])
    })
  }

  test('fractions of a millisecond are a time', async () => {
    assert.deepEqual(endOf(await ask(onOurs.served.http, { header: soonMs + 0.125 })), expired)
  })
})

test('nobody has more time than the edge gives', async (t) => {
  const routes = [{ name: 'patient', match: { path: '/patient' }, model: 'echo', sla: { deadlineMs: lateMs } }]
  const settings = { ...pairs, ...edgeWith({ deadlineMs: soonMs }), routes }
  const gateway = await startGateway(t, { store: { 'echo.onnx': echo }, settings })
  const said: Said[] = [{}, { header: lateMs }, { timeout: lateMs * 1_000 }, { path: '/patient' }]
  for (const each of said) assert.deepEqual(endOf(await ask(gateway, each)), expired, JSON.stringify(each))
})

test('the parameter "timeout" counts in microseconds, and 0 leaves the time as it is', async (t) => {
  const gateway = await startGateway(t, { store: { 'echo.onnx': echo }, settings: pairs })
  assert.deepEqual(endOf(await ask(gateway, { timeout: soonMs * 1_000 })), expired)
  const patient = [ask(gateway, { timeout: 0 }), ask(gateway, { timeout: lateMs * 1_000 })]
  for (const reply of await Promise.all(patient)) assert.deepEqual(endOf(reply), answered)
  for (const timeout of [-1, 1.5, '100', 'soon', true, null, [100], {}, 1e300]) {
    const { status, json } = await ask(gateway, { timeout })
    assert.deepEqual([status, json.code], [400, 'invalid'], JSON.stringify(timeout))
    assert.match(json.error, /"timeout" must be a whole number of microseconds/)
  }
})

test("a route's own deadline holds, on routes of the configuration and on a model's own", async (t) => {
  const settings = {
    ...pairs,
    routes: [
      { name: 'tight', match: { path: '/tight' }, model: 'echo', sla: { deadlineMs: soonMs } },
      { name: 'loose', match: { path: '/loose' }, model: 'echo', sla: { deadlineMs: lateMs } },
    ],
    models: { strict: { sla: { deadlineMs: soonMs } } },
  }
  const gateway = await startGateway(t, { store: { 'echo.onnx': echo, 'strict.onnx': echo }, settings })
  for (const path of ['/tight', '/tight/versions/1', '/v2/models/strict', '/v2/models/strict/versions/1'])
    assert.deepEqual(endOf(await ask(gateway, { path })), expired, path)
  const others = [ask(gateway, { path: '/loose' }), ask(gateway)]
  for (const reply of await Promise.all(others)) assert.deepEqual(endOf(reply), answered)
})

test("a route's own deadline holds for the body, too", async (t) => {
  const gateway = await startGateway(t, {
    store: { 'strict.onnx': echo },
    settings: { models: { strict: { sla: { deadlineMs: soonMs } } } },
  })
  const wire = await Wire.open(t, gateway.url)
  wire.write(wireRequest('strict', JSON.stringify(echoRequest)).slice(0, -5))
  assert.deepEqual(endOf(await wire.reply()), expired)
})

test('the tightest of all deadlines holds, whoever asks for it', async (t) => {
  const settings = {
    ...pairs,
    routes: [
      { name: 'tight', match: { path: '/tight' }, model: 'echo', sla: { deadlineMs: soonMs } },
      { name: 'loose', match: { path: '/loose' }, model: 'echo', sla: { deadlineMs: lateMs } },
    ],
  }
  const gateway = await startGateway(t, { store: { 'echo.onnx': echo }, settings })
  const tight: Said[] = [
    { header: soonMs, timeout: lateMs * 1_000, path: '/loose' },
    { header: lateMs, timeout: soonMs * 1_000, path: '/loose' },
    { header: lateMs, timeout: lateMs * 1_000, path: '/tight' },
  ]
  for (const said of tight) assert.deepEqual(endOf(await ask(gateway, said)), expired, JSON.stringify(said))
  const loose: Said = { header: lateMs, timeout: lateMs * 1_000, path: '/loose' }
  const replies = await Promise.all([ask(gateway, loose), ask(gateway, loose)])
  for (const reply of replies) assert.deepEqual(endOf(reply), answered)
})

/** Requests that are sent and waited for one after another, so that the gateway learns how long a run takes. */
/** So often that what is foretold is believed. */
const taught = 12

async function teach(gateway: TestGateway, model: string, body: string): Promise<void> {
  for (let run = 0; run < taught; run++) assert.equal((await gateway.infer(model, body)).status, 200)
}

/** How long a run took so far, milliseconds. */
async function usualMs(gateway: TestGateway, model: string): Promise<number> {
  const { compute_infer: ran } = (await statsOf(gateway, model)).inference_stats
  return ran.ns / ran.count / 1e6
}

/** Says that a body will come, and waits to be told that it may. */
function knock(wire: Wire, model: string, timeoutMs: number) {
  const fields = { expect: '100-continue', 'content-length': '100', [timeoutField]: timeoutMs.toFixed(3) }
  wire.write(wireRequest(model, '', fields))
  return wire.reply()
}

suite('of a model whose runs have been seen', () => {
  const one = { runtime: { executors: 1 } }

  test('what could not be answered in time is refused from its head', async (t) => {
    const gateway = await startGateway(t, { store: { 'slow.onnx': slow(20) }, settings: one })
    await teach(gateway, 'slow', slowRequest)
    const waiting = Array.from({ length: 8 }, () => gateway.infer('slow', slowRequest))
    await until('a worker is busy for long', async () => (await queuedRows(gateway, 'slow')) >= 5)
    // One run would end before this; the others that go before it would not.
    const shortMs = 2 * (await usualMs(gateway, 'slow'))
    for (const ms of [1, shortMs]) {
      const { status, headers, json } = await knock(await Wire.open(t, gateway.url), 'slow', ms)
      assert.deepEqual([status, json.code], [503, 'overloaded'])
      assert.match(json.error, /deadline/)
      assert.match(headers.get('retry-after')!, /^[1-9]\d*$/)
    }
    assert.equal(await outcomes(gateway, 'slow', 'overloaded'), 2)
    const patient = await post(gateway, 'slow', slowRequest, { [timeoutField]: String(lateMs) })
    assert.deepEqual(endOf(patient), answered)
    for (const { status } of await Promise.all(waiting)) assert.equal(status, 200)
    assert.equal((await statsOf(gateway, 'slow')).execution_count, taught + 8 + 1)
  })

  test('what only its body says could not be in time is refused then, and not run', async (t) => {
    const gateway = await startGateway(t, { store: { 'slow.onnx': slow(20) }, settings: one })
    await teach(gateway, 'slow', slowRequest)
    const timeout = Math.round(((await usualMs(gateway, 'slow')) / 2) * 1_000)
    const request = { ...JSON.parse(slowRequest), parameters: { timeout } }
    const { status } = await post(gateway, 'slow', JSON.stringify(request))
    // If this process was held up, the time may be over before that is asked.
    assert.ok(status === 503 || status === 504, String(status))
    assert.equal((await post(gateway, 'slow', slowRequest)).status, 200)
    assert.equal((await statsOf(gateway, 'slow')).execution_count, taught + 1)
  })

  test('a time in which nothing but refusals came does not close the door on those that can be served', async (t) => {
    const gateway = await startGateway(t, { store: { 'slow.onnx': slow(20) }, settings: one })
    await teach(gateway, 'slow', slowRequest)
    const wires = await Promise.all(Array.from({ length: 40 }, () => Wire.open(t, gateway.url)))
    const refused = await Promise.all(wires.map((wire) => knock(wire, 'slow', 1)))
    for (const { status } of refused) assert.equal(status, 503)
    for (const headers of [{ [timeoutField]: '20000' }, {}])
      assert.deepEqual(endOf(await post(gateway, 'slow', slowRequest, headers)), answered)
  })

  test('a model that has become fast is found out, though by what was learnt nothing can be in time', async (t) => {
    const gateway = await startGateway(t, { store: { 'sized.onnx': sized(20) }, settings: one })
    const request = (size: number) => JSON.stringify({ inputs: [tensor('x', 'INT64', [2], [size, size])] })
    await teach(gateway, 'sized', request(900))
    const shortMs = (await usualMs(gateway, 'sized')) / 2
    const hurried = { [timeoutField]: shortMs.toFixed(3) }
    assert.equal((await post(gateway, 'sized', request(1), hurried)).status, 503)
    // One is let in now and then to see how long it takes; several in a row only if that was believed.
    await until('three in a row are let in', async () => {
      const statuses: number[] = []
      for (let i = 0; i < 3; i++) statuses.push((await post(gateway, 'sized', request(1), hurried)).status)
      return statuses.every((status) => status === 200)
    })
  })
})

/** Takes as long as its input says: so many rows and columns have the matrices that it multiplies. */
function sized(steps: number): Buffer {
  const products = Array.from({ length: steps }, (_, i): Node => {
    return { op: 'MatMul', inputs: [`m${i}`, 'm0'], outputs: [`m${i + 1}`] }
  })
  return onnx({
    inputs: [{ name: 'x', type: 'INT64', shape: [2] }],
    outputs: [{ name: 'y', type: 'FP32', shape: [1, 1] }],
    nodes: [
      { op: 'ConstantOfShape', inputs: ['x'], outputs: ['m0'] },
      ...products,
      { op: 'ReduceMax', inputs: [`m${steps}`], outputs: ['y'] },
    ],
  })
}
