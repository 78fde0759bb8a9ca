import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startGateway } from './support/gateway.ts'

test('metadata lists the models that are served', async (t) => {
  const gateway = await startGateway(t)
  assert.deepEqual((await gateway.get('/v2/models')).json, { models: ['breast-cancer', 'digits', 'spam'] })
})
