/** Rules of lanes and their queues that only show in a corner: whose place goes, what counts as ahead, what is forgotten. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Accounts } from '../src/batching/accounts.ts'
import { Curve } from '../src/batching/curve.ts'
import { Job } from '../src/batching/job.ts'
import type { Lane } from '../src/batching/lane.ts'
import { Queue } from '../src/batching/queue.ts'
import { Queues } from '../src/batching/queues.ts'
import { Schedule } from '../src/batching/schedule.ts'
import { Suspects } from '../src/batching/suspects.ts'
import type { Call } from '../src/core/call.ts'
import { Claim } from '../src/core/claim.ts'
import type { Priority } from '../src/core/priority.ts'
import { adaptive, ask, fixed, work, workshop, type Asked } from './support/workshop.ts'

/** Runs take 2 ms and another for each row. */
const learnable = () => workshop((works) => ({ ms: 2 + works.reduce((sum, { rows }) => sum + rows, 0) }))

async function teach(
  lane: Lane,
  { clock, batches }: ReturnType<typeof workshop>,
  key = '',
  caller = 'teacher',
): Promise<void> {
  for (let i = 0; i < 200; i++) {
    ask(lane, clock, work(1 + (i % 16), key), { caller })
    await clock.run()
  }
  clock.jump(60_000)
  batches.length = 0
}

const saidOf = (asked: readonly Asked[]) => asked.map(({ said }) => said)

interface Facts {
  readonly rows?: number
  readonly deadline?: number
  readonly caller?: string
  readonly priority?: Priority
}

function jobOf(accounts: Accounts, { rows = 1, deadline = Infinity, caller = '', priority = 'standard' }: Facts = {}) {
  const claim = { requestId: '', caller, priority, deadline, gone: false, onGone() {} }
  const facts = { account: accounts.of(caller), queuedAt: 0, costMs: rows }
  return new Job(work(rows), claim, facts, () => {})
}

/** A queue with a fit of 2 ms and another for each row, and jobs in it. */
function knownQueue(...jobs: readonly (Facts & { readonly count: number })[]) {
  const accounts = new Accounts({})
  const curve = new Curve()
  for (let i = 0; i < 2_000; i++) curve.learn(1 + (i % 32), 3 + (i % 32))
  const queue = new Queue('', curve, accounts)
  for (const { count, ...facts } of jobs) for (let i = 0; i < count; i++) queue.push(jobOf(accounts, facts))
  return { queue, accounts }
}

const momentWith = (share: number) => ({ now: 0, startAt: 0, isIdle: true, executors: 1, share })

test('a caller has the weight that is given to its name, and no other', () => {
  const accounts = new Accounts({ heavy: 3 })
  const weights = ['heavy', 'light', 'constructor', 'toString', '__proto__'].map((name) => accounts.of(name).weight)
  assert.deepEqual(weights, [3, 1, 1, 1, 1])
})

test('before a new job goes what its caller has and as much of the others, but no more than waits', () => {
  const accounts = new Accounts({})
  const add = (caller: string, ms: number) => accounts.add(accounts.of(caller), ms, 0)
  add('a', 10)
  for (let i = 0; i < 5; i++) add('b', 10)
  assert.equal(accounts.ahead('a', 60, 10), 30)
  assert.equal(accounts.ahead('new', 60, 10), 20)
  assert.equal(accounts.ahead('a', 5, 10), 5, 'most of it is of a class below')
})

test('a flood fills the largest batches only as long as nobody else is there', async () => {
  for (const isShared of [false, true]) {
    const shop = learnable()
    const { clock, batches } = shop
    const lane = shop.laneWith({ policy: adaptive(64) })
    await teach(lane, shop, '', 'flood')
    if (isShared) ask(lane, clock, work(), { caller: 'steady' })
    for (let i = 0; i < 100; i++) ask(lane, clock, work(), { caller: 'flood' })
    await clock.run()
    const first = batches[0]!.works.length
    assert.ok(isShared ? first < 32 : first === 64, `${first} rows in the first run`)
  }
})

test('only what is as urgent or more so counts as being before a request', async () => {
  const shop = learnable()
  const { clock } = shop
  const lane = shop.laneWith({ policy: adaptive(16) })
  await teach(lane, shop)
  for (let i = 0; i < 200; i++) ask(lane, clock, work(), { priority: 'bulk' })
  const deadline = clock.now() + 60
  const [urgent, equal, below] = (['interactive', 'bulk', 'shadow'] as const).map((priority) =>
    ask(lane, clock, work(), { priority, deadline }),
  ) as [Asked, Asked, Asked]
  await clock.run()
  assert.deepEqual(saidOf([urgent, equal, below]), ['ok', 'overloaded', 'overloaded'])
})

