/** Tallies in a real Redis, which is killed, stopped and flushed, and loses answers. */
import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import type { StateLink } from '../src/state/redis-states.ts'
import { Tally } from '../src/state/tally.ts'
import { until } from './support/client.ts'
import { drawFrom } from './support/draw.ts'
import { connect, StillClock } from './support/limits.ts'
import { RedisServer, withRedis } from './support/redis.ts'

/** One gateway's tally, what it has handed out, and how to let it have its next round. */
function tallyOn(t: TestContext, link: StateLink | undefined, name = 'trial') {
  const clock = new StillClock()
  const tally = new Tally({ link, name, clock, ttlS: 60 })
  t.after(() => tally.close())
  const seen = new Map<string, number>()
  tally.onDelta((deltas) => {
    assert.ok(deltas.size > 0)
    for (const [field, by] of deltas) {
      assert.ok(by > 0, `${field}: ${by}`)
      seen.set(field, (seen.get(field) ?? 0) + by)
    }
  })
  const round = async () => {
    clock.pass(1_000)
    await until('its round is over', () => Promise.resolve(clock.timers === 1))
  }
  return { tally, clock, seen, round, take: () => [...seen].flatMap(([field]) => [field, drain(seen, field)]) }
}

function drain(sums: Map<string, number>, field: string): number {
  const sum = sums.get(field)!
  sums.delete(field)
  return sum
}

function isUp(redis: StateLink): Promise<void> {
  return until('it can be asked', () => Promise.resolve(redis.isUp))
}

/** A link that loses answers, or questions, while it is told to. */
function lossy(link: StateLink) {
  const loss: { of: 'nothing' | 'answers' | 'questions' } = { of: 'nothing' }
  const call: StateLink['call'] = async (command) => {
    const reply = loss.of === 'questions' ? { problem: 'lost' } : await link.call(command, 1_000)
    return loss.of === 'nothing' ? reply : { problem: 'lost' }
  }
  return { loss, link: { prefix: link.prefix, budgetMs: 20, isUp: true, call } }
}

test('tallies hand out what all have added, each once, and all of it to who comes late', withRedis, async (t) => {
  const server = await RedisServer.start(t)
  const [a, b] = [tallyOn(t, await connect(t, server)), tallyOn(t, await connect(t, server))]
  a.tally.add('runs', 2)
  a.tally.add('runs', 1)
  a.tally.add('seconds', 0.25)
  b.tally.add('runs', 10)
  for (const { round } of [a, b, a, b]) await round()
  assert.deepEqual(a.take(), ['runs', 13, 'seconds', 0.25])
  assert.deepEqual(b.take(), ['runs', 13, 'seconds', 0.25])
  const late = tallyOn(t, await connect(t, server))
  await late.round()
  assert.deepEqual(late.take(), ['runs', 13, 'seconds', 0.25])
  const other = tallyOn(t, await connect(t, server), 'next-trial')
  await other.round()
  assert.deepEqual(other.take(), [])
  assert.equal(await server.command('TTL', 'penstock:tally:trial'), 60)
})

test('without Redis each hands out its own', async (t) => {
  const { tally, round, take } = tallyOn(t, undefined)
  for (const by of [1, 0, -1, NaN, Infinity, 2 ** 53]) tally.add('runs', by)
  await round()
  assert.deepEqual(take(), ['runs', 1])
  await round()
  assert.deepEqual(take(), [])
  assert.equal(tally.dropped, 5)
})

for (const lost of ['answers', 'questions'] as const) {
  test(
    `what is added while ${lost} are lost is handed out at once, and to the others later, once`,
    withRedis,
    async (t) => {
      const server = await RedisServer.start(t)
      const { loss, link } = lossy(await connect(t, server))
      const [a, b] = [tallyOn(t, link), tallyOn(t, await connect(t, server))]
      loss.of = lost
      for (let i = 1; i <= 3; i++) {
        a.tally.add('runs', i)
        await a.round()
        assert.deepEqual(a.take(), ['runs', i])
      }
      b.tally.add('runs', 100)
      await b.round()
      loss.of = 'nothing'
      a.tally.add('runs', 1_000)
      for (const { round } of [a, a, b]) await round()
      assert.deepEqual(a.take(), ['runs', 1_100])
      assert.deepEqual(b.take(), ['runs', 1_106])
    },
  )
}

