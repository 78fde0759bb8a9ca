/** A request on which the model fails, in the company of others: who gets an answer, who pays for the search, and how much. */
import assert from 'node:assert/strict'
import { suite, test, type TestContext } from 'node:test'
import { drawFrom } from './support/draw.ts'
import { edgeWith, fixed, queuedRows, samples, statsOf, until } from './support/client.ts'
import { startGateway, tensor, type Reply, type TestGateway } from './support/gateway.ts'
import { onnx } from './support/onnx.ts'
import { Wire, wireRequest, type WireReply } from './support/socket.ts'

/** Looks every number up in a table of sixteen; the run fails on a number beyond it. */
const lookup = onnx({
  inputs: [{ name: 'x', type: 'INT64', shape: ['n', 'len'] }],
  outputs: [{ name: 'y', type: 'INT64', shape: ['n', 'len'] }],
  nodes: [{ op: 'Gather', inputs: ['table', 'x'], outputs: ['y'] }],
  constants: [{ name: 'table', type: 'INT64', shape: [16], data: Array.from({ length: 16 }, (_, i) => valueOf(i)) }],
})
const store = { 'm.onnx': lookup }
const poison = 99

function valueOf(x: number): number {
  return 1_000_003 * (x + 1) ** 5
}

/** What still waits at the end of a test never runs. */
const quickEnd = edgeWith({ drain: { idleMs: 0, timeoutMs: 20 } })
const full = (maxRows: number) => ({ ...quickEnd, batching: fixed(maxRows, 30_000) })
const good = '127.0.0.1'
const bad = '127.0.0.2'

/** One row of one number, from a client with an address of its own. */
async function send(t: TestContext, { url }: TestGateway, from: string, x: number): Promise<WireReply> {
  const wire = await Wire.open(t, url, '', from)
  wire.write(wireRequest('m', JSON.stringify({ inputs: [tensor('x', 'INT64', [1, 1], [x])] })))
  return wire.reply()
}

/** Several requests, each from its address, that are in the queue in this order. */
async function sendAll(t: TestContext, gateway: TestGateway, sent: readonly (readonly [from: string, x: number])[]) {
  const replies: Promise<WireReply>[] = []
  const before = await queuedRows(gateway, 'm')
  for (const [i, [from, x]] of sent.entries()) {
    replies.push(send(t, gateway, from, x))
    if (i + 1 < sent.length) await queued(gateway, before + i + 1)
  }
  return Promise.all(replies)
}

async function queued(gateway: TestGateway, rows: number): Promise<void> {
  await until(`${rows} rows are queued`, async () => (await queuedRows(gateway, 'm')) === rows)
}

/** [rows, runs] of every size of run that ended well. */
async function runsOf(gateway: TestGateway): Promise<[number, number][]> {
  const stats = await statsOf(gateway, 'm')
  return stats.batch_stats.map((each: any) => [each.batch_size, each.compute_infer.count])
}

async function extraRuns(gateway: TestGateway): Promise<number> {
  return (await samples(gateway)).get('penstock_extra_runs_total{model="m",version="1"}')!
}

/** Each has its own answer, or is told that the model failed. */
function check(replies: readonly (WireReply | Reply)[], xs: readonly number[]): void {
  for (const [i, { status, json }] of replies.entries()) {
    const said = `request ${i}: ${JSON.stringify(json)}`
    if (xs[i] === poison) assert.deepEqual([status, json.code], [500, 'model_failed'], said)
    else assert.deepEqual([status, json.outputs?.[0].data], [200, [valueOf(xs[i]!)]], said)
  }
}

test('the neighbours of a poisoned request get their answers, and it is sought with two runs a halving', async (t) => {
  for (let place = 0; place < 8; place++) {
    const gateway = await startGateway(t, { store, settings: full(8) })
    const xs = Array.from({ length: 8 }, (_, i) => (i === place ? poison : i))
    check(
      await sendAll(
        t,
        gateway,
        xs.map((x) => [x === poison ? bad : good, x] as const),
      ),
      xs,
    )
    assert.equal(await extraRuns(gateway), 6)
    // The other half, the other quarter and the other eighth.
    assert.deepEqual(
      await runsOf(gateway),
      [
        [1, 1],
        [2, 1],
        [4, 1],
      ].toSorted(([a = 0], [b = 0]) => a - b),
    )
  }
})

