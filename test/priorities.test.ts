/** Whose requests go first: what clients and routes may say about it, and in which order the answers come. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test, type TestContext } from 'node:test'
import { edgeWith, fixed, post, queuedRows, until } from './support/client.ts'
import { startGateway, tensor, type TestGateway } from './support/gateway.ts'
import { slow } from './support/models.ts'
import { identity } from './support/onnx.ts'
import { openClient, protocols, startEverywhere } from './support/protocols.ts'
import { Wire, wireRequest } from './support/socket.ts'

const echo = identity('INT64', ['n'])
const priorityField = 'x-request-priority'
/** A batch is full with five rows, and runs then only. */
const fives = { batching: fixed(5, 30_000) }
/** For requests to other models than the one whose batches are counted out. */
const atOnce = { batching: fixed(1, 0) }

interface Asked {
  readonly header?: string
  readonly priority?: unknown
  readonly rows?: number
  readonly path?: string
}

/** Asks for the echo of some rows. Whether and when there was an answer is in what is returned. */
function ask({ url }: TestGateway, { header, priority, rows = 1, path = '/v2/models/echo' }: Asked) {
  const parameters = priority === undefined ? {} : { parameters: { priority } }
  const data = Array.from({ length: rows }, (_, i) => i)
  const asked = { status: 0, json: undefined as any, over: Promise.resolve() }
  const send = async () => {
    const response = await fetch(`${url}${path}/infer`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...(header !== undefined && { [priorityField]: header }) },
      body: JSON.stringify({ inputs: [tensor('x', 'INT64', [rows], data)], ...parameters }),
    })
    asked.json = await response.json()
    asked.status = response.status
  }
  asked.over = send()
  return asked
}

async function queued(gateway: TestGateway, rows: number): Promise<void> {
  await until(`${rows} rows are queued`, async () => (await queuedRows(gateway, 'echo')) === rows)
}

function startFives(t: TestContext, routes: readonly object[] = []): Promise<TestGateway> {
  return startGateway(t, { store: { 'echo.onnx': echo }, settings: { ...fives, routes, ...edgeWith({}) } })
}

/** Four requests wait; then comes one that fills a batch by itself. Whether that one is run, and not those. */
async function goesAhead(t: TestContext, waiting: Asked, coming: Asked): Promise<boolean> {
  const routes = ['interactive', 'bulk', 'shadow'].map((priority) => {
    return { name: priority, match: { path: `/${priority}` }, model: 'echo', priority }
  })
  const gateway = await startFives(t, routes)
  const before = Array.from({ length: 4 }, () => ask(gateway, waiting))
  await queued(gateway, 4)
  const last = ask(gateway, { ...coming, rows: 5 })
  await Promise.race([last.over, ...before.map(({ over }) => over)])
  const isFirst = last.status === 200
  if (isFirst) assert.deepEqual(before.map(({ status }) => status).join(), '0,0,0,0')
  // What is left runs once there are enough.
  const rest = ask(gateway, { ...waiting, rows: 5 })
  await Promise.all([last, rest, ...before].map(({ over }) => over))
  return isFirst
}

/** In each line the later request goes before those that wait. */
const ahead: [waiting: Asked, coming: Asked][] = [
  [{ header: 'bulk' }, {}],
  [{}, { header: 'interactive', path: '/interactive' }],
  [{ header: 'bulk' }, { header: 'standard' }],
  [{ priority: 'bulk' }, { priority: 'standard' }],
  [{ priority: 3 }, { priority: 2 }],
  [{ priority: 99 }, { priority: 2 }],
  [{ priority: 3 }, { priority: 0 }],
  [{ path: '/bulk' }, {}],
  [{}, { path: '/interactive' }],
  [
    { path: '/interactive', priority: 2 },
    { path: '/interactive', priority: 1 },
  ],
  [{ path: '/interactive', header: 'standard' }, { path: '/interactive' }],
  [{ path: '/bulk', priority: 0 }, { priority: 0 }],
  [{ header: 'standard', priority: 'bulk' }, { header: 'standard' }],
  [{ header: 'bulk', priority: 'standard' }, {}],
]

/** And here it does not. */
const behind: [waiting: Asked, coming: Asked][] = [
  [{}, {}],
  [{}, { header: 'interactive' }],
  [{}, { priority: 1 }],
  [{}, { priority: 'interactive' }],
  [{}, { path: '/bulk', header: 'interactive' }],
  [{}, { path: '/bulk', priority: 1 }],
  [{}, { path: '/interactive', header: 'standard' }],
  [{ path: '/bulk' }, { header: 'standard', priority: 3 }],
]

for (const [pairs, isAhead] of [
  [ahead, true],
  [behind, false],
] as const) {
  test(`a later request goes ${isAhead ? 'before' : 'behind'} those that wait, by what is said of it`, async (t) => {
    for (const [waiting, coming] of pairs) {
      const said = `${JSON.stringify(coming)} and those that wait ${JSON.stringify(waiting)}`
      assert.equal(await goesAhead(t, waiting, coming), isAhead, said)
    }
  })
}