test('what cannot be in time is put to no test while others wait, not even what is set apart from them', async () => {
  const shop = learnable()
  const { clock } = shop
  const lane = shop.laneWith({ policy: adaptive(16) })
  await teach(lane, shop)
  const waits = ask(lane, clock, work())
  const deadline = clock.now() + 1
  const hopeless = ask(lane, clock, work(), deadline)
  const apart = ask(lane, clock, work(), { priority: 'shadow', deadline })
  await clock.run()
  assert.deepEqual(saidOf([waits, hopeless, apart]), ['ok', 'overloaded', 'overloaded'])
})

test('nobody loses a place to a caller that would then have as many', async () => {
  const { clock, laneWith } = workshop()
  const lane = laneWith({ policy: fixed(100, 1_000), maxQueueRows: 3 })
  const asked = ['a', 'a', 'b', 'b'].map((caller) => ask(lane, clock, work(), { caller }))
  await clock.run()
  assert.deepEqual(saidOf(asked), ['ok', 'ok', 'ok', 'overloaded'])
})

test('the least urgent gives way, under whichever key and in whatever order they came', async () => {
  for (const classes of [['standard', 'bulk'] as const, ['bulk', 'standard'] as const]) {
    const { clock, laneWith } = workshop()
    const lane = laneWith({ policy: fixed(100, 1_000), maxQueueRows: 2 })
    const asked = classes.map((priority) => ask(lane, clock, work(1, priority), { caller: priority, priority }))
    const urgent = ask(lane, clock, work(), { priority: 'interactive' })
    await clock.run()
    assert.equal(urgent.said, 'ok')
    for (const { said, priority } of asked) assert.equal(said, priority === 'bulk' ? 'overloaded' : 'ok')
  }
})

test('when to send the refused away for is between a second and a minute', async () => {
  for (const ms of [1, 90_000]) {
    const { clock, laneWith } = workshop(() => ({ ms }))
    const lane = laneWith({ policy: fixed(1, 0), maxQueueRows: 2 })
    for (let i = 0; i < 5; i++) {
      ask(lane, clock, work())
      await clock.run()
    }
    const waiting = [1, 2].map(() => ask(lane, clock, work()))
    assert.equal(lane.reserve(waiting[0]!)?.retryAfterS, ms === 1 ? 1 : 60)
  }
})

test('a window counts from the arrival of the oldest, and not of the most urgent', async () => {
  const { clock, laneWith } = workshop()
  const lane = laneWith({ policy: fixed(8, 10) })
  const oldest = ask(lane, clock, work())
  await clock.run(5)
  const urgent = ask(lane, clock, work(), 100)
  await clock.run()
  assert.deepEqual([oldest.at, urgent.at], [15, 15])
})

test('what does not fit leaves its room to others, and what never will goes alone when its turn comes', () => {
  const accounts = new Accounts({})
  const queue = new Queue('', new Curve(), accounts)
  const push = (caller: string, ...sizes: number[]) =>
    sizes.forEach((rows) => queue.push(jobOf(accounts, { caller, rows })))
  const takes = () => queue.take(4, 4).map(({ account }) => account.caller)
  push('a', 2)
  push('b', 3)
  push('c', 2, 2)
  assert.deepEqual(takes(), ['a', 'c'])
  push('d', 9)
  push('e', 2, 2, 2, 2, 2, 2, 2)
  assert.deepEqual([takes(), takes(), takes()].join(';'), 'b;c,e;d')
})

test('a class is owed a part of what went before it while it waited, and of nothing else', () => {
  const accounts = new Accounts({})
  const queue = new Queue('', new Curve(), accounts)
  const push = (priority: Priority, count: number) => {
    for (let i = 0; i < count; i++) queue.push(jobOf(accounts, { priority }))
  }
  const bulkIn = (runs: number) => {
    let bulk = 0
    for (let i = 0; i < runs; i++) bulk += queue.take(10, 10).filter(({ rank }) => rank === 2).length
    return bulk
  }
  push('interactive', 400)
  assert.equal(bulkIn(40), 0)
  push('interactive', 200)
  push('bulk', 50)
  assert.equal(bulkIn(1), 0, 'nothing is saved up by who was not there')
  const part = bulkIn(18)
  assert.ok(part >= 7 && part <= 9, `${part} of 180 rows`)
})

test('hopeless is what is due before the batch ends, or could not even be in time alone', () => {
  const { queue, accounts } = knownQueue()
  const [before, just, large, small] = [
    { deadline: 7.9 },
    { deadline: 8 },
    { deadline: 15, rows: 16 },
    { deadline: 15 },
  ].map((facts) => jobOf(accounts, facts)) as [Job, Job, Job, Job]
  for (const job of [small, large, just, before]) queue.push(job)
  assert.deepEqual(new Set(queue.hopeless(0, 8)), new Set([before, large]))
})