/** A gateway that has just found out who sends poison. */
async function afterPoison(t: TestContext): Promise<TestGateway> {
  const gateway = await startGateway(t, { store, settings: full(4) })
  const xs = [1, 2, poison, 3]
  check(
    await sendAll(
      t,
      gateway,
      xs.map((x) => [x === poison ? bad : good, x] as const),
    ),
    xs,
  )
  assert.deepEqual(await runsOf(gateway), [
    [1, 1],
    [2, 1],
  ])
  return gateway
}

test('whoever sent poison shares no run with others for a while, and they none with it', async (t) => {
  const gateway = await afterPoison(t)
  const before = await extraRuns(gateway)
  const suspect = send(t, gateway, bad, poison)
  await queued(gateway, 1)
  const others = [4, 5, 6].map((x) => send(t, gateway, good, x))
  // Four rows wait, and are no batch.
  await queued(gateway, 4)
  const last = send(t, gateway, good, 7)
  check(await Promise.all([...others, last]), [4, 5, 6, 7])
  assert.equal(await queuedRows(gateway, 'm'), 1)
  const rest = [8, 9, 10].map((x) => send(t, gateway, bad, x))
  check(await Promise.all([suspect, ...rest]), [poison, 8, 9, 10])
  // The others had one run, and the search was among the suspect's own.
  assert.deepEqual(await runsOf(gateway), [
    [1, 2],
    [2, 2],
    [4, 1],
  ])
  assert.equal((await extraRuns(gateway)) - before, 4)
})

test('whose requests merely shared the failed run goes on sharing', async (t) => {
  const gateway = await afterPoison(t)
  const third = '127.0.0.3'
  check(
    await sendAll(t, gateway, [
      [good, 1],
      [third, 2],
      [good, 3],
      [third, 4],
    ]),
    [1, 2, 3, 4],
  )
  assert.deepEqual((await runsOf(gateway)).at(-1), [4, 1])
  assert.equal(await extraRuns(gateway), 4)
})

test('two who sent poison do not share runs with each other either', async (t) => {
  const gateway = await afterPoison(t)
  const third = '127.0.0.3'
  check(
    await sendAll(t, gateway, [
      [good, 1],
      [good, 2],
      [third, poison],
      [good, 3],
    ]),
    [1, 2, poison, 3],
  )
  const suspects = [bad, bad, third, third].map((from, i) => send(t, gateway, from, i))
  await queued(gateway, 4)
  check(await Promise.all([4, 5, 6, 7].map((x) => send(t, gateway, good, x))), [4, 5, 6, 7])
  assert.equal(await queuedRows(gateway, 'm'), 4)
  const rest = [bad, bad, third, third].map((from, i) => send(t, gateway, from, 4 + i))
  check(await Promise.all([...suspects, ...rest]), [0, 1, 2, 3, 4, 5, 6, 7])
  assert.deepEqual((await runsOf(gateway)).at(-1), [4, 3])
})

test('two poisoned requests in any places are found, and all the others answered', async (t) => {
  const draw = drawFrom(3)
  const gateway = await startGateway(t, { store, settings: full(16) })
  for (let round = 0; round < 20; round++) {
    const before = await extraRuns(gateway)
    const first = draw(16)
    const second = (first + 1 + draw(15)) % 16
    const xs = Array.from({ length: 16 }, (_, i) => (i === first || i === second ? poison : i))
    // From another address in every round, so that nobody is under suspicion yet.
    const from = `127.0.1.${1 + round}`
    check(
      await sendAll(
        t,
        gateway,
        xs.map((x) => [from, x] as const),
      ),
      xs,
    )
    const extra = (await extraRuns(gateway)) - before
    assert.ok(extra <= 16, `${extra} runs in addition`)
  }
})

for (const rows of [8, 64]) {
  test(`the search in a batch of ${rows} ends, however many of its requests are poisoned`, async (t) => {
    const bound = 4 * Math.ceil(Math.log2(rows))
    const gateway = await startGateway(t, { store, settings: full(rows) })
    const xs = Array.from({ length: rows }, () => poison)
    check(await Promise.all(xs.map((x) => send(t, gateway, bad, x))), xs)
    const extra = await extraRuns(gateway)
    assert.ok(extra >= 2 && extra <= bound, `${extra} runs in addition`)
    // It serves on.
    const after = Array.from({ length: rows }, (_, i) => i % 16)
    check(await Promise.all(after.map((x) => send(t, gateway, good, x))), after)
    assert.equal(await extraRuns(gateway), extra)
  })
}

