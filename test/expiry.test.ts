/** Deadlines of jobs: each ends at its own, whatever came and went beside it, and nothing is left that keeps a process up. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Expiry } from '../src/batching/expiry.ts'
import type { Job } from '../src/batching/job.ts'
import { drawFrom } from './support/draw.ts'

/** A clock with timers that ring when the test says so. */
class Timers {
  time = 0
  readonly pending = new Set<{ readonly at: number; readonly callback: () => void }>()
  now = () => this.time
  epoch = () => this.time
  idle = () => 0
  soon = () => assert.fail('nothing is to be done at once')
  after = (ms: number, callback: () => void) => {
    const timer = { at: this.time + ms, callback }
    this.pending.add(timer)
    return () => void this.pending.delete(timer)
  }

  moveTo(time: number): void {
    for (;;) {
      const due = [...this.pending].filter(({ at }) => at <= time).toSorted((a, b) => a.at - b.at)[0]
      if (!due) break
      this.pending.delete(due)
      this.time = due.at
      due.callback()
    }
    this.time = time
  }
}

function jobWith(deadline: number): Job {
  return { deadline, place: -1 } as unknown as Job
}

test('jobs expire at their deadlines, in whatever order they came and others went', () => {
  const draw = drawFrom(7)
  const clock = new Timers()
  const expired = new Map<Job, number>()
  const expiry = new Expiry(clock, (job) => {
    expired.set(job, clock.time)
    expiry.delete(job)
  })
  const waiting = new Set<Job>()
  const settled = new Set<Job>()
  for (let step = 0; step < 2_000; step++) {
    const job = jobWith(clock.time + 1 + draw(200))
    expiry.add(job, clock.time)
    waiting.add(job)
    const leaving = [...waiting][draw(waiting.size)]!
    if (draw(2) === 0) {
      expiry.delete(leaving)
      waiting.delete(leaving)
      settled.add(leaving)
    }
    clock.moveTo(clock.time + draw(10))
    for (const each of waiting) if (expired.has(each)) waiting.delete(each)
    for (const each of waiting) assert.ok(each.deadline > clock.time, 'one is still there that is over')
    assert.ok(clock.pending.size <= 1)
  }
  clock.moveTo(Infinity)
  for (const [job, at] of expired) assert.equal(at, job.deadline)
  for (const job of settled) assert.ok(!expired.has(job))
  assert.equal(expired.size + settled.size, 2_000)
})

test('without jobs there is no timer', () => {
  const clock = new Timers()
  const expiry = new Expiry(clock, () => assert.fail('none is over'))
  const [one, other] = [jobWith(10), jobWith(20)]
  expiry.add(one, 0)
  expiry.add(other, 0)
  expiry.delete(one)
  assert.equal(clock.pending.size, 1)
  expiry.delete(other)
  assert.equal(clock.pending.size, 0)
})

test('one that is over sooner than all before is not late', () => {
  const clock = new Timers()
  const seen: number[] = []
  const expiry = new Expiry(clock, (job) => {
    seen.push(clock.time)
    expiry.delete(job)
  })
  for (const deadline of [30, 10, 20]) expiry.add(jobWith(deadline), 0)
  clock.moveTo(100)
  assert.deepEqual(seen, [10, 20, 30])
})
