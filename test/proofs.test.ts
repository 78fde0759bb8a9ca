/** Several proofs of who calls in one request, and callers without any: at the socket, behind a proxy of a mesh. */
import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { keyOf, keysFor } from './support/api-keys.ts'
import { startGateway, tensor, type TestGateway } from './support/gateway.ts'
import { identity } from './support/onnx.ts'
import { Wire, wireRequest } from './support/socket.ts'

const store = { 'echo.onnx': identity('FP32', ['n', 1]) }
const web = 'spiffe://cluster.local/ns/web/sa/page'
const xfcc = { 'x-forwarded-client-cert': `By=spiffe://cluster.local/ns/a/sa/b;Hash=${'0'.repeat(64)};URI=${web}` }
const key = { 'x-api-key': keyOf('alice') }
const wrongKey = { 'x-api-key': 'alice.wrong' }
const brokenXfcc = { 'x-forwarded-client-cert': 'URI="' }
const everything = ['infer', 'metadata']

async function guarded(t: TestContext, access: readonly object[], more: object = {}): Promise<TestGateway> {
  const auth = { apiKeys: await keysFor([{ id: 'alice', tenant: 'acme' }]), mesh: {}, access }
  return startGateway(t, { store, settings: { auth, mesh: { mode: 'sidecar' }, ...more } })
}

async function status({ url }: TestGateway, headers: Record<string, string>): Promise<number> {
  return (await fetch(`${url}/v2/models/echo`, { headers })).status
}

test('a person and the workload it comes through are one caller with what both have proved', async (t) => {
  const both = await guarded(t, [{ who: { callers: ['key:alice'], spiffe: [web] }, operations: everything }])
  assert.equal(await status(both, { ...key, ...xfcc }), 200)
  assert.equal(await status(both, { ...key, ...xfcc }), 200)
  assert.equal(await status(both, key), 404, 'the next request does not inherit the workload')
  assert.equal(await status(both, xfcc), 404)
  const other = { 'x-forwarded-client-cert': xfcc['x-forwarded-client-cert'].replace('/page', '/other') }
  assert.equal(await status(both, { ...key, ...other }), 404)
})

test('a workload alone is a caller, and who shows nothing is none', async (t) => {
  const gateway = await guarded(t, [{ who: { callers: [`mesh:${web}`] }, operations: everything }])
  assert.equal(await status(gateway, xfcc), 200)
  assert.equal(await status(gateway, key), 404)
  assert.equal(await status(gateway, {}), 401)
})

test('a proof that is not good is never made up for by another', async (t) => {
  const gateway = await guarded(t, [{ who: 'anyone', operations: everything }])
  for (const good of [{}, key, xfcc, { ...key, ...xfcc }]) assert.equal(await status(gateway, good), 200)
  for (const bad of [
    { ...wrongKey, ...xfcc },
    { ...key, ...brokenXfcc },
    wrongKey,
    brokenXfcc,
    { ...xfcc, authorization: 'Bearer a.b.c' },
  ])
    assert.equal(await status(gateway, bad), 401, JSON.stringify(bad))
})

test('a denial of anyone does not open the door', async (t) => {
  const gateway = await guarded(t, [
    { effect: 'deny', who: 'anyone', operations: ['infer'] },
    { who: 'identified', operations: everything },
  ])
  assert.equal(await status(gateway, {}), 401)
  assert.equal(await status(gateway, key), 200)
})

test('strangers whom a proxy brings on one connection are told apart by their addresses', async (t) => {
  const limits = { rules: [{ name: 'few', by: ['caller'], rate: 0.001 }] }
  const proxies = ['127.0.0.1']
  const access = [{ who: 'anyone', operations: everything }]
  const settings = { auth: { access }, limits, mesh: { mode: 'gateway', proxies } }
  const gateway = await startGateway(t, { store, settings })
  const wire = await Wire.open(t, gateway.url)
  const body = JSON.stringify({ inputs: [tensor('x', 'FP32', [1, 1], [7])] })
  const statuses: number[] = []
  for (const client of ['192.0.2.1', '192.0.2.2', '192.0.2.1', '192.0.2.3']) {
    wire.write(wireRequest('echo', body, { 'x-forwarded-for': client }))
    statuses.push((await wire.reply()).status)
  }
  assert.deepEqual(statuses, [200, 200, 429, 200])
})
