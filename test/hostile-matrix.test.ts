/** Every wrong request over every protocol: the right refusal, and the next request on the same connection as ever. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { samples, until, wholeFile } from './support/client.ts'
import { goodRequest, hostileCases, hostileSettings, hostileStore } from './support/hostile-cases.ts'
import { protocols, startEverywhere, type Client } from './support/protocols.ts'

const everywhere = await startEverywhere(wholeFile, { store: hostileStore, settings: hostileSettings })

async function servesOn(client: Client): Promise<void> {
  const { status, json } = await client.send(goodRequest)
  assert.deepEqual([status, json.outputs[0].data], [200, [1, -2]])
}

assert.ok(hostileCases.length >= 120, `there are ${hostileCases.length} cases`)

for (const protocol of protocols) {
  test(`wrong requests over ${protocol} are refused with the right words and disturb nobody`, async (t) => {
    const neighbour = everywhere.open(t, protocol)
    const client = everywhere.open(t, protocol)
    for (const { name, sent, refusal } of hostileCases) {
      const { status, headers, json } = await client.send(sent)
      assert.deepEqual([status, json?.code], refusal, name)
      assert.equal(headers['content-type'], 'application/json', name)
      assert.match(json.error, /^[\x20-\x7e]{10,400}$/, name)
      assert.equal(headers['x-request-id'], json.request_id, name)
      await servesOn(client)
      await servesOn(neighbour)
    }
    await until('nothing is held any more', async () => {
      return (await samples(everywhere.served[protocol])).get('penstock_held_bytes') === 0
    })
  })
}
