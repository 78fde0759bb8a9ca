/** Lanes, callers, classes and executors together: who is served when not all can be, and what is promised to each. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Lane } from '../src/batching/lane.ts'
import type { Work } from '../src/core/run.ts'
import { drawFrom } from './support/draw.ts'
import { adaptive, ask, fixed, work, workshop, type Asked, type Wish } from './support/workshop.ts'

type Workshop = ReturnType<typeof workshop>

/** How long runs take: 2 ms and another for each row. */
const msOf = (works: readonly Work[]) => 2 + works.reduce((sum, { rows }) => sum + rows, 0)
const honest = (works: readonly Work[]) => ({ ms: msOf(works) })

/** Runs of many sizes, so that the lane knows how long they take. */
async function teach(lane: Lane, { clock }: Workshop, ...keys: string[]): Promise<void> {
  for (let i = 0; i < 200; i++) {
    for (const key of keys.length > 0 ? keys : ['']) {
      ask(lane, clock, work(1 + (i % 16), key), { caller: 'teacher' })
      await clock.run()
    }
  }
}

interface Stream extends Omit<Wish, 'deadline'> {
  readonly perMs: number
  readonly forMs: number
  readonly within: number
}

/** Asks at a steady rate, and says what became of each. */
function pour(lane: Lane, { clock }: Workshop, { perMs, forMs, within, ...wish }: Stream): Asked[] {
  const asked: Asked[] = []
  const start = clock.now()
  for (let i = 0; i < perMs * forMs; i++) {
    const after = i / perMs
    clock.after(after, () => void asked.push(ask(lane, clock, work(), { ...wish, deadline: start + after + within })))
  }
  return asked
}

function shareOf(asked: readonly Asked[]): number {
  return asked.filter(({ said }) => said === 'ok').length / asked.length
}

test('what comes in one turn of the event loop runs together, on one executor', async () => {
  const { clock, laneWith, batches } = workshop(honest, 3)
  const lane = laneWith({ policy: adaptive(16) })
  for (let i = 0; i < 12; i++) ask(lane, clock, work())
  assert.equal(batches.length, 0)
  await clock.run()
  assert.deepEqual(
    batches.map(({ works }) => works.length),
    [12],
  )
})

test('one caller that asks for ten times as much as there is leaves the others what they need', async () => {
  const shop = workshop(honest)
  const lane = shop.laneWith({ policy: adaptive(16) })
  await teach(lane, shop)
  // Runs of 16 rows take 18 ms: 0.89 rows a millisecond.
  const steady = ['a', 'b', 'c'].map((caller) => pour(lane, shop, { perMs: 0.2, forMs: 2_000, caller, within: 100 }))
  const flood = pour(lane, shop, { perMs: 9, forMs: 2_000, caller: 'flood', within: 100 })
  await shop.clock.run()
  for (const asked of steady) assert.ok(shareOf(asked) > 0.99, `${shareOf(asked)} of a steady caller's`)
  const served = flood.filter(({ said }) => said === 'ok').length
  assert.ok(served > 2_000 * 0.2, `${served} of the flood's: what nobody else needs is not thrown away`)
})

test('callers that all want more than there is get shares by weight', async () => {
  const shop = workshop(honest, 1, { heavy: 3 })
  const lane = shop.laneWith({ policy: adaptive(16) })
  await teach(lane, shop)
  const [heavy, light, greedy] = ['heavy', 'light', 'greedy'].map((caller) =>
    pour(lane, shop, { perMs: caller === 'greedy' ? 4 : 1, forMs: 3_000, caller, within: 80 }),
  ) as [Asked[], Asked[], Asked[]]
  await shop.clock.run()
  const served = [heavy, light, greedy].map((asked) => asked.filter(({ said }) => said === 'ok').length)
  const [a, b, c] = served as [number, number, number]
  assert.ok(a / b > 2.6 && a / b < 3.4, `shares ${served.join()}`)
  assert.ok(c / b > 0.85 && c / b < 1.15, `shares ${served.join()}: whoever asks for more gets no more`)
})

test('in a full queue a flood gives way to others, and the least urgent to the more urgent', async () => {
  const { clock, laneWith } = workshop(honest)
  const lane = laneWith({ policy: fixed(100, 1_000), maxQueueRows: 6 })
  const flood = [1, 2, 3, 4, 5, 6].map(() => ask(lane, clock, work(), { caller: 'flood' }))
  const steady = ask(lane, clock, work(), { caller: 'steady' })
  const urgent = ask(lane, clock, work(), { caller: 'flood', priority: 'interactive' })
  const another = ask(lane, clock, work(), { caller: 'flood' })
  const bulk = ask(lane, clock, work(), { caller: 'steady', priority: 'bulk' })
  await clock.run()
  const said = [...flood, steady, urgent, another, bulk].map((each) => each.said)
  const [ok, no] = ['ok', 'overloaded']
  assert.deepEqual(said, [ok, ok, ok, ok, no, no, ok, ok, no, no])
})

