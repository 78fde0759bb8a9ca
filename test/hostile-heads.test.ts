/** HTTP/1.1 that is broken below the level of requests: one honest answer, the connection ends, nothing gets smuggled. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { samples, wholeFile } from './support/client.ts'
import { goodRequest, hostileSettings, hostileStore } from './support/hostile-cases.ts'
import { hostileHeads, oddHeads, offers } from './support/hostile-heads.ts'
import { http1Protocols, isOnNode, openClient, startEverywhere } from './support/protocols.ts'
import { Wire, wireRequest } from './support/socket.ts'

const settings = { ...hostileSettings, edge: { ...hostileSettings.edge, http2: { cleartext: false } } }
const everywhere = await startEverywhere(wholeFile, { store: hostileStore, settings, over: http1Protocols })

for (const protocol of http1Protocols) {
  const { url } = everywhere.served[protocol]

  test(`what is not HTTP/1.1 gets one answer over ${protocol}, and its connection ends`, async (t) => {
    const neighbour = openClient(t, protocol, { url, ca: everywhere.ca })
    for (const { name, bytes, status } of hostileHeads) {
      const wire = await Wire.open(t, url, everywhere.ca)
      wire.write(Buffer.from(bytes, 'latin1'))
      if (status !== undefined) {
        const reply = await wire.reply().catch((error: Error) => assert.fail(`${name}: ${error.message}`))
        assert.equal(reply.status, status, name)
        assert.equal(reply.headers.get('connection'), 'close', name)
        assert.deepEqual(Object.keys(reply.json).slice(0, 2), ['error', 'code'], name)
      }
      await wire.gone
      assert.equal(wire.unread, 0, `${name}: there is a second answer`)
      assert.equal((await neighbour.send(goodRequest)).status, 200)
    }
    const counted = await samples(everywhere.served[protocol])
    for (const code of ['invalid', 'header_too_large']) {
      assert.ok(counted.get(`penstock_connections_broken_off_total{code="${code}"}`)! > 0, code)
    }
  })

  test(`odd heads that are good are served over ${protocol}, all on one connection`, async (t) => {
    const wire = await Wire.open(t, url, everywhere.ca)
    for (const [name, bytes] of Object.entries(oddHeads)) {
      wire.write(bytes)
      const { status, json } = await wire.reply()
      assert.deepEqual([status, json.outputs?.[0].data], [200, [1, 2]], name)
    }
  })

  test(`who offers another protocol over ${protocol} is answered in this one`, async (t) => {
    for (const [name, bytes] of Object.entries(offers)) {
      const wire = await Wire.open(t, url, everywhere.ca)
      wire.write(bytes + wireRequest('echo', goodRequest.body as string))
      const { status, headers, json } = await wire.reply()
      // Node's front would lose what came behind the offer, and so has to make it the last request.
      const connection = isOnNode(protocol) ? 'close' : 'keep-alive'
      assert.deepEqual([status, headers.get('connection'), json.outputs[0].data], [200, connection, [1, 2]], name)
      if (isOnNode(protocol)) await wire.gone
      else assert.deepEqual((await wire.reply()).json.outputs[0].data, [1, -2], name)
    }
  })
}