test('when the sums are gone, they begin anew, and nothing is handed out twice', withRedis, async (t) => {
  const server = await RedisServer.start(t)
  const [a, b] = [tallyOn(t, await connect(t, server)), tallyOn(t, await connect(t, server))]
  a.tally.add('runs', 5)
  for (const { round } of [a, b]) await round()
  await server.command('FLUSHALL')
  // More than there was, so that the sums alone do not tell.
  b.tally.add('runs', 7)
  for (const { round } of [b, a]) await round()
  assert.deepEqual(a.take(), ['runs', 12])
  assert.deepEqual(b.take(), ['runs', 12])
  await server.command('FLUSHALL')
  for (const { round } of [a, b]) await round()
  a.tally.add('runs', 1)
  for (const { round } of [a, b]) await round()
  assert.deepEqual([...a.take(), ...b.take()], ['runs', 1, 'runs', 1])
})

test('sums that have fallen back, as after a failover, hand out nothing below 0', withRedis, async (t) => {
  const server = await RedisServer.start(t)
  const a = tallyOn(t, await connect(t, server))
  a.tally.add('runs', 5)
  await a.round()
  assert.deepEqual(a.take(), ['runs', 5])
  await server.command('HSET', 'penstock:tally:trial', 'n:runs', '3')
  await a.round()
  assert.deepEqual(a.take(), [])
  a.tally.add('runs', 1)
  await a.round()
  assert.deepEqual(a.take(), ['runs', 1])
})

test('fields are bounded, here and in Redis', withRedis, async (t) => {
  const server = await RedisServer.start(t)
  const [a, b] = [tallyOn(t, await connect(t, server)), tallyOn(t, await connect(t, server))]
  for (let i = 0; i < 600; i++) a.tally.add(`a${i}`, 1)
  a.tally.add('x'.repeat(257), 1)
  assert.equal(a.tally.dropped, 89)
  b.tally.add('late', 1)
  b.tally.add('a0', 1)
  for (const { round } of [a, b]) await round()
  assert.equal(a.seen.size, 512)
  assert.equal(b.seen.size, 512)
  assert.equal(b.seen.get('a0'), 2)
  assert.equal(await server.command('HLEN', 'penstock:tally:trial'), 512 + 2 + 2)
})

test('of gateways that came and went the last 256 are remembered', withRedis, async (t) => {
  const server = await RedisServer.start(t)
  const key = 'penstock:tally:trial'
  const olds = Array.from({ length: 300 }, (_, i) => [`r:${i}`, `7:${1_000 + i}`])
  await server.command('HSET', key, ...olds.flat(), 'birth', '1', 'n:runs', '1', 'fields', '1')
  const a = tallyOn(t, await connect(t, server))
  a.tally.add('runs', 1)
  await a.round()
  assert.deepEqual(a.take(), ['runs', 2])
  const left = (await server.command('HKEYS', key)) as string[]
  assert.equal(left.filter((field) => field.startsWith('r:')).length, 256)
  assert.ok(left.includes('r:299') && !left.includes('r:44') && left.includes('r:45'))
})

test('a key that holds something else, or a sum that is no number, is no failure of Redis', withRedis, async (t) => {
  const server = await RedisServer.start(t)
  const redis = await connect(t, server)
  const a = tallyOn(t, redis)
  await server.command('SET', 'penstock:tally:trial', '1')
  a.tally.add('runs', 1)
  await a.round()
  assert.deepEqual(a.take(), ['runs', 1])
  await server.command('DEL', 'penstock:tally:trial')
  await server.command('HSET', 'penstock:tally:trial', 'n:runs', 'word')
  a.tally.add('errors', 1)
  for (let i = 0; i < 2; i++) await a.round()
  assert.deepEqual(a.take(), ['errors', 1])
  assert.equal(redis.errors, 0)
})

test('what is left is pushed at the end, and nothing happens after it', withRedis, async (t) => {
  const server = await RedisServer.start(t)
  const { loss, link } = lossy(await connect(t, server))
  const [a, b] = [tallyOn(t, link), tallyOn(t, await connect(t, server))]
  loss.of = 'questions'
  a.tally.add('runs', 1)
  await a.round()
  loss.of = 'nothing'
  a.tally.add('runs', 2)
  await a.tally.close()
  assert.deepEqual(a.take(), ['runs', 3])
  assert.equal(a.clock.timers, 0)
  await b.round()
  assert.deepEqual(b.take(), ['runs', 3])
})

