/** Four gateways, each a process of its own, on one Redis: what they let in together, while Redis is well and while not. */
import assert from 'node:assert/strict'
import { Agent } from 'node:http'
import { test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { samples, until, wholeFile } from './support/client.ts'
import { RedisServer, withRedis } from './support/redis.ts'
import { burstShown, Load, replicas, seenBy, send, type Asked, type Replica } from './support/replicas.ts'

const [rate, burst, leaseMs] = [200, 50, 200]
const rule = { by: ['caller'], rate, burst, leaseMs, store: 'redis' }
const on = (model: string) => ({ where: { models: [model] } })
const rules = [
  { name: 'exact', ...rule, exact: true, onError: 'refuse', ...on('exact') },
  { name: 'leased', ...rule, onError: 'refuse', ...on('leased') },
  { name: 'alone', ...rule, rate: 20, burst: 10, exact: true, onError: 'local', ...on('alone') },
  { name: 'open', ...rule, rate: 20, burst: 10, onError: 'allow', ...on('open') },
  { name: 'kept', ...rule, rate: 3_600, per: 'hour', burst: 1_000, leaseMs: 60_000, ...on('kept') },
]
const models = ['exact', 'leased', 'alone', 'open', 'kept']

/** Beyond the burst, by what each of four may have drawn ahead. */
const leases = { exact: 0, leased: (4 * rate * leaseMs) / 1_000 }

const server = withRedis.skip ? undefined : await RedisServer.start(wholeFile)
// Much longer than Redis takes on a busy machine, so that only those are missed that are to be.
const redis = { url: server?.url, budgetMs: 1_000 }
const four = server ? await replicas(wholeFile, 4, { models, redis, rules }) : []

const agent = new Agent({ keepAlive: true })

async function ups(gateways: readonly Replica[] = four): Promise<number> {
  const all = await Promise.all(gateways.map((each) => samples(seenBy(each))))
  return all.reduce((sum, each) => sum + each.get('penstock_redis_up')!, 0)
}

const allAre = (isUp: boolean) =>
  until(`Redis is ${isUp ? '' : 'not '}there for all`, async () => {
    await pause(20)
    return (await ups()) === (isUp ? 4 : 0)
  })

/** Every request was answered, and not with anything but an answer or a refusal by its limit. */
function noneLost(asked: readonly Asked[]): void {
  for (const { status, text, model } of asked) {
    assert.ok(status === 200 || status === 429, `${model}: ${status} ${text}`)
    if (status === 429) assert.match(text, new RegExp(`the limit \\\\"${model}\\\\" `))
  }
}

const admittedOf = (asked: readonly Asked[]) => asked.filter(({ status }) => status === 200).length

/** Settles when so many more were let in. */
async function goesOn(load: Load, model: string, more: number): Promise<void> {
  const before = admittedOf(load.of(model))
  await until(`${model} lets in`, async () => {
    await pause(20)
    return admittedOf(load.of(model)) >= before + more
  })
}

test('together they let in no more than the documented bound in any time, and not much less', withRedis, async (t) => {
  await allAre(true)
  const load = new Load(t, four, ['exact', 'leased'], 6)
  const startedAt = performance.now()
  await pause(3_000)
  await load.end()
  const tookMs = performance.now() - startedAt
  noneLost(load.asked)
  for (const model of ['exact', 'leased'] as const) {
    const asked = load.of(model)
    const admitted = admittedOf(asked)
    // At the start nobody has drawn anything.
    assert.ok(admitted <= burst + (rate * tookMs) / 1_000, `${model}: ${admitted} in ${tookMs} ms`)
    assert.ok(admitted >= (burst + (rate * 3_000) / 1_000) * 0.8, `${model}: only ${admitted}`)
    assert.ok(asked.length > 1.2 * admitted, `${model}: ${asked.length} is not much of a load for ${admitted}`)
    const shown = burstShown(asked, rate / 1_000)
    assert.ok(shown <= burst + leases[model] + 1, `${model}: ${shown}`)
    for (const replica of four.keys())
      assert.ok(admittedOf(asked.filter((each) => each.replica === replica)) > 0, `${model}: nothing at ${replica}`)
  }
  for (const each of four) {
    const counted = await samples(seenBy(each))
    assert.equal(counted.get('penstock_redis_up'), 1)
    assert.equal(counted.get('penstock_redis_errors_total'), 0)
    assert.ok(counted.get('penstock_limit_refusals_total{limit="exact"}')! > 0)
  }
})

test(
  'while Redis hangs `onError` holds, and when it comes back nothing more is let in for it',
  withRedis,
  async (t) => {
    const load = new Load(t, four, ['exact', 'leased', 'alone', 'open'], 3)
    for (const model of ['exact', 'leased']) await goesOn(load, model, 50)
    server!.freeze()
    await allAre(false)
    const whileDown = load.asked.length
    const downAt = performance.now()
    const heldOf = () => load.asked.slice(whileDown).filter(({ sentAt }) => sentAt > downAt)
    await pause(700)
    const aloneAt = (replica: number) => heldOf().filter((each) => each.model === 'alone' && each.replica === replica)
    // On a busy machine it takes longer until each has let somebody in.
    for (let i = 0; i < 50 && [...four.keys()].some((replica) => admittedOf(aloneAt(replica)) === 0); i++)
      await pause(100)
    const held = heldOf()
    const heldMs = performance.now() - downAt
    server!.thaw()
    await allAre(true)
    for (const model of ['exact', 'leased']) await goesOn(load, model, 50)
    await load.end()
    noneLost(load.asked)
    const ofHeld = (model: string) => held.filter((each) => each.model === model)
    assert.equal(admittedOf(ofHeld('exact')), 0, 'it is refused')
    assert.match(ofHeld('exact').at(-1)!.text, /cannot be checked at the moment/)
    assert.ok(admittedOf(ofHeld('leased')) <= leases.leased, 'what was drawn before may be spent')
    assert.equal(admittedOf(ofHeld('open')), ofHeld('open').length, 'all are let in')
    for (const replica of four.keys()) {
      const own = admittedOf(ofHeld('alone').filter((each) => each.replica === replica))
      assert.ok(own > 0 && own <= 10 + (20 * heldMs) / 1_000, `${own} of ${replica} alone`)
    }
    for (const model of ['exact', 'leased'] as const) {
      const shown = burstShown(load.of(model), rate / 1_000)
      assert.ok(shown <= burst + leases[model] + 1, `${model}: ${shown}`)
    }
  },
)

test('each time Redis loses what it knows one burst more is let in at most', withRedis, async (t) => {
  const load = new Load(t, four, ['exact', 'leased', 'alone'], 4)
  const losses = 2
  for (const model of ['exact', 'leased']) await goesOn(load, model, 50)
  for (let i = 0; i < losses; i++) {
    await server!.kill()
    await allAre(false)
    await pause(100)
    await server!.start()
    await allAre(true)
    for (const model of ['exact', 'leased']) await goesOn(load, model, 60)
  }
  await load.end()
  noneLost(load.asked)
  for (const model of ['exact', 'leased'] as const) {
    const shown = burstShown(load.of(model), rate / 1_000)
    // What each had drawn before is in its hands once more.
    assert.ok(shown <= (1 + losses) * (burst + leases[model]) + 1, `${model}: ${shown}`)
  }
})

test('a gateway that is stopped gives back what it has drawn ahead, and answers all before', withRedis, async (t) => {
  const [one] = await replicas(t, 1, { models, redis, rules })
  await until('it has a connection', async () => (await ups([one!])) === 1)
  const spent = 60
  for (let i = 0; i < spent; i++) assert.equal((await send(`${one!.url}/v2/models/kept/infer`, agent)).status, 200)
  const lost = await unitsUsed('kept')
  assert.ok(lost > spent + 10, `${lost} of which ${spent} are spent`)
  one!.process.child.kill('SIGTERM')
  await until('it has ended', () => Promise.resolve(one!.process.child.exitCode !== null))
  assert.equal(one!.process.child.exitCode, 0)
  const rest = await unitsUsed('kept')
  assert.ok(rest <= spent + 1 && rest > spent - 30, `${rest} of which ${spent} are spent`)
})

test('gateways start without Redis and keep to `onError`, and share as soon as it is there', withRedis, async (t) => {
  const late = await RedisServer.start(t)
  await late.kill()
  const two = await replicas(t, 2, { models, redis: { url: late.url, budgetMs: 400 }, rules })
  const load = new Load(t, two, ['exact', 'leased', 'alone', 'open'], 2)
  // None of them waits for Redis: much more than could be answered if each took the budget.
  await until('many are answered', async () => {
    await pause(20)
    return load.asked.length > 400
  })
  const before = [...load.asked]
  assert.equal(admittedOf(before.filter(({ model }) => model === 'exact' || model === 'leased')), 0)
  const open = before.filter(({ model }) => model === 'open')
  assert.equal(admittedOf(open), open.length)
  for (const replica of two.keys()) {
    const own = before.filter((each) => each.model === 'alone' && each.replica === replica)
    assert.ok(burstShown(own, 20 / 1_000) <= 10 + 1)
    assert.ok(admittedOf(own) >= 10, `${admittedOf(own)}`)
  }
  await late.start()
  for (const model of ['exact', 'leased']) await goesOn(load, model, 30)
  await load.end()
  noneLost(load.asked)
  assert.ok(burstShown(load.of('exact'), rate / 1_000) <= burst + 1)
})

/** Units that are missing from the bucket of a rule of one unit a second. */
async function unitsUsed(name: string): Promise<number> {
  const [key] = (await server!.command('KEYS', `*:${name}:*`)) as [string | undefined]
  return key === undefined ? 0 : Number(await server!.command('PTTL', key)) / 1_000
}
