/** Limits that several gateways share through a real Redis, while it is well. */
import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { systemClock } from '../src/core/clock.ts'
import { isRefusal } from '../src/core/refusal.ts'
import type { Limits } from '../src/limits/limits.ts'
import { until } from './support/client.ts'
import { drawFrom } from './support/draw.ts'
import { askerOf, burstOf, connect, gatewayOn, limitsWith, permitOf, refusalOf, type Spent } from './support/limits.ts'
import { RedisServer, withRedis } from './support/redis.ts'

const alice = askerOf('alice', 'red')
const kinds = [
  { kind: 'exact', exact: true },
  { kind: 'leased', exact: false },
]

async function admits(limits: Limits, asks = alice): Promise<boolean> {
  return !isRefusal(await limits.admit(asks()))
}

/** Asks as fast as answers come, with now and then a pause, and says what was let in. */
async function pour(limits: Limits, seed: number, forMs: number): Promise<Spent[]> {
  const draw = drawFrom(seed)
  const spent: Spent[] = []
  for (const endAt = performance.now() + forMs; performance.now() < endAt;) {
    for (let i = draw(20); i >= 0; i--) if (await admits(limits)) spent.push({ at: performance.now(), units: 1 })
    await pause(draw(10) === 0 ? draw(200) : draw(4))
  }
  return spent
}

function gateways(t: TestContext, server: RedisServer, rule: object) {
  return Promise.all([1, 2, 3, 4].map(() => gatewayOn(t, server, { name: 'shared', ...rule })))
}

for (const { kind, exact } of kinds) {
  test(`${kind}: four gateways together let in no more than the documented bound in any time`, withRedis, async (t) => {
    const server = await RedisServer.start(t)
    const [rate, burst, leaseMs] = [400, 100, 100]
    const four = await gateways(t, server, { rate, burst, exact, leaseMs })
    const startedAt = performance.now()
    const all = (await Promise.all(four.map(({ limits }, i) => pour(limits, i, 2_000)))).flat()
    const spent = all.toSorted((a, b) => a.at - b.at)
    const tookMs = performance.now() - startedAt
    // From the start on nobody has drawn anything yet.
    assert.ok(spent.length <= burst + (rate * tookMs) / 1_000, `${spent.length} in ${tookMs} ms`)
    assert.ok(spent.length > burst + (rate * 2_000) / 1_000 / 2, `only ${spent.length}`)
    // Answers that were on their way for a while make up for a few.
    const onTheirWay = exact ? 20 : 0
    const most = burstOf(spent, rate / 1_000)
    assert.ok(most <= burst + (exact ? 0 : (4 * rate * leaseMs) / 1_000) + onTheirWay, `${most}`)
    assert.ok(four.every(({ counts }) => counts.missed.size === 0))
  })

  test(`${kind}: a refusal by one limit takes nothing of the others`, withRedis, async (t) => {
    const server = await RedisServer.start(t)
    const redis = await connect(t, server)
    const slow = { per: 'hour', store: 'redis', exact }
    const { limits } = limitsWith(
      [
        { name: 'all', rate: 12, ...slow },
        { name: 'local', rate: 12, per: 'hour' },
        { name: 'one', rate: 5, by: ['caller'], ...slow },
        { name: 'tenant', rate: 10, by: ['tenant'], ...slow, exact: !exact },
      ],
      { clock: systemClock, redis },
    )
    t.after(() => limits.close())
    const callers = ['alice', 'bob', 'carol'].map((name) => askerOf(name, name === 'carol' ? 'blue' : 'red'))
    const admitted = [0, 0, 0]
    for (let i = 0; i < 20; i++) {
      for (const [who, asks] of callers.entries()) {
        if (i < 10 === (who === 0) && (await admits(limits, asks))) admitted[who]!++
      }
    }
    // Five each, as far as the limit for all goes: nothing was lost to those who were refused.
    assert.equal(admitted[0], 5)
    assert.equal(admitted[1]! + admitted[2]!, 7)
  })

  test(`${kind}: rows and compute are charged, settled, and seen by the other gateways`, withRedis, async (t) => {
    const server = await RedisServer.start(t)
    const rule = { name: 'compute', cost: 'computeMs', rate: 100, per: 'hour', exact, leaseMs: 10 }
    const [one, other] = await Promise.all([gatewayOn(t, server, rule), gatewayOn(t, server, rule)])
    const permit = permitOf(await one.limits.admit(alice()))
    assert.equal(await permit.charge(1, () => 80), undefined)
    assert.match(refusalOf(await permitOf(await other.limits.admit(alice())).charge(1, () => 60)).message, /"compute"/)
    permit.release(20)
    await until('it was given back', async () => {
      const second = permitOf(await other.limits.admit(alice()))
      return (await second.charge(1, () => 60)) === undefined
    })
    const third = permitOf(await other.limits.admit(alice()))
    refusalOf(await third.charge(1, () => 30))
    assert.match(refusalOf(await third.charge(1, () => 101)).message, /at most 100/)
  })

  test(
    `${kind}: a clock of Redis that was ahead locks nobody out for longer than a burst takes`,
    withRedis,
    async (t) => {
      const server = await RedisServer.start(t)
      const { limits } = await gatewayOn(t, server, { name: 'shared', rate: 20, burst: 4, exact, leaseMs: 10 })
      assert.ok(await admits(limits))
      const [key] = (await server.command('KEYS', '*')) as [string]
      await server.command('SET', key, String(Date.now() + 3_600_000))
      const startedAt = performance.now()
      await until('somebody is let in again', () => admits(limits))
      assert.ok(performance.now() - startedAt < 10_000)
    },
  )
}

