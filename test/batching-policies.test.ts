/**
 * Lanes and their arbiter on a clock that the test holds, and executors that answer as the test says.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import type { Claim } from '../src/batching/job.ts'
import { isRefusal } from '../src/core/refusal.ts'
import type { Work } from '../src/core/run.ts'

import { drawFrom } from './support/draw.ts'
import { adaptive, ask, fixed, program, work, workshop, type Asked, type Batch } from './support/workshop.ts'

test('fixed runs when its size is reached or its window is over, whichever comes first', async () => {
  const { clock, laneWith, batches } = workshop()
  const lane = laneWith({ policy: fixed(8, 2) })
  const alone = ask(lane, clock, work())
  await clock.run()
  const seven = ask(lane, clock, work(7))
  await clock.run(1)
  const eighth = ask(lane, clock, work())
  await clock.run()
  assert.deepEqual([alone.at, seven.at, eighth.at], [7, 12, 12])
  assert.deepEqual(
    batches.map(({ works }) => works.length),
    [1, 2],
  )
})

test('no batch waits behind a busy executor while another is idle', async () => {
  const { clock, laneWith } = workshop(() => ({ ms: 5 }), 2)
  const lane = laneWith({ policy: adaptive(4) })
  const asked = []
  for (const at of [0, 1, 1, 1, 1, 20, 20, 20, 20, 20, 20, 20, 20]) {
    if (at > clock.now()) await clock.run(at)
    asked.push(ask(lane, clock, work()))
  }
  await clock.run()
  assert.equal(asked.map(({ at }) => at).join(), '5,6,6,6,6,25,25,25,25,25,25,25,25')
  assert.deepEqual(asked[1]!.done, { outputs: asked[1]!.work.inputs, batchRows: 4, queueMs: 0, computeMs: 5 })
})

test('the next batch is staged shortly before the run ends, and no sooner', async () => {
  const { clock, laneWith, batches } = workshop()
  const lane = laneWith()
  for (let i = 0; i < 4; i++) {
    ask(lane, clock, work())
    await clock.run()
  }
  const begun = clock.now()
  ask(lane, clock, work())
  await clock.run(begun + 1)
  ask(lane, clock, work())
  await clock.run(begun + 4)
  assert.equal(batches.length, 5)
  ask(lane, clock, work())
  await clock.run(begun + 4.99)
  assert.equal(batches.length, 6, 'it is there when the worker looks for it')
  assert.equal(batches[5]!.works.length, 2)
})

test('what has waited longest runs first, whatever its lane and key', async () => {
  const { clock, laneWith, batches } = workshop()
  const lanes = [laneWith(), laneWith()]
  for (const [i, key] of ['a', 'd', 'b', 'c'].entries()) {
    ask(lanes[i % 2]!, clock, work(1, key))
    await clock.run(i)
  }
  await clock.run()
  assert.deepEqual(batches.map(({ works }) => works[0]!.key).join(''), 'adbc')
})

test('one bad request among 64 is found in 13 runs, and the others are answered', async () => {
  for (let bad = 0; bad < 64; bad++) {
    const works = Array.from({ length: 64 }, () => work())
    const endOf = (its: readonly Work[]) => (its.includes(works[bad]!) ? 'failed' : 'done')
    const { clock, laneWith, batches } = workshop((its) => ({ ms: 1, ends: endOf(its) }))
    const failures: string[] = []
    const lane = laneWith({ onFailure: (reason) => failures.push(reason) })
    const asked = works.map((each) => ask(lane, clock, each))
    await clock.run()
    for (const [i, { said }] of asked.entries()) assert.equal(said, i === bad ? 'model_failed' : 'ok')
    assert.equal(batches.length, 13)
    assert.deepEqual(failures, ['as the test says'])
  }
})

test('a batch that is lost with its worker runs once more in halves, and what is lost twice is refused', async () => {
  for (const [losses, outcomes] of [
    [1, ['ok', 'ok']],
    [2, ['model_failed', 'ok']],
    [3, ['model_failed', 'model_failed']],
  ] as const) {
    let left = losses as number
    const { clock, laneWith, batches } = workshop(() => ({ ms: 5, ...(left-- > 0 && { ends: 'lost' }) }))
    const lane = laneWith()
    const asked = [ask(lane, clock, work()), ask(lane, clock, work())]
    await clock.run()
    assert.deepEqual(
      asked.map(({ said }) => said),
      outcomes,
    )
    assert.equal(batches.filter(({ ran }) => ran === 'lost').length, losses)
    assert.ok(lane.empty)
  }
})

test('a request is refused the moment its deadline passes, and is not run after that', async () => {
  const { clock, laneWith, batches } = workshop(() => ({ ms: 20 }))
  const lane = laneWith()
  const running = ask(lane, clock, work(), 7)
  await clock.run(1)
  const waiting = ask(lane, clock, work(), 9)
  await clock.run(30)
  const late = ask(lane, clock, work(), 30)
  await clock.run()
  const told = [running, waiting, late].map(({ said, at, deadline }) => `${said} ${at - deadline}`)
  assert.deepEqual(new Set(told), new Set(['expired 0']))
  assert.equal(batches.length, 1)
})

const stranger: Claim = {
  requestId: '',
  caller: '',
  priority: 'standard',
  deadline: Infinity,
  gone: false,
  onGone: () => {},
}

test('a full queue refuses, and a client that hangs up frees its place', async () => {
  const { clock, laneWith, batches } = workshop()
  const lane = laneWith({ maxQueueRows: 6 })
  const first = [ask(lane, clock, work(3)), ask(lane, clock, work(3))]
  assert.equal(lane.reserve(stranger)?.code, 'overloaded')
  const refused = ask(lane, clock, work())
  first[0]!.hangUp()
  const gone = { ...stranger, gone: true }
  assert.ok(isRefusal(await Promise.race([lane.run(work(), gone), turn()])))
  const next = ask(lane, clock, work())
  await clock.run()
  const outcomes = [...first, refused, next].map(({ said }) => said)
  assert.deepEqual(outcomes, ['abandoned', 'ok', 'overloaded', 'ok'])
  assert.deepEqual(batches[0]!.works, [first[1]!.work, next.work])
  assert.ok(lane.empty)
})

test('whatever happens, every request gets one fair outcome and no run breaks a rule', async () => {
  for (let seed = 0; seed < 200; seed++) await storm(drawFrom(seed), `seed ${seed}`)
})

/** A random load on random lanes, with bad requests, deaths, hang-ups and deadlines; then every rule is looked at. */
async function storm(draw: (below: number) => number, seed: string): Promise<void> {
  const bad = new Set<Work>()
  const endOf = (works: readonly Work[]) => {
    if (draw(25) === 0) return 'lost'
    return works.some((each) => bad.has(each)) ? 'failed' : 'done'
  }
  const { clock, laneWith, batches } = workshop((works) => ({ ms: 1 + draw(10), ends: endOf(works) }), 1 + draw(3))
  const lanes = Array.from({ length: 1 + draw(3) }, (_, session) => {
    const maxRows = 1 + draw(16)
    const its = { ...program, session, batched: draw(5) > 0 }
    const policy = draw(2) ? adaptive(maxRows) : fixed(maxRows, draw(20))
    const asked: Asked[] = []
    return { maxRows, program: its, asked, lane: laneWith({ program: its, policy, maxQueueRows: 40 }) }
  })
  for (let i = 0; i < 80; i++) {
    const { lane, maxRows, asked } = lanes[draw(lanes.length)]!
    const own = work(1 + draw(maxRows + 3), ['a', 'b', 'c'][draw(3)])
    if (draw(20) === 0) bad.add(own)
    const caller = bad.has(own) ? 'poisoner' : 'xy'[draw(2)]!
    const deadline = draw(6) === 0 ? clock.now() + 1 + draw(20) : Infinity
    const one = ask(lane, clock, own, { deadline, caller })
    asked.push(one)
    if (draw(10) === 0) clock.after(draw(30), one.hangUp)
    if (draw(3) === 0) await clock.run(clock.now() + [0, 1, 5, 40][draw(4)]!)
  }
  await clock.run()
  for (const { maxRows, program: its, asked, lane } of lanes) {
    const own = batches.filter((batch) => batch.program === its)
    for (const { works } of own) {
      assert.equal(new Set(works.map(({ key }) => key)).size, 1, `${seed}: keys share a run`)
      const rows = works.reduce((sum, each) => sum + each.rows, 0)
      assert.ok(works.length === 1 || (its.batched && rows <= maxRows), `${seed}: ${rows} rows in a run`)
    }
    for (const key of 'abc') {
      const order = [...new Set(own.flatMap(({ works }) => works))].filter((each) => each.key === key)
      const places = order.map((each) => asked.findIndex((one) => one.work === each))
      for (const caller of 'xy') {
        const patient = places.filter((at) => asked[at]!.deadline === Infinity && asked[at]!.caller === caller)
        assert.deepEqual(patient, [...new Float64Array(patient).toSorted()], `${seed}: not first come, first run`)
      }
    }
    assert.ok(lane.empty && lane.rows === 0 && clock.now() < Infinity, `${seed}: work or a timer is left`)
    for (const each of asked) fair(each, own, bad.has(each.work), seed)
  }
}

/** What may become of a request, given what became of the runs that held it. */
function fair(each: Asked, batches: readonly Batch[], isBad: boolean, seed: string): void {
  const runs = batches.filter(({ works }) => works.includes(each.work))
  const ends = runs.map(({ ran }) => ran)
  const lost = ends.filter((end) => end === 'lost').length
  const context = `${seed}: ${each.said} after ${ends.join()}`
  const allowed: Record<string, boolean> = {
    ok: ends.at(-1) === 'done' && each.done?.outputs === each.work.inputs,
    model_failed: (isBad && ends.at(-1) === 'failed') || lost === 2,
    expired: each.at === each.deadline,
    abandoned: each.gone,
    overloaded: runs.length === 0,
    not_ready: runs.length === 0,
  }
  assert.ok(allowed[each.said], context)
  // A loss costs one more run, and a bad neighbour at most one for each halving of 16 rows.
  assert.ok(lost <= 2 && ends.filter((end) => end === 'done').length <= 1 && ends.length <= 6, context)
}
