/** Limits in a Redis that is down, hangs, forgets or answers nonsense: what is declared for that holds, and no more. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { systemClock } from '../src/core/clock.ts'
import { isRefusal, type Refusal } from '../src/core/refusal.ts'
import type { Limits } from '../src/limits/limits.ts'
import type { Permit } from '../src/limits/permit.ts'
import { until } from './support/client.ts'
import { askerOf, connect, gatewayOn, limitsWith, permitOf, refusalOf } from './support/limits.ts'
import { RedisServer, withRedis } from './support/redis.ts'

const alice = askerOf('alice', 'red')
const kinds = [
  { kind: 'exact', exact: true },
  { kind: 'leased', exact: false },
]

async function admits(limits: Limits, asks = alice): Promise<boolean> {
  return !isRefusal(await limits.admit(asks()))
}

async function count(limits: Limits, times: number): Promise<number> {
  let admitted = 0
  for (let i = 0; i < times; i++) if (await admits(limits)) admitted++
  return admitted
}

type Gateway = Awaited<ReturnType<typeof gatewayOn>>

/** Asks a Redis that does not answer until it is not asked any more. */
async function giveUp({ limits, redis }: Gateway): Promise<void> {
  await until('it is given up', async () => {
    await limits.admit(alice())
    return !redis.isUp
  })
}

for (const { kind, exact } of kinds) {
  test(`${kind}: while Redis hangs or is gone, what \`onError\` says holds, and is counted`, withRedis, async (t) => {
    const whatHolds = async (onError: 'allow' | 'refuse' | 'local') => {
      const server = await RedisServer.start(t)
      const rule = { name: 'shared', rate: 20, per: 'hour', burst: 20, exact, onError, leaseMs: 10 }
      const gateway = await gatewayOn(t, server, rule, { budgetMs: 30 })
      // Five, so that there are fifteen left in Redis, and none here.
      assert.equal(await count(gateway.limits, 5), 5)
      await pause(50)
      server.freeze()
      const whileItHangs: (Permit | Refusal)[] = []
      for (let i = 0; i < 60; i++) whileItHangs.push(await gateway.limits.admit(alice()))
      // What was drawn before is spent first: one unit.
      const admitted = whileItHangs.filter((each) => !isRefusal(each)).length
      const [least, most] = { allow: [60, 60], refuse: [0, 1], local: [20, 21] }[onError] as [number, number]
      assert.ok(admitted >= least && admitted <= most, `${onError}: ${admitted}`)
      if (onError === 'refuse') {
        const refusal = whileItHangs.at(-1) as Refusal
        assert.deepEqual([refusal.status, refusal.retryAfterS], [429, 1])
        assert.match(refusal.message, /"shared" cannot be checked/)
      }
      assert.ok(gateway.counts.missed.get('shared')![onError] >= 39)
      server.thaw()
      await until('it is asked again', () => Promise.resolve(gateway.redis.isUp))
      await server.kill()
      await until('it is missed', () => Promise.resolve(!gateway.redis.isUp))
      const outcome = gateway.limits.admit(alice())
      assert.ok(!(outcome instanceof Promise))
      assert.equal(isRefusal(outcome), onError !== 'allow')
    }
    await Promise.all([whatHolds('allow'), whatHolds('refuse'), whatHolds('local')])
  })

  test(`${kind}: a request is held up no longer than the budget, and then not at all`, withRedis, async (t) => {
    const server = await RedisServer.start(t)
    const rule = { name: 'shared', rate: 1_000, burst: 1_000, exact, onError: 'allow' }
    const gateway = await gatewayOn(t, server, rule, { budgetMs: 200 })
    await gateway.limits.admit(alice())
    server.freeze()
    const order: string[] = []
    const asked = Array.from({ length: 20 }, async (_, i) => {
      await gateway.limits.admit(alice())
      order.push(`answer ${i}`)
    })
    // Ten times the budget, so that a busy machine does not matter; without a budget it would be for ever.
    const late = systemClock.after(2_000, () => order.push('too late'))
    await Promise.all(asked)
    late()
    assert.equal(order.length, 20)
    await giveUp(gateway)
    assert.ok(!(gateway.limits.admit(alice()) instanceof Promise))
    server.thaw()
  })

  test(
    `${kind}: four gateways keep to the limit while Redis hangs, dies, fills up and comes back`,
    withRedis,
    async (t) => {
      const server = await RedisServer.start(t)
      const [rate, burst] = [300, 60]
      const rule = { name: 'shared', rate, burst, exact, onError: 'refuse', leaseMs: 100 }
      const four = await Promise.all([1, 2, 3, 4].map(() => gatewayOn(t, server, rule, { budgetMs: 50 })))
      let admitted = 0
      const end = new AbortController()
      const startedAt = performance.now()
      const load = four.map(async ({ limits }) => {
        while (!end.signal.aborted) {
          for (let i = 0; i < 5; i++) if (await admits(limits)) admitted++
          await pause(2)
        }
      })
      const goesOn = async () => {
        const before = admitted
        await until('all are let in again', async () => admitted > before + 40 && four.every(({ redis }) => redis.isUp))
      }
      let bursts = 1
      await goesOn()
      server.freeze()
      await until('it is given up', () => Promise.resolve(four.every(({ redis }) => !redis.isUp)))
      server.thaw()
      await goesOn()
      await server.setFull(true)
      await until('it is given up', () => Promise.resolve(four.every(({ redis }) => !redis.isUp)))
      await server.setFull(false)
      await goesOn()
      await server.kill()
      await pause(100)
      await server.start()
      bursts++
      await goesOn()
      end.abort()
      await Promise.all(load)
      const tookMs = performance.now() - startedAt
      // Of what was drawn before it forgot everything, each may still have had a lease.
      const leases = exact ? 0 : (4 * rate * 100) / 1_000
      const bound = bursts * burst + (rate * tookMs) / 1_000 + leases
      assert.ok(admitted <= bound, `${admitted} of ${bound}`)
    },
  )

  test(`${kind}: when Redis fails for one limit only, the others hold as before`, withRedis, async (t) => {
    const server = await RedisServer.start(t)
    const redis = await connect(t, server)
    const shared = { store: 'redis', per: 'hour' }
    const { limits, counts } = limitsWith(
      [
        { name: 'broken', rate: 1_000, ...shared, exact, onError: 'allow' },
        { name: 'sound', rate: 3, ...shared },
      ],
      { clock: systemClock, redis },
    )
    t.after(() => limits.close())
    await server.command('ACL', 'SETUSER', 'default', 'resetkeys', '~*sound*')
    const admitted = await Promise.all([1, 2, 3, 4].map(() => admits(limits)))
    assert.equal(admitted.filter(Boolean).length, 3)
    assert.ok((counts.missed.get('broken')?.allow ?? 0) > 0)
    assert.equal(counts.missed.get('sound'), undefined)
  })

  test(`${kind}: a bucket in Redis that is something else counts as a new one`, withRedis, async (t) => {
    const server = await RedisServer.start(t)
    const rule = { name: 'shared', rate: 10, per: 'hour', exact }
    assert.ok(await admits((await gatewayOn(t, server, rule)).limits))
    const [key] = (await server.command('KEYS', '*')) as [string]
    const odd = [
      ['LPUSH', 'x'],
      ['SET', 'x'],
      ['SET', 'nan'],
      ['SET', '-inf'],
      ['SET', ''],
    ] as const
    for (const [name, value] of odd) {
      await server.command('DEL', key)
      await server.command(name, key, value)
      const { limits } = await gatewayOn(t, server, rule)
      assert.equal(await count(limits, 20), 10, `${name} ${value}`)
    }
  })
}

