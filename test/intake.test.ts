/** More requests than the event loop can take: some connections are not read from for a while, and nobody is forgotten. */
import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { edgeWith, samples, until } from './support/client.ts'
import { tensor, type TestGateway } from './support/gateway.ts'
import { identity } from './support/onnx.ts'
import { overHttp1, startEverywhere, type Http1 } from './support/protocols.ts'
import { Wire, wireRequest } from './support/socket.ts'

const store = { 'echo.onnx': identity('INT64', ['n']) }

async function parked(gateway: TestGateway): Promise<number> {
  return (await samples(gateway)).get('penstock_connections_parked')!
}

interface Crowd {
  readonly gateway: TestGateway
  readonly wires: readonly Wire[]
}

/** A gateway, with so many connections to it. */
async function crowd(t: TestContext, protocol: Http1, count: number, edge: object): Promise<Crowd> {
  const { served, ca } = await startEverywhere(t, { store, settings: edgeWith(edge), over: [protocol] })
  const gateway = served[protocol]
  return { gateway, wires: await Promise.all(Array.from({ length: count }, () => Wire.open(t, gateway.url, ca))) }
}

/** Without TLS: a crowd takes long to shake hands. */
function onBothFronts(what: string, run: (t: TestContext, protocol: Http1) => Promise<void>): void {
  for (const protocol of ['http', 'http on node'] as const) test(`${what}, over ${protocol}`, (t) => run(t, protocol))
}

const hurried = { connections: { maxTurnMs: 1 } }

/** One request on each connection at the same time; each has to get its own number back. */
async function askAll(wires: readonly Wire[], round: number): Promise<void> {
  for (const [i, wire] of wires.entries()) {
    wire.write(wireRequest('echo', JSON.stringify({ inputs: [tensor('x', 'INT64', [1], [i + 1_000 * round])] })))
  }
  const replies = await Promise.all(wires.map((wire) => wire.reply()))
  for (const [i, { status, json }] of replies.entries()) {
    assert.deepEqual([status, json.outputs?.[0].data], [200, [i + 1_000 * round]])
  }
}

overHttp1('connections that are left alone are read again, and lose nothing', async (t, protocol) => {
  const { gateway, wires } = await crowd(t, protocol, 250, hurried)
  let seen = 0
  for (let round = 0; round < 8; round++) {
    await askAll(wires, round)
    seen = Math.max(seen, await parked(gateway))
  }
  assert.ok(seen > 0, 'nobody was ever left alone')
  await until('all are read again', async () => (await parked(gateway)) === 0)
  await askAll(wires, 9)
})

onBothFronts('a client that hangs up while it is left alone is forgotten', async (t, protocol) => {
  const { gateway, wires } = await crowd(t, protocol, 250, hurried)
  for (let round = 0; round < 4; round++) await askAll(wires, round)
  for (const wire of wires) wire.hangUp()
  const connections = async () => (await samples(gateway)).get('penstock_connections{protocol="http/1.1"}')
  await until('all are gone', async () => (await connections()) === 0 && (await parked(gateway)) === 0)
})

onBothFronts('a gateway that shuts down reads from all', async (t, protocol) => {
  const { gateway, wires } = await crowd(t, protocol, 250, hurried)
  for (let round = 0; round < 4; round++) await askAll(wires, round)
  await gateway.stop()
  assert.equal((await Promise.all(wires.map((wire) => wire.gone))).length, 250)
})

onBothFronts('with less to do than a turn may hold nobody is left alone', async (t, protocol) => {
  const { gateway, wires } = await crowd(t, protocol, 10, {})
  for (let round = 0; round < 20; round++) {
    await askAll(wires, round)
    assert.equal(await parked(gateway), 0)
  }
})
