/** The mesh at the socket: who is let in by what a proxy says, and what becomes of the same words from anybody else. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { samples, wholeFile } from './support/client.ts'
import { startGateway, type TestGateway } from './support/gateway.ts'
import { identity } from './support/onnx.ts'

const web = 'spiffe://cluster.local/ns/web/sa/client'
const batch = 'spiffe://cluster.local/ns/batch/sa/client'
const ingress = 'spiffe://cluster.local/ns/edge/sa/gateway'
const own = 'spiffe://cluster.local/ns/ml/sa/penstock'

const store = { 'echo.onnx': identity('FP32', ['n']) }

const auth = {
  mesh: {
    trustDomains: ['cluster.local'],
    subjects: [{ spiffe: 'spiffe://cluster.local/ns/web/sa/*', tenant: 'web' }],
  },
  access: [{ who: { tenants: ['web'] }, operations: ['infer', 'metadata'] }],
}

function behind(mesh: object): Promise<TestGateway> {
  return startGateway(wholeFile, { store, settings: { auth, mesh } })
}

const sidecar = await behind({ mode: 'sidecar', trustedProxies: [ingress], self: own })
const gateway = await behind({ mode: 'gateway', proxies: ['127.0.0.1'] })
const waypoint = await behind({ mode: 'ambient-waypoint', waypointXfcc: true })
const elsewhere = await behind({ mode: 'gateway', proxies: ['192.0.2.0/24'] })
const elsewhereToo = await behind({ mode: 'ambient-waypoint', proxies: ['192.0.2.0/24'], waypointXfcc: true })

async function ask({ url }: TestGateway, fields: Record<string, string>): Promise<number> {
  const response = await fetch(`${url}/v2/models/echo`, { headers: fields })
  await response.arrayBuffer()
  return response.status
}

async function untrusted(served: TestGateway, header: string, reason: string): Promise<number> {
  return (await samples(served)).get(`penstock_untrusted_headers_total{header="${header}",reason="${reason}"}`) ?? 0
}

test('whom a proxy names is let in as who it is, and nobody else', async () => {
  for (const served of [gateway, waypoint]) {
    assert.equal(await ask(served, { 'x-forwarded-client-cert': `URI=${web}` }), 200)
    assert.equal(await ask(served, { 'x-forwarded-client-cert': `URI=${batch}` }), 404)
    assert.equal(await ask(served, { 'x-forwarded-client-cert': `URI=${web},URI=${batch}` }), 404)
    assert.equal(await ask(served, { 'x-forwarded-client-cert': 'URI=spiffe://other/ns/web/sa/client' }), 401)
    assert.equal(await ask(served, {}), 401)
  }
})

test('behind a sidecar the client of a trusted gateway is the caller', async () => {
  const last = (id: string) => `By=${own};Hash=01;Subject="";URI=${id}`
  assert.equal(await ask(sidecar, { 'x-forwarded-client-cert': last(web) }), 200)
  assert.equal(await ask(sidecar, { 'x-forwarded-client-cert': `By=a;URI=${web},${last(ingress)}` }), 200)
  assert.equal(await ask(sidecar, { 'x-forwarded-client-cert': `By=a;URI=${batch},${last(ingress)}` }), 404)
  assert.equal(await ask(sidecar, { 'x-forwarded-client-cert': `By=a;URI=${web},${last(batch)}` }), 404)
  assert.equal(await ask(sidecar, { 'x-forwarded-client-cert': last(ingress) }), 401)
  assert.equal(await ask(sidecar, { 'x-forwarded-client-cert': `By=${batch};URI=${web}` }), 401)
})

test('a header that was tampered with lets nobody in', async () => {
  const broken = [
    `URI=${web},`,
    `URI=${web};URI=${batch}`,
    `URI=${web}"`,
    `Subject="a;URI=${web}`,
    `URI=${web};Role=admin`,
    '',
  ]
  for (const header of [...broken, `Subject="\\\\";URI=${web}"`, `URI=${web}/../admin`, `a,URI=${web}`]) {
    assert.equal(await ask(gateway, { 'x-forwarded-client-cert': header }), 401, header)
  }
})

test('who is not the proxy may say what it likes, and is counted', async () => {
  const claims = {
    'x-forwarded-client-cert': `URI=${web}`,
    'x-forwarded-for': '127.0.0.1',
    'x-envoy-external-address': '::1',
  }
  for (const served of [elsewhere, elsewhereToo]) {
    assert.equal(await ask(served, claims), 401)
    for (const header of ['x-forwarded-client-cert', 'x-forwarded-for', 'x-envoy-*']) {
      assert.equal(await untrusted(served, header, 'peer'), 1, header)
    }
  }
})

for (const mesh of [{}, { mode: 'ambient' }]) {
  test(`where nobody stands in front, claims are counted and do nothing: ${JSON.stringify(mesh)}`, async (t) => {
    const open = { access: [{ who: 'anyone', operations: ['metadata'] }] }
    const served = await startGateway(t, { store, settings: { auth: open, mesh } })
    assert.equal(
      await ask(served, { 'x-forwarded-client-cert': 'broken"', forwarded: 'for=a', 'x-real-ip': '::1' }),
      200,
    )
    for (const header of ['x-forwarded-client-cert', 'forwarded', 'x-real-ip']) {
      assert.equal(await untrusted(served, header, 'mode'), 1, header)
    }
  })
}
