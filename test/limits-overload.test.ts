/** A gateway whose own event loop is late: who can wait is refused first, and is let in again when it is over. */
import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { keyOf } from './support/api-keys.ts'
import { samples, until } from './support/client.ts'
import { ask, echo, limited, rows } from './support/limited.ts'
import { Wire, wireRequest } from './support/socket.ts'

/** Holds up every turn of the event loop, which is the gateway's too, for so long; until it is told 0. */
function stalls(t: TestContext): (ms: number) => void {
  let ms = 0
  const stall = () => {
    if (ms === 0) return
    for (const endAt = performance.now() + ms; performance.now() < endAt;);
    setImmediate(stall)
  }
  t.after(() => (ms = 0))
  return (next) => {
    const isIdle = ms === 0
    ms = next
    if (isIdle) setImmediate(stall)
  }
}

const classes = ['interactive', 'standard', 'bulk'] as const

test('bulk is refused before standard before interactive, from the head, and all are let in again', async (t) => {
  const gateway = await limited(t, { 'echo.onnx': echo }, [{ name: 'few', by: [], rate: 100_000, per: 'day' }], {
    limits: { overload: { bulkMs: 40, standardMs: 150, interactiveMs: 500 } },
    models: { echo: { priority: 'interactive' } },
  })
  const as = (priority: string) => ask(gateway, 'alice', 'echo', { headers: { 'x-request-priority': priority } })
  const areIn = async (...expected: boolean[]) => {
    for (const [i, priority] of classes.entries()) {
      const { status, json, headers } = await as(priority)
      if (expected[i]) assert.equal(status, 200, priority)
      else assert.deepEqual([status, json.code, headers.get('retry-after')], [503, 'overloaded', '1'], priority)
    }
  }
  const becomes = (priority: string, status: number) =>
    until(`${priority} gets ${status}`, async () => (await as(priority)).status === status)
  await becomes('bulk', 200)
  await areIn(true, true, true)
  const stall = stalls(t)
  stall(80)
  await becomes('bulk', 503)
  await areIn(true, true, false)
  const wire = await Wire.open(t, gateway.url)
  const fields = { 'content-length': '1000', 'x-api-key': keyOf('bob'), 'x-request-priority': 'bulk' }
  wire.write(wireRequest('echo', '', fields))
  assert.equal((await wire.reply()).status, 503)
  stall(260)
  await becomes('standard', 503)
  await areIn(true, false, false)
  stall(700)
  await becomes('interactive', 503)
  stall(0)
  for (const priority of ['bulk', 'standard', 'interactive']) await becomes(priority, 200)
  await areIn(true, true, true)
  const counted = await samples(gateway)
  for (const priority of classes)
    assert.ok(counted.get(`penstock_overload_refusals_total{priority="${priority}"}`)! > 0, priority)
  assert.equal(counted.get('penstock_overload_refusals_total{priority="shadow"}'), 0)
  assert.equal(counted.get('penstock_limit_refusals_total{limit="few"}'), undefined, 'no limit has refused anything')
})

test('a priority that the body asks for does not get past what its head says', async (t) => {
  const gateway = await limited(t, { 'echo.onnx': echo }, [], {
    limits: { overload: { bulkMs: 40, standardMs: 60_000, interactiveMs: 60_000 } },
    models: { echo: { priority: 'bulk' } },
  })
  const stall = stalls(t)
  const body = rows(1).replace('{', '{"parameters":{"priority":"interactive"},')
  const urgent = () => ask(gateway, 'alice', 'echo', { body, headers: { 'x-request-priority': 'interactive' } })
  stall(80)
  await until('the route is for bulk', async () => (await urgent()).status === 503)
  stall(0)
  await until('it is over', async () => (await urgent()).status === 200)
})
