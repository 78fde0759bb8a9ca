/** Gateways as processes of their own that share splits and evidence through a real Redis. */
import assert from 'node:assert/strict'
import { suite, test, type TestContext } from 'node:test'
import { stringify } from 'yaml'
import { adds, administer, ask, edit, odd, picky, quick, sharesOf, splitOf, until } from './support/followed.ts'
import { folderWith } from './support/gateway.ts'
import { penstock } from './support/process.ts'
import { RedisServer, withRedis } from './support/redis.ts'

interface Replica {
  readonly url: string
  readonly adminUrl: string
  /** With all it knows and has not written down. */
  kill(): Promise<void>
}

const files = { 'models/m/1/m.onnx': adds(1), 'models/m/2/m.onnx': picky(2) }

function modelWith(weights: readonly [number, number], experiment?: object) {
  const arms = { a: { version: '1', weight: weights[0] }, b: { version: '2', weight: weights[1] } }
  return { m: { split: { arms, default: 'a' }, ...(experiment && { experiment }) } }
}

const guarded = (a: number, b: number, more: object = {}) => modelWith([a, b], { kind: 'canary', ...more })

/** A Redis and so many gateways on it; `again` starts one more. */
async function sharing(t: TestContext, models: object, count = 2) {
  const redis = await RedisServer.start(t)
  const settings = { ...quick, redis: { url: redis.url, budgetMs: 200 }, state: { store: 'redis' }, models }
  const folder = await folderWith({ ...files, 'penstock.yaml': stringify(settings) })
  const again = async (): Promise<Replica> => {
    const spawned = penstock(t, ['serve', `${folder}/penstock.yaml`])
    const [, url, adminUrl] = await spawned.said(/ at (http:\S+), metrics .*, status at (http:\S+)\/admin/)
    const kill = async () => {
      spawned.child.kill('SIGKILL')
      await spawned.finished
    }
    return { url: url!, adminUrl: adminUrl!, kill }
  }
  const all = await Promise.all(Array.from({ length: count }, again))
  return { redis, all, again }
}

const phaseOf = async (at: Replica): Promise<string> => (await splitOf(at)).experiment.phase
const reportOf = async (at: Replica): Promise<any> => (await administer(at, 'GET', 'models/m/experiment')).json

/** What all must come to agree on. */
const stand = async (at: Replica) => {
  const { generation, arms, setByHand, experiment } = await splitOf(at)
  const { phase, share } = experiment ?? {}
  return JSON.stringify({ generation, shares: arms.map((each: any) => each.share), setByHand, phase, share })
}

const agree = (all: readonly Replica[]) =>
  until('they agree', async () => new Set(await Promise.all(all.map(stand))).size === 1)

/** Evidence that another gateway writes down is a change too, and who edits at that moment has to try again. */
async function edited(at: Replica, body: object): Promise<any> {
  let made: any
  await until('it is edited', async () => {
    const { status, json } = await edit(at, body)
    assert.ok(status === 200 || json.code === 'not_changed', JSON.stringify(json))
    made = json
    return status === 200
  })
  return made
}

/** Lets so many requests of the treatment fail at one gateway, if it gets so many. */
async function fail(at: Replica, count: number): Promise<void> {
  for (let [failed, tries] = [0, 0]; failed < count && tries < 200; tries++) {
    const { arm, status } = await ask(at, 'm', { x: odd })
    if (arm === 'b') failed++
    assert.equal(status, 200, 'the control makes it good')
  }
}

const rolledBack = (all: readonly Replica[]) =>
  until('it is rolled back everywhere', async () =>
    (await Promise.all(all.map(phaseOf))).every((phase) => phase === 'rolled-back'),
  )

/** One edit on each at once, by who has seen the same: one wins, the other is refused, and both know it. */
async function race(all: readonly Replica[], share: number): Promise<void> {
  await agree(all)
  const { generation } = await splitOf(all[0]!)
  const wanted = [share, 1 - share]
  const made = await Promise.all(
    all.map((at, i) => {
      const body = { weights: { a: 100 * (1 - wanted[i]!), b: 100 * wanted[i]! } }
      return administer(at, 'PATCH', 'models/m/split', { body, generation })
    }),
  )
  const won = made.findIndex(({ status }) => status === 200)
  const { status, json } = made[1 - won]!
  assert.ok(won >= 0 && (status === 412 || (status === 503 && json.code === 'not_changed')), JSON.stringify(made))
  await agree(all)
  assert.equal((await sharesOf(all[0]!))['b'], wanted[won])
}