test('the end waits for the round that is under way', async (t) => {
  const answers: (() => void)[] = []
  const call: StateLink['call'] = () =>
    new Promise((resolve) => {
      answers.push(() => resolve({ problem: 'lost' }))
    })
  const { tally, clock, take } = tallyOn(t, { prefix: '', budgetMs: 20, isUp: true, call })
  tally.add('runs', 1)
  clock.pass(1_000)
  const closed = tally.close()
  await Promise.resolve()
  assert.equal(answers.length, 1)
  let hasClosed = false
  void closed.then(() => (hasClosed = true))
  await until('it has ended', () => {
    answers.shift()?.()
    return Promise.resolve(hasClosed)
  })
  assert.deepEqual(take(), ['runs', 1])
  assert.equal(clock.timers, 0)
})

for (const seed of [1, 2, 3]) {
  test(
    `four tallies hand out exactly what was added, while Redis hangs and answers are lost (${seed})`,
    withRedis,
    async (t) => {
      const server = await RedisServer.start(t)
      const redises = await Promise.all([0, 1, 2, 3].map(() => connect(t, server)))
      const links = redises.map(lossy)
      const tallies = links.map(({ link }) => tallyOn(t, link))
      const draw = drawFrom(seed)
      const sums = new Map<string, number>()
      for (let step = 0; step < 400; step++) {
        const i = draw(4)
        const field = `field-${draw(3)}`
        const by = 1 + draw(100)
        tallies[i]!.tally.add(field, by)
        sums.set(field, (sums.get(field) ?? 0) + by)
        if (draw(5) === 0) links[i]!.loss.of = (['nothing', 'answers', 'questions'] as const)[draw(3)]!
        await tallies[draw(4)]!.round()
      }
      for (const { loss } of links) loss.of = 'nothing'
      for (let round = 0; round < 3; round++) for (const each of tallies) await each.round()
      for (const { seen } of tallies) assert.deepEqual(seen, sums)
    },
  )
}

test('a Redis that is stopped and goes on has every push once', withRedis, async (t) => {
  const server = await RedisServer.start(t)
  const redises = await Promise.all([0, 1].map(() => connect(t, server)))
  const tallies = redises.map((redis) => tallyOn(t, redis))
  let sum = 0
  for (let stop = 0; stop < 2; stop++) {
    server.freeze()
    for (let round = 0; round < 2; round++) {
      for (const { tally, round: go } of tallies) {
        sum++
        tally.add('runs', 1)
        await go()
      }
    }
    server.thaw()
    for (const redis of redises) await isUp(redis)
    for (let round = 0; round < 3; round++) for (const each of tallies) await each.round()
    for (const { seen } of tallies) assert.equal(seen.get('runs'), sum)
  }
})

test(
  'whatever is lost with a Redis that is killed, each counts its own once and others no more than that',
  withRedis,
  async (t) => {
    const server = await RedisServer.start(t)
    const redises = await Promise.all([0, 1, 2, 3].map(() => connect(t, server)))
    const tallies = redises.map((redis) => tallyOn(t, redis))
    const draw = drawFrom(9)
    const sums = [0, 0, 0, 0]
    for (let kill = 0; kill < 3; kill++) {
      for (let step = 0; step < 60; step++) {
        if (step === 20) await server.kill()
        if (step === 40) {
          await server.start()
          for (const redis of redises) await isUp(redis)
        }
        const i = draw(4)
        sums[i]! += 1 + step
        tallies[i]!.tally.add(`of-${i}`, 1 + step)
        await tallies[draw(4)]!.round()
      }
    }
    for (let round = 0; round < 3; round++) for (const each of tallies) await each.round()
    for (const [i, { seen }] of tallies.entries()) {
      for (const [j, sum] of sums.entries()) {
        const counted = seen.get(`of-${j}`)!
        assert.ok(i === j ? counted === sum : counted <= sum && counted > sum / 2, `${i} of ${j}: ${counted} of ${sum}`)
      }
    }
  },
)
