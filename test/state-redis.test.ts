/** State in a real Redis: what gateways do at once, and what holds while it is gone. */
import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { RedisStates, type StateLink } from '../src/state/redis-states.ts'
import type { Kept } from '../src/state/states.ts'
import { until } from './support/client.ts'
import { connect, StillClock } from './support/limits.ts'
import { RedisServer, withRedis } from './support/redis.ts'

/** One gateway's state on a connection of its own. */
async function statesOn(t: TestContext, server: RedisServer) {
  const clock = new StillClock()
  const redis = await connect(t, server)
  const states = new RedisStates({ link: redis, clock })
  t.after(() => states.close())
  const look = async () => {
    const { timers } = clock
    clock.pass(1_000)
    await until('it has looked', () => Promise.resolve(clock.timers === timers))
  }
  const announced: Kept[] = []
  return { states, redis, look, announced, watch: () => states.watch('digits', (kept) => announced.push(kept)) }
}

async function revisionOf(outcome: Promise<unknown>): Promise<number> {
  const settled = await outcome
  assert.ok(typeof settled === 'object' && settled !== null && 'revision' in settled, JSON.stringify(settled))
  return settled.revision as number
}

function isUp(redis: StateLink): Promise<void> {
  return until('it can be asked', () => Promise.resolve(redis.isUp))
}

test('what one gateway writes another reads, and who has not seen it writes nothing', withRedis, async (t) => {
  const server = await RedisServer.start(t)
  const [a, b] = [await statesOn(t, server), await statesOn(t, server)]
  assert.equal(await a.states.read('digits'), undefined)
  const first = await revisionOf(a.states.write('digits', { weight: 5 }, 0))
  assert.deepEqual(await b.states.read('digits'), { revision: first, value: { weight: 5 } })
  for (const revision of [0, first - 1, NaN]) assert.equal(await b.states.write('digits', 1, revision), 'stale')
  const second = await revisionOf(b.states.write('digits', null, first))
  assert.ok(second > first)
  assert.equal(await a.states.write('digits', 1, first), 'stale')
  assert.deepEqual(await a.states.read('digits'), { revision: second, value: null })
  assert.equal(await server.command('EXISTS', 'penstock:state:digits'), 1)
  assert.equal(await server.command('TTL', 'penstock:state:digits'), -1)
})

test('of gateways that write at once, one does', withRedis, async (t) => {
  const server = await RedisServer.start(t)
  const gateways = await Promise.all([1, 2, 3, 4].map(() => statesOn(t, server)))
  const outcomes = await Promise.all(
    Array.from({ length: 40 }, (_, i) => gateways[i % 4]!.states.write('digits', i, 0)),
  )
  assert.equal(outcomes.filter((outcome) => outcome === 'stale').length, 39)
})

test('what others change is announced once, and what was written here is not', withRedis, async (t) => {
  const server = await RedisServer.start(t)
  const [a, b] = [await statesOn(t, server), await statesOn(t, server)]
  const first = await revisionOf(a.states.write('digits', 'a', 0))
  a.watch()
  b.watch()
  const second = await revisionOf(a.states.write('digits', 'b', first))
  for (const { look } of [a, b, a, b]) await look()
  assert.deepEqual(a.announced, [])
  assert.deepEqual(b.announced, [{ revision: second, value: 'b' }])
  await server.command('DEL', 'penstock:state:digits')
  await a.look()
  assert.deepEqual(a.announced, [{ revision: 0, value: undefined }])
})

test('revisions after a loss are none of those before it', withRedis, async (t) => {
  const server = await RedisServer.start(t)
  const [a, b] = [await statesOn(t, server), await statesOn(t, server)]
  const first = await revisionOf(a.states.write('digits', 'a', 0))
  a.watch()
  await server.command('FLUSHALL')
  const second = await revisionOf(b.states.write('digits', 'b', 0))
  assert.equal(await a.states.write('digits', 'c', first), 'stale')
  await a.look()
  assert.deepEqual(a.announced, [{ revision: second, value: 'b' }])
})

test('without Redis there is a problem and no wait, and afterwards all goes on', withRedis, async (t) => {
  const server = await RedisServer.start(t)
  const { states, redis, look, announced, watch } = await statesOn(t, server)
  watch()
  await server.kill()
  await until('it is missed', () => Promise.resolve(!redis.isUp))
  const order: string[] = []
  setImmediate(() => order.push('turn'))
  for (const outcome of [await states.read('digits'), await states.write('digits', 1, 0)]) {
    assert.ok(typeof outcome === 'object' && 'problem' in outcome)
    order.push('problem')
  }
  assert.deepEqual(order, ['problem', 'problem'])
  const { errors } = redis
  await look()
  assert.equal(redis.errors, errors)
  await server.start()
  await isUp(redis)
  await revisionOf(states.write('digits', 1, 0))
  await look()
  assert.deepEqual(announced, [])
})

test('what is damaged is a problem that names it, and no failure of Redis', withRedis, async (t) => {
  const server = await RedisServer.start(t)
  const { states, redis, look, announced, watch } = await statesOn(t, server)
  watch()
  const key = 'penstock:state:digits'
  const damages = [['SET', key, '1'], ...['{', ''].map((json) => ['HSET', key, 'revision', '1', 'value', json])]
  damages.push(
    ['HSET', key, 'revision', 'x', 'value', '1'],
    ['HSET', key, 'value', '1'],
    ['HSET', key, 'revision', '1'],
  )
  for (const [name, ...args] of damages) {
    await server.command('DEL', key)
    await server.command(name!, ...args)
    for (let i = 0; i < 3; i++) await look()
    const outcome = await states.read('digits')
    assert.ok(outcome && 'problem' in outcome && outcome.problem.startsWith(`${key} in Redis: is damaged`))
  }
  await server.command('DEL', key)
  await server.command('SET', key, '1')
  const outcome = await states.write('digits', 1, 0)
  assert.ok(typeof outcome === 'object' && 'problem' in outcome)
  assert.equal(redis.errors, 0)
  assert.deepEqual(announced, [])
})