test('keys name neither callers nor tenants, share a slot, and go away by themselves', withRedis, async (t) => {
  const server = await RedisServer.start(t)
  const rule = { name: 'shared', by: ['tenant', 'caller'], rate: 50, exact: true }
  const { limits } = await gatewayOn(t, server, rule, { prefix: 'test:' })
  assert.ok(await admits(limits, askerOf('secretive', 'hidden')))
  assert.ok(await admits(limits, askerOf('other', 'hidden')))
  const keys = (await server.command('KEYS', '*')) as string[]
  assert.equal(keys.length, 2)
  for (const key of keys) assert.match(key, /^\{test:limits\}:shared:[\w-]{22}$/)
  await until('they are gone', async () => ((await server.command('KEYS', '*')) as string[]).length === 0)
})

test('exact decisions take one round trip, over however many limits', withRedis, async (t) => {
  const server = await RedisServer.start(t)
  const redis = await connect(t, server)
  const rules = ['a', 'b', 'c', 'd'].map((name) => ({ name, rate: 1_000, store: 'redis', exact: true }))
  const { limits } = limitsWith(rules, { clock: systemClock, redis })
  await limits.admit(alice())
  const before = await scriptsRun(server)
  for (let i = 0; i < 50; i++) assert.ok(await admits(limits))
  assert.equal((await scriptsRun(server)) - before, 50)
})

test('leased limits decide at once, and seldom ask', withRedis, async (t) => {
  const server = await RedisServer.start(t)
  const { limits } = await gatewayOn(t, server, { name: 'shared', rate: 50_000, burst: 50_000 })
  let waits = 0
  for (let i = 0; i < 20_000; i++) {
    const outcome = limits.admit(alice())
    if (outcome instanceof Promise) waits++
    assert.ok(!isRefusal(await outcome))
    // Draws need a turn of the event loop.
    if (i % 100 === 0) await pause(1)
  }
  assert.ok(waits < 200, `${waits}`)
  const run = await scriptsRun(server)
  assert.ok(run < 1_000, `${run}`)
})

test('what was drawn ahead is given back when it is not used, and at the end', withRedis, async (t) => {
  const server = await RedisServer.start(t)
  const rule = { name: 'shared', rate: 3_600, per: 'hour', burst: 1_000, leaseMs: 60_000 }
  const [one, other] = await Promise.all([
    gatewayOn(t, server, { ...rule, name: 'shared', leaseMs: 60_000 }),
    gatewayOn(t, server, { ...rule, name: 'shared', leaseMs: 60_000 }),
  ])
  for (let i = 0; i < 60; i++) assert.ok(await admits(one.limits))
  one.limits.close()
  await until('all but what was spent is there', async () => (await unitsUsed(server)) <= 60)
  const idle = await gatewayOn(t, server, { ...rule, name: 'idle', rate: 36_000, leaseMs: 100 })
  for (let i = 0; i < 20; i++) assert.ok(await admits(idle.limits))
  assert.equal(idle.counts.leases(), 1)
  await until('it has none', () => Promise.resolve(idle.counts.leases() === 0))
  assert.ok(await admits(other.limits))
})

test('leases that are held are bounded: the one drawn longest ago is given back', withRedis, async (t) => {
  const server = await RedisServer.start(t)
  const redis = await connect(t, server)
  const { limits, counts } = limitsWith(
    [{ name: 'shared', by: ['caller'], rate: 10, per: 'hour', leaseMs: 60_000, store: 'redis' }],
    { clock: systemClock, redis },
    { maxKeys: 8 },
  )
  t.after(() => limits.close())
  for (let i = 0; i < 50; i++) assert.ok(await admits(limits, askerOf(`caller-${i}`)))
  assert.equal(counts.leases(), 8)
  const asks = askerOf('caller-1')
  let rest = 0
  while (await admits(limits, asks)) rest++
  assert.equal(rest, 9)
})

/** Units that are missing from the only bucket of one unit a second. */
async function unitsUsed(server: RedisServer): Promise<number> {
  const [key] = (await server.command('KEYS', '*')) as [string | undefined]
  return key === undefined ? 0 : (Number(await server.command('PTTL', key)) + 999) / 1_000
}

/** Scripts that Redis has run so far. */
async function scriptsRun(server: RedisServer): Promise<number> {
  const stats = String(await server.command('INFO', 'commandstats'))
  return [...stats.matchAll(/cmdstat_eval(?:sha)?:calls=(\d+),.*?failed_calls=(\d+)/g)].reduce(
    (sum, [, calls, failed]) => sum + Number(calls) - Number(failed),
    0,
  )
}