test('a flood of poison does not go on hurting those who share its runs', async (t) => {
  const gateway = await startGateway(t, { store, settings: { ...quickEnd, batching: fixed(64, 500) } })
  // In turn, so that no part is without it. The first time the search may be given up.
  const mixed = Array.from({ length: 64 }, (_, i) => [i % 2 ? bad : good, i % 2 ? poison : i % 16] as const)
  await sendAll(t, gateway, mixed)
  const again = await Promise.all(mixed.map(([from, x]) => send(t, gateway, from, x)))
  check(
    again,
    mixed.map(([, x]) => x),
  )
})

type Sent = readonly [model: string, inputs: readonly object[]]

/** Answers to requests that come from several callers at once, each saying something else about its haste. */
async function inCompany(
  t: TestContext,
  gateway: TestGateway,
  requests: readonly Sent[],
  draw: (below: number) => number,
) {
  const replies: WireReply[] = []
  const left = requests.map((_, i) => i)
  const client = async (caller: number) => {
    const wire = await Wire.open(t, gateway.url, '', `127.0.0.${1 + caller}`)
    while (left.length > 0) {
      const [next = 0] = left.splice(draw(left.length), 1)
      const [model, inputs] = requests[next]!
      const priority = ['interactive', 'standard', 'bulk'][draw(3)]!
      const fields = {
        'x-request-priority': priority,
        ...(draw(2) && { 'x-request-timeout-ms': `${15_000 + draw(15_000)}` }),
      }
      wire.write(wireRequest(model, JSON.stringify({ inputs }), fields))
      replies[next] = await wire.reply()
    }
  }
  await Promise.all(Array.from({ length: 30 }, (_, i) => client(i % 5)))
  return replies
}

const listOf = (length: number, make: () => number) => Array.from({ length }, make)
const mostRows = 9

suite('an answer is the same in any company', () => {
  const runners: [string, object][] = [
    ['adaptive', { batching: { policy: { kind: 'adaptive', maxRows: 12 } } }],
    ['fixed', { batching: fixed(12, 2) }],
  ]
  for (const [kind, settings] of runners) {
    test(`to the bit for whole numbers, with the policy ${kind}`, async (t) => {
      const draw = drawFrom(17)
      const gateway = await startGateway(t, { store, settings })
      const shapes = listOf(500, () => 1 + draw(mostRows)).map((rows) => [rows, 1 + draw(3)] as const)
      const data = shapes.map(([rows, length]) => listOf(rows * length, () => draw(16)))
      const requests = shapes.map((shape, i): Sent => ['m', [tensor('x', 'INT64', shape, data[i]!)]])
      const replies = await inCompany(t, gateway, requests, draw)
      for (const [i, { status, json }] of replies.entries()) {
        assert.equal(status, 200, JSON.stringify(json))
        assert.deepEqual(json.outputs[0].data, data[i]!.map(valueOf))
        assert.deepEqual(json.outputs[0].shape, shapes[i])
      }
      const { inference_count: rows, execution_count: runs } = await statsOf(gateway, 'm')
      assert.equal(
        rows,
        shapes.reduce((sum, [own]) => sum + own, 0),
      )
      assert.ok(runs < requests.length, `${runs} runs of ${requests.length} requests`)
    })

    test(`to six places for the trained models, with the policy ${kind}`, async (t) => {
      const draw = drawFrom(23)
      const [alone, together] = [await startGateway(t), await startGateway(t, { settings })]
      const requests = listOf(70, () => 1 + draw(mostRows)).flatMap((rows): Sent[] => {
        const length = 16 * (1 + draw(3))
        const ids = listOf(rows * length, () => 1 + draw(256))
        const mask = listOf(rows * length, () => draw(2))
        const pixels = listOf(rows * 784, () => draw(256))
        const spam = [
          tensor('input_ids', 'INT64', [rows, length], ids),
          tensor('attention_mask', 'INT64', [rows, length], mask),
        ]
        return [
          ['spam', spam],
          [`digits/versions/${1 + draw(2)}`, [tensor('image', 'UINT8', [rows, 1, 28, 28], pixels)]],
        ]
      })
      const replies = await inCompany(t, together, requests, draw)
      for (const [i, [model, inputs]] of requests.entries()) {
        const own = await alone.infer(model, { inputs })
        assert.deepEqual([own.status, replies[i]!.status], [200, 200], JSON.stringify(replies[i]!.json))
        assert.deepEqual(replies[i]!.json.outputs[0].shape, own.json.outputs[0].shape)
        const beside = replies[i]!.json.outputs[0].data as number[]
        for (const [at, value] of own.json.outputs[0].data.entries())
          assert.ok(
            Math.abs(value - beside[at]!) <= 1e-6,
            `${model} ${at}: ${value} alone, ${beside[at]} beside others`,
          )
      }
    })
  }
})