test('classes go in their order, and those below are not starved for ever', async () => {
  const { clock, laneWith, batches } = workshop(honest)
  const lane = laneWith({ policy: adaptive(10) })
  const classes = new Map<Work, string>()
  const add = (priority: 'interactive' | 'standard' | 'bulk', count: number) => {
    for (let i = 0; i < count; i++) {
      const its = work()
      classes.set(its, priority)
      ask(lane, clock, its, { priority })
    }
  }
  add('bulk', 100)
  add('standard', 30)
  add('interactive', 200)
  await clock.run()
  const order = batches.flatMap(({ works }) => works.map((each) => classes.get(each)!))
  const first = order.slice(0, 200)
  assert.ok(first.slice(0, 10).every((each) => each === 'interactive'))
  const count = (name: string) => first.filter((each) => each === name).length
  assert.ok(count('standard') >= 8 && count('standard') <= 12, `${count('standard')} standard of the first 200`)
  assert.ok(count('bulk') >= 8 && count('bulk') <= 12, `${count('bulk')} bulk of the first 200`)
})

test('shadows run only on what stands idle, and share a run with nobody', async () => {
  const { clock, laneWith, batches } = workshop(honest)
  const lane = laneWith({ policy: adaptive(8) })
  const shadows = [1, 2, 3].map(() => ask(lane, clock, work(), { priority: 'shadow' }))
  const others = [1, 2, 3].map(() => ask(lane, clock, work(), { priority: 'bulk' }))
  await clock.run()
  assert.deepEqual(
    [...shadows, ...others].map(({ said }) => said),
    Array(6).fill('ok'),
  )
  const works = (asked: readonly Asked[]) => asked.map((each) => each.work)
  assert.deepEqual(
    batches.map((batch) => batch.works),
    [works(others), works(shadows)],
  )
})

test('what is let in and runs is never late when the fit is right, whatever comes', async () => {
  for (let seed = 0; seed < 40; seed++) {
    const draw = drawFrom(seed)
    const shop = workshop(honest, 1 + draw(3))
    const { clock, batches } = shop
    const lane = shop.laneWith({ policy: adaptive(4 + draw(13)) })
    await teach(lane, shop, 'a', 'b')
    batches.length = 0
    const asked: Asked[] = []
    const start = clock.now()
    for (let i = 0; i < 300; i++) {
      const wish = () =>
        ({
          deadline: clock.now() + 3.37 + draw(80),
          caller: 'xyz'[draw(3)]!,
          priority: draw(2) ? 'bulk' : 'standard',
        }) as const
      clock.after(draw(400), () => void asked.push(ask(lane, clock, work(1 + draw(3), 'ab'[draw(2)]), wish())))
    }
    await clock.run()
    const run = new Set(batches.flatMap(({ works }) => works))
    const told = (each: Asked) => `seed ${seed}: ${each.said} at ${each.at - start}, due ${each.deadline - start}`
    for (const each of asked) {
      const isRun = run.has(each.work)
      assert.ok(isRun ? each.said === 'ok' : each.said === 'overloaded' || each.said === 'expired', told(each))
      assert.ok(each.at <= each.deadline, told(each))
    }
    assert.ok(asked.filter(({ said }) => said === 'ok').length > 30, `seed ${seed}`)
  }
})

test('of several lanes the urgent one goes first, and a patient one is not starved by it', async () => {
  const shop = workshop(honest)
  const [urgent, patient] = [shop.laneWith({ policy: adaptive(8) }), shop.laneWith({ policy: adaptive(8) })] as const
  await teach(urgent, shop)
  await teach(patient, shop)
  const flood = pour(urgent, shop, { perMs: 3, forMs: 1_000, within: 40 })
  const few = pour(patient, shop, { perMs: 0.1, forMs: 1_000, within: 30_000 })
  const until = shop.clock.now() + 1_100
  await shop.clock.run(until)
  assert.ok(few.every(({ said, at }) => said === 'ok' && at < until))
  assert.ok(shareOf(flood) > 0.15)
})

