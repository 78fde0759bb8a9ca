/** What is told of limits reaches callers: those who share a bucket in Redis, and pages in a browser. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { samples, until } from './support/client.ts'
import { ask, assertLimited, echo, limited, standing } from './support/limited.ts'
import { RedisServer, withRedis } from './support/redis.ts'

for (const exact of [false, true])
  test(`${exact ? 'exact' : 'leased'}: who shares a bucket is told what is left of it`, withRedis, async (t) => {
    const server = await RedisServer.start(t)
    const rule = { rate: 10, per: 'day', store: 'redis', exact, onError: 'refuse' }
    const gateway = await limited(
      t,
      { 'a.onnx': echo, 'b.onnx': echo },
      [{ name: 'tenants', by: ['tenant'], ...rule, where: { models: ['a', 'b'] } }],
      { redis: { url: server.url, budgetMs: 1_000 } },
    )
    await until('Redis is there', async () => (await samples(gateway)).get('penstock_redis_up') === 1)
    for (let left = 9; left >= 0; left--) {
      const { status, headers } = await ask(gateway, 'alice', 'a')
      assert.equal(status, 200)
      assert.equal(standing(headers).standing['r'], left)
    }
    // Of the same tenant, and another model; neither has been asked about before.
    assert.equal(assertLimited(await ask(gateway, 'carol', 'a'), 'tenants')['r'], 0)
    assert.equal(assertLimited(await ask(gateway, 'alice', 'b'), 'tenants')['r'], 0)
  })

test('pages of other origins may read what limits say', async (t) => {
  const gateway = await limited(t, { 'a.onnx': echo }, [{ name: 'all', by: [], rate: 10 }], {
    edge: { port: 0, cors: { origins: ['https://shop.example.com'] } },
  })
  const { headers } = await ask(gateway, 'alice', 'a', { headers: { origin: 'https://shop.example.com' } })
  const exposed = headers.get('access-control-expose-headers')!.split(/, */)
  for (const name of ['retry-after', 'ratelimit', 'ratelimit-policy']) assert.ok(exposed.includes(name), name)
})