test('a batch is due with the most urgent of all classes in it, and its lane has no more than its share', () => {
  const urgent = { count: 1, deadline: 20, priority: 'interactive' } as const
  const { queue: two } = knownQueue(urgent, { count: 1, deadline: 500, priority: 'bulk' })
  const run = adaptive().propose(momentWith(1), two)
  assert.ok(run.kind === 'run' && run.rows === 2 && run.latestAt < 17)
  const facts = { rows: 2, lines: two.lines, oldestAt: 0, surplus: 0, lastRunAt: -Infinity, curve: new Curve() }
  const unknown = adaptive().propose(momentWith(1), facts)
  assert.ok(unknown.kind === 'run' && unknown.latestAt === 20)
  const { queue } = knownQueue({ count: 1, deadline: 8 }, { count: 40, deadline: 60 })
  queue.lines[1]!.came(0, 20, 100)
  for (const share of [1, 0.1]) {
    const proposal = adaptive().propose(momentWith(share), queue)
    assert.ok(proposal.kind === 'run' && proposal.finishAt <= 8 === (share === 1), `share ${share}`)
  }
})

test('what is foretold counts on the share of the lane, and on the room of those above that are given up', () => {
  const predict = (share: number, deadline: number, ...jobs: readonly (Facts & { readonly count: number })[]) => {
    const arrival = { rows: 1, rank: 1, deadline, rowsAhead: jobs[0]!.count }
    return adaptive(16).predict(momentWith(share), knownQueue(...jobs).queue, arrival) <= deadline
  }
  assert.equal(predict(1, 60, { count: 32 }), true)
  assert.equal(predict(0.5, 60, { count: 32 }), false)
  assert.equal(predict(1, 21, { count: 20, deadline: 10 }), true)
  assert.equal(predict(1, 21, { count: 20 }, { count: 20, deadline: 10, priority: 'bulk' }), false)
})

test('of keys that rest only the latest are remembered, but those with something waiting always are', () => {
  const accounts = new Accounts({})
  const queues = new Queues(accounts)
  const busy = queues.of('busy', undefined)
  queues.push(busy, jobOf(accounts))
  const rested = Array.from({ length: 200 }, (_, i) => {
    const queue = queues.of(`key ${i}`, undefined)
    queues.push(queue, jobOf(accounts))
    queues.take(queue, 8, 8)
    return queue
  })
  assert.equal(queues.of('busy', undefined), busy)
  assert.equal(queues.of('key 199', undefined), rested[199])
  assert.notEqual(queues.of('key 0', undefined), rested[0])
  assert.deepEqual([queues.rows, queues.backlogMs(3)], [1, 1])
})

test('a claim that is due earlier keeps what the body asked for', () => {
  const call = { requestId: '', arrivedAt: 0, deadline: 1_000, priority: undefined, gone: false, onGone() {} }
  const claim = new Claim(call as unknown as Call, '', { deadlineMs: 500, priority: 'standard' })
  claim.tighten({ timeoutMs: 100, priority: 'bulk' })
  const { deadline, priority } = claim.early(30)
  assert.deepEqual([deadline, priority, claim.deadline], [70, 'bulk', 100])
})

test('an executor is free when what it runs and what is staged behind it should be over', () => {
  const schedule = new Schedule()
  assert.equal(schedule.freeAt(3), 3)
  schedule.begin(0, 10)
  assert.deepEqual([schedule.freeAt(3), schedule.freeAt(12)], [10, 12])
  schedule.begin(4, 5)
  assert.deepEqual([schedule.freeAt(5), schedule.freeAt(12)], [15, 17])
  assert.deepEqual([schedule.end(11), schedule.freeAt(11), schedule.end(18)], [11, 16, 7])
  schedule.begin(18, Infinity)
  assert.equal(schedule.freeAt(19), Infinity)
})

test('a suspect is one until ten seconds after the last time, and there are not ever more of them', () => {
  const { clock } = workshop()
  const suspects = new Suspects(clock)
  suspects.add('again')
  clock.jump(8_000)
  suspects.add('other')
  suspects.add('again')
  clock.jump(9_000)
  assert.ok(suspects.has('again'))
  for (let i = 0; i < 999; i++) suspects.add(`stranger ${i}`)
  assert.deepEqual([suspects.has('other'), suspects.has('again')], [false, true])
  clock.jump(1_000)
  assert.ok(!suspects.has('again'))
})

test('who has an answer leaves no timer behind, and no run for who hung up', async () => {
  let runs = 0
  let extra = 0
  const { clock, laneWith } = workshop(() => ({ ms: 5, ends: runs++ === 0 ? 'failed' : 'done' }))
  const lane = laneWith({ policy: adaptive(4), onExtraRun: () => extra++ })
  const asked = Array.from({ length: 4 }, () => ask(lane, clock, work(), 1_000_000))
  clock.after(2, asked[0]!.hangUp)
  clock.after(2, asked[1]!.hangUp)
  await clock.run()
  assert.deepEqual(saidOf(asked), ['abandoned', 'abandoned', 'ok', 'ok'])
  assert.deepEqual([runs, extra], [2, 1])
  assert.ok(clock.now() < 1_000_000)
})