test('a fit that is poisoned by one absurd run refuses nobody for long', async () => {
  for (const runs of [0, 1, 50]) {
    let left = runs
    const shop = workshop((works) => ({ ms: left-- === 0 ? 20_000 : msOf(works) }))
    const { clock } = shop
    const lane = shop.laneWith({ policy: adaptive(16) })
    for (let i = 0; i <= runs; i++) {
      ask(lane, clock, work())
      await clock.run()
    }
    const asked = []
    for (let i = 0; i < 40; i++) {
      asked.push(ask(lane, clock, work(), clock.now() + 50))
      await clock.run()
      clock.jump(200)
    }
    assert.ok(
      asked.slice(30).every(({ said }) => said === 'ok'),
      `after ${runs} runs: ${asked.map(({ said }) => said).join()}`,
    )
  }
})

test('a fit that has become wrong for good is learnt anew', async () => {
  let factor = 1
  const shop = workshop((works) => ({ ms: factor * msOf(works) }))
  const lane = shop.laneWith({ policy: adaptive(16) })
  await teach(lane, shop)
  for (factor of [10, 1]) {
    const asked = pour(lane, shop, { perMs: 0.05, forMs: 4_000, within: 100 })
    await shop.clock.run()
    assert.ok(shareOf(asked.slice(100)) > 0.9, `${shareOf(asked.slice(100))} with runs ${factor} times as long`)
  }
})

test('when the clock steps, every request still gets one answer, and those after it are served', async () => {
  const shop = workshop(honest)
  const { clock } = shop
  const lane = shop.laneWith({ policy: adaptive(4) })
  await teach(lane, shop)
  const before = Array.from({ length: 12 }, () => ask(lane, clock, work(), clock.now() + 100))
  await clock.run(clock.now() + 1)
  clock.jump(3_600_000)
  await clock.run()
  for (const { said } of before) assert.ok(said === 'ok' || said === 'expired' || said === 'overloaded', said)
  const after = Array.from({ length: 4 }, () => ask(lane, clock, work(), clock.now() + 100))
  await clock.run()
  assert.deepEqual(
    after.map(({ said }) => said),
    Array(4).fill('ok'),
  )
  assert.ok(lane.empty)
})

test('a client may hang up in every state, and leaves nothing behind', async () => {
  for (const at of [0, 1, 4.95, 5, 6, 8]) {
    let runs = 0
    const { clock, laneWith, batches } = workshop(() => ({ ms: 5, ends: runs++ === 0 ? 'failed' : 'done' }))
    const lane = laneWith({ policy: adaptive(4) })
    const asked = [1, 2, 3, 4].map(() => ask(lane, clock, work()))
    clock.after(at, asked[1]!.hangUp)
    await clock.run()
    assert.deepEqual(
      asked.map(({ said }) => said),
      ['ok', 'abandoned', 'ok', 'ok'],
      `at ${at}`,
    )
    assert.ok(lane.empty && lane.rows === 0)
    assert.ok(batches.length <= 4)
  }
})

test('who makes runs fail pays for the search alone from then on', async () => {
  const bad = new Set<Work>()
  const { clock, laneWith, batches } = workshop((works) => ({
    ms: 1,
    ends: works.some((each) => bad.has(each)) ? 'failed' : 'done',
  }))
  let extra = 0
  const lane = laneWith({ policy: adaptive(16), onExtraRun: () => extra++ })
  const round = async () => {
    const good = Array.from({ length: 15 }, () => ask(lane, clock, work(), { caller: 'good' }))
    const poison = work()
    bad.add(poison)
    const culprit = ask(lane, clock, poison, { caller: 'poisoner' })
    await clock.run()
    assert.deepEqual(new Set(good.map(({ said }) => said)), new Set(['ok']))
    assert.equal(culprit.said, 'model_failed')
  }
  await round()
  assert.deepEqual([batches.length, extra], [9, 8])
  await round()
  assert.equal(extra, 8, 'nobody else was in its run')
  clock.jump(20_000)
  await round()
  assert.ok(extra > 8, 'after a while it is trusted again')
})

test('a batch in which all fail costs a bounded number of runs', async () => {
  for (const size of [2, 16, 64]) {
    const { clock, laneWith, batches } = workshop(() => ({ ms: 1, ends: 'failed' }))
    const lane = laneWith({ policy: adaptive(64) })
    const asked = Array.from({ length: size }, () => ask(lane, clock, work()))
    await clock.run()
    assert.deepEqual(new Set(asked.map(({ said }) => said)), new Set(['model_failed']))
    assert.ok(batches.length <= 1 + 4 * Math.log2(size), `${batches.length} runs for ${size}`)
  }
})