test('a priority that clients cannot have is a mistake, over every protocol', async (t) => {
  const everywhere = await startEverywhere(t, { store: { 'echo.onnx': echo }, settings: atOnce })
  const body = JSON.stringify({ inputs: [tensor('x', 'INT64', [1], [1])] })
  for (const protocol of protocols) {
    const client = everywhere.open(t, protocol)
    const send = (value: string) =>
      client.send({ path: '/v2/models/echo/infer', headers: { [priorityField]: value }, body })
    for (const good of ['interactive', 'standard', 'bulk']) assert.equal((await send(good)).status, 200, good)
    for (const bad of ['shadow', 'urgent', 'Bulk', '1', '', 'bulk, bulk', 'constructor']) {
      const { status, json } = await send(bad)
      assert.deepEqual([status, json.code], [400, 'invalid'], `"${bad}"`)
      assert.match(json.error, /"x-request-priority" must be one of interactive, standard, bulk$/)
    }
  }
})

test('a mistaken priority is told from the head alone', async (t) => {
  const gateway = await startFives(t)
  const wire = await Wire.open(t, gateway.url)
  wire.write(wireRequest('echo', '', { expect: '100-continue', 'content-length': '100', [priorityField]: 'shadow' }))
  assert.equal((await wire.reply()).status, 400)
})

test('the parameter "priority" is a level or a name', async (t) => {
  const gateway = await startGateway(t, { store: { 'echo.onnx': echo }, settings: atOnce })
  for (const priority of [0, 1, 2, 3, 4, 1_000, 'interactive', 'standard', 'bulk']) {
    const asked = ask(gateway, { priority })
    await asked.over
    assert.equal(asked.status, 200, JSON.stringify(priority))
  }
  for (const priority of [-1, 1.5, 'shadow', 'urgent', '1', '', true, null, [], {}]) {
    const asked = ask(gateway, { priority })
    await asked.over
    assert.deepEqual([asked.status, asked.json.code], [400, 'invalid'], JSON.stringify(priority))
    assert.match(asked.json.error, /"priority"/)
  }
})

interface Waiting {
  readonly model: Buffer
  /** Of each request. */
  readonly shape: readonly [number]
}

/** The order in which requests of these classes are answered that all wait for the one worker, sent in the given order. */
async function orderOf(t: TestContext, { model, shape }: Waiting, sent: readonly string[]): Promise<string[]> {
  const models = { echo: { batching: fixed(1, 0), priority: 'interactive' } }
  const settings = { ...edgeWith({ http2: { cleartext: true } }), runtime: { executors: 1 }, models }
  const store = { 'echo.onnx': model, 'slow.onnx': slow(200) }
  const gateway = await startGateway(t, { store, settings })
  const busy = post(gateway, 'slow', JSON.stringify({ inputs: [tensor('x', 'FP32', [1, 1], [1])] }))
  // One connection, because answers on different ones may overtake each other.
  const { session } = openClient(t, 'h2c', { url: gateway.url, ca: '' })
  const order: string[] = []
  const send = async (name: string) => {
    const own = { ':method': 'POST', ':path': '/v2/models/echo/infer', 'content-type': 'application/json' }
    const stream = session!.request({ ...own, [priorityField]: name })
    stream.end(JSON.stringify({ inputs: [tensor('x', 'INT64', shape, [1, 2].slice(0, shape[0]))] }))
    stream.resume()
    const [head] = await once(stream, 'response')
    assert.equal(head[':status'], 200)
    order.push(name)
  }
  // The worker may take one more before the rest is sorted: let that be an urgent one.
  const all = ['interactive', ...sent].map(send)
  await until('all wait', async () => (await queuedRows(gateway, 'echo')) >= sent.length)
  await Promise.all([busy, ...all])
  return order.slice(1)
}

const pairOf = identity('INT64', [2])
const rowsOf = identity('INT64', ['n'])
const several = (count: number, name: string) => Array.from({ length: count }, () => name)

for (const [kind, model, shape] of [
  ['whose requests fit a run', rowsOf, [1]],
  ['whose requests are larger than a run', rowsOf, [2]],
  ['that shares no runs', pairOf, [2]],
] as const) {
  test(`of a model ${kind} the urgent requests are answered first, though they came last`, async (t) => {
    const sent = [...several(5, 'bulk'), ...several(5, 'standard'), ...several(5, 'interactive')]
    assert.deepEqual(await orderOf(t, { model, shape }, sent), sent.toReversed())
  })

  test(`of a model ${kind} the least urgent have a small part of the runs, whatever else there is`, async (t) => {
    const order = await orderOf(t, { model, shape }, [...several(3, 'bulk'), ...several(80, 'standard')])
    const places = order.flatMap((name, place) => (name === 'bulk' ? [place] : []))
    // A twentieth: one behind every twenty of the others, or one more or less, by what went before and what a sum of
    // twentieths is.
    for (const [i, place] of places.entries()) {
      const others = place - (places[i - 1] ?? -1) - 1
      assert.ok(others >= 19 && others <= 21, `bulk is at ${places.join()}`)
    }
  })
}

test('a batch of other requests has room for one that has waited for its part', async (t) => {
  const gateway = await startFives(t)
  const patient = ask(gateway, { header: 'bulk' })
  await queued(gateway, 1)
  let batches = 0
  // Each of these fills a batch; if all of them go ahead, the one that waits gets nothing.
  for (; patient.status === 0 && batches < 12; batches++) {
    const other = ask(gateway, { rows: 5 })
    await Promise.race([other.over, patient.over])
    if (patient.status === 0) assert.equal(other.status, 200)
  }
  assert.equal(patient.status, 200)
  assert.ok(batches >= 4 && batches <= 6, `it was run with batch ${batches}`)
})