suite('two gateways on one Redis', { concurrency: 4 }, () => {
  test('have each edit of one in force on the other, with the same generation', withRedis, async (t) => {
    const { redis, all } = await sharing(t, modelWith([90, 10]))
    const [one, two] = all as [Replica, Replica]
    for (const [at, b] of [
      [one, 0.3],
      [two, 0.6],
      [two, 0.1],
      [one, 0.9],
    ] as const) {
      const { status, json } = await edit(at, { weights: { a: 10 * (1 - b), b: 10 * b } })
      assert.equal(status, 200, JSON.stringify(json))
      await agree(all)
      assert.equal((await sharesOf(one))['b'], b)
      assert.equal((await splitOf(two)).generation, json.split.generation)
    }
    // Whoever has seen it on one may go on with the other.
    const { generation } = await splitOf(one)
    const body = { reset: true }
    assert.equal((await administer(two, 'PATCH', 'models/m/split', { body, generation })).status, 200)
    await agree(all)
    assert.deepEqual(await sharesOf(one), { a: 0.9, b: 0.1 })
    assert.equal((await administer(one, 'PATCH', 'models/m/split', { body, generation })).status, 412)

    for (const share of [0.1, 0.2, 0.3]) await race(all, share)

    // If Redis has lost it all, whoever knows it writes it again.
    await edited(one, { weights: { a: 60, b: 40 } })
    await agree(all)
    await redis.command('FLUSHALL')
    await until('it is written again', async () => Number(await redis.command('DBSIZE')) > 0)
    await agree(all)
    assert.deepEqual(await sharesOf(two), { a: 0.6, b: 0.4 })
    await edited(two, { weights: { a: 50, b: 50 } })
    await agree(all)
    assert.deepEqual(await sharesOf(one), { a: 0.5, b: 0.5 })
  })

  test('let one of two edits at the same time win, and have what is done by hand at once', withRedis, async (t) => {
    const { all } = await sharing(t, guarded(90, 10, { steps: [{ share: 0.1 }] }))
    const [one, two] = all as [Replica, Replica]
    for (const share of [0.1, 0.2, 0.3]) await race(all, share)
    await edited(one, { action: 'rollback' })
    // Whoever was told it dies.
    await one.kill()
    await rolledBack([two])
    const { who, what } = (await splitOf(two)).history.at(-1)
    assert.deepEqual([who, what], ['local', 'rollback'])
  })

  test('add up what they have seen, and roll back together; whoever comes later knows it', withRedis, async (t) => {
    const { all, again } = await sharing(t, guarded(80, 20))
    const failed = async (at: Replica): Promise<number> => (await reportOf(at)).evidence.failed.treatment
    await fail(all[0]!, 4)
    await until('the other has heard of it', async () => (await failed(all[1]!)) === 4)
    assert.deepEqual(await Promise.all(all.map(phaseOf)), ['steady', 'steady'], 'that is too little')
    await fail(all[1]!, 5)
    await rolledBack(all)
    await agree(all)
    // A verdict may be known before all that it goes by. Of these no more than five were seen by one of them.
    await until('each tells what both have seen', async () => {
      const [first, second] = await Promise.all(all.map(failed))
      return first === second && first! > 4
    })
    for (const at of all) {
      assert.match((await reportOf(at)).why, /it fails more often than the control/)
      const answers = await Promise.all(Array.from({ length: 20 }, () => ask(at, 'm')))
      assert.ok(answers.every(({ arm, status }) => arm === 'a' && status === 200))
    }
    await all[0]!.kill()
    const late = await again()
    assert.equal(await phaseOf(late), 'rolled-back')
    // Nor does the evidence from before come back once somebody has released it.
    await edited(late, { action: 'release' })
    await until('the other follows', async () => (await phaseOf(all[1]!)) === 'steady')
    await all[1]!.kill()
    const later = await again()
    await agree([late, later])
    await Promise.all([late, later].map((at) => fail(at, 1)))
    await until('both count', async () => (await failed(late)) === 2 && (await failed(later)) === 2)
    assert.deepEqual(await Promise.all([late, later].map(phaseOf)), ['steady', 'steady'])
  })
})

const outages: { how: string; begin: (redis: RedisServer) => unknown; end: (redis: RedisServer) => unknown }[] = [
  { how: 'killed, and comes back empty', begin: (redis) => redis.kill(), end: (redis) => redis.start() },
  { how: 'frozen, and comes back with all it knew', begin: (redis) => redis.freeze(), end: (redis) => redis.thaw() },
]

suite('in the middle of an experiment, Redis is', { concurrency: 4 }, () => {
  for (const { how, begin, end } of outages) {
    test(how, withRedis, async (t) => {
      const { redis, all, again } = await sharing(t, guarded(80, 20))
      const [one, two] = all as [Replica, Replica]
      t.after(() => redis.thaw())
      await begin(redis)
      await until('an edit is refused', async () => {
        const { status, json } = await edit(one, { weights: { b: 30, a: 70 } })
        if (status === 200) return false
        assert.deepEqual([status, json.code], [503, 'not_changed'])
        assert.match(json.error, /remembered: ./)
        return true
      })
      // The first may have been in time.
      const before = await sharesOf(one)
      assert.ok([0.2, 0.3].includes(before['b']!))
      await fail(one, 12)
      await rolledBack([one])
      assert.equal(await phaseOf(two), 'steady', 'nobody can have told it')
      const answers = await Promise.all(Array.from({ length: 40 }, (_, i) => ask(all[i % 2]!, 'm', { x: odd })))
      assert.ok(answers.every(({ status }) => status === 200))
      await end(redis)
      await rolledBack(all)
      const third = await again()
      assert.equal(await phaseOf(third), 'rolled-back')
      assert.deepEqual((await sharesOf(third))['b'], 0)
    })
  }

  test('away when a gateway starts, which comes to know what was rolled back before', withRedis, async (t) => {
    const { redis, all, again } = await sharing(t, guarded(80, 20), 1)
    await fail(all[0]!, 12)
    await rolledBack(all)
    t.after(() => redis.thaw())
    await all[0]!.kill()
    // By its own evidence it would not know.
    const tallies = (await redis.command('KEYS', 'penstock:tally:*')) as string[]
    assert.equal(tallies.length, 1)
    await redis.command('DEL', ...tallies)
    redis.freeze()
    const late = await again()
    assert.equal((await ask(late, 'm')).status, 200)
    redis.thaw()
    await rolledBack([late])
  })
})