test('scripts that Redis has forgotten are sent again', withRedis, async (t) => {
  const server = await RedisServer.start(t)
  const { limits, counts } = await gatewayOn(t, server, { name: 'shared', rate: 100, exact: true })
  assert.ok(await admits(limits))
  await server.command('SCRIPT', 'FLUSH')
  assert.ok(await admits(limits))
  assert.equal(counts.missed.size, 0)
})

test('a refusal while another limit waits for Redis gives everything back', withRedis, async (t) => {
  const server = await RedisServer.start(t)
  const redis = await connect(t, server)
  const shared = { store: 'redis', per: 'hour' }
  const { limits } = limitsWith(
    [
      { name: 'exact', rate: 10, ...shared, exact: true, by: ['caller'] },
      { name: 'leased', rate: 10, ...shared, by: ['caller'] },
      { name: 'local', rate: 10, per: 'hour', by: ['caller'] },
      { name: 'busy', concurrency: 10 },
      { name: 'few', rate: 5, ...shared, exact: true, by: ['tenant'] },
    ],
    { clock: systemClock, redis },
  )
  t.after(() => limits.close())
  const red = askerOf('bob', 'red')
  const blue = askerOf('bob', 'blue')
  const permits: Permit[] = []
  for (let i = 0; i < 5; i++) permits.push(permitOf(await limits.admit(red())))
  for (let i = 0; i < 30; i++) assert.match(refusalOf(await limits.admit(red())).message, /"few"/)
  // Five of ten are left of all that this caller has in common, and five places.
  for (let i = 0; i < 5; i++) permits.push(permitOf(await limits.admit(blue())))
  for (const permit of permits) permit.release()
  assert.match(refusalOf(await limits.admit(askerOf('bob', 'green')())).message, /"(exact|leased|local)"/)
})
