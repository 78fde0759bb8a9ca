/** The adaptive policy and what it decides by, as pure functions of numbers: no lane, no clock, no executor. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Curve } from '../src/batching/curve.ts'
import type { Moment, Waiting } from '../src/batching/policy.ts'
import { drawFrom } from './support/draw.ts'
import { adaptive, fixed } from './support/workshop.ts'

/** A curve that has seen `t0 + a*b` at many sizes, without noise: its margin has come down to nearly 1. */
function curveOf(t0: number, a: number): Curve {
  const curve = new Curve()
  for (let i = 0; i < 2_000; i++) curve.learn(1 + (i % 64), t0 + a * (1 + (i % 64)))
  return curve
}

const known = curveOf(5, 1)

interface Waits {
  readonly deadline: number
  readonly rows?: number
  /** Index of the class; standard without it. */
  readonly rank?: number
}

/** Jobs that wait; `rates` are rows a millisecond in each class. */
function waitingOf(
  jobs: readonly Waits[],
  facts: Partial<Waiting> & { readonly rates?: readonly number[]; readonly leastRates?: readonly number[] } = {},
): Waiting {
  const lines = [0, 1, 2, 3].map((rank) => {
    const own = jobs.filter((job) => (job.rank ?? 1) === rank).toSorted((x, y) => x.deadline - y.deadline)
    return {
      rows: own.reduce((sum, { rows = 1 }) => sum + rows, 0),
      rateAt: () => facts.rates?.[rank] ?? 0,
      leastRateAt: () => facts.leastRates?.[rank] ?? 0,
      walk(visit: (job: { deadline: number; work: { rows: number } }) => boolean) {
        own.every(({ deadline, rows = 1 }) => visit({ deadline, work: { rows } }))
      },
    }
  })
  const rows = lines.reduce((sum, line) => sum + line.rows, 0)
  return { rows, oldestAt: 0, surplus: 0, lines, curve: known, lastRunAt: -Infinity, ...facts }
}

const momentAt = (now: number, rest: Partial<Moment> = {}): Moment => {
  return { now, startAt: now, isIdle: false, executors: 1, share: 1, ...rest }
}
const due = (count: number, deadline: number, rest: Partial<Waits> = {}) =>
  Array.from({ length: count }, (): Waits => ({ deadline, ...rest }))

/** What a proposal to run is good for; fails on one to wait. */
function runOf(waiting: Waiting, moment: Moment = momentAt(0), maxRows = 64) {
  const proposal = adaptive(maxRows).propose(moment, waiting)
  assert.ok(proposal.kind === 'run')
  return proposal
}

test('the curve finds base and slope through noise, and its high quantile lies above most runs', () => {
  const draw = drawFrom(3)
  for (const [t0, a] of [
    [0.12, 0.03],
    [5, 1],
    [0, 2],
    [10, 0],
  ] as const) {
    const curve = new Curve()
    let above = 0
    for (let i = 0; i < 2_000; i++) {
      const rows = 1 + draw(64)
      const ms = (t0 + a * rows) * (0.9 + draw(201) / 1_000)
      if (i >= 1_000 && ms > curve.high(rows)) above++
      curve.learn(rows, ms)
    }
    for (const rows of [1, 8, 64]) {
      const error = curve.mean(rows) / (t0 + a * rows) - 1
      assert.ok(Math.abs(error) < 0.1, `${t0} + ${a}*${rows}: ${error}`)
    }
    assert.ok(curve.high(8) < 1.3 * curve.mean(8))
    assert.ok(above < 50, `${above} of 1000 runs above the quantile`)
  }
})

test('the curve says nothing at first, and does not believe in gains at sizes it has not seen', () => {
  const curve = new Curve()
  assert.deepEqual([curve.known, curve.mean(8)], [false, 0])
  for (let i = 0; i < 3; i++) curve.learn(1, 6)
  assert.equal(curve.known, true)
  assert.ok(Math.abs(curve.mean(1) - 6) < 1e-9)
  assert.ok(curve.mean(64) >= 64 * 5.9)
})

test('largest is the inverse of high, at any size', () => {
  const draw = drawFrom(4)
  for (let i = 0; i < 500; i++) {
    const curve = new Curve()
    const [t0, a] = [draw(100) / 10, draw(100) / 50]
    const most = 1 + draw(40)
    for (let run = 0; run < 50; run++) curve.learn(1 + draw(most), t0 + a * (1 + draw(most)) + 0.01)
    for (let rows = 1; rows < 200; rows += 1 + draw(20)) {
      const found = curve.largest(curve.high(rows), 1_000)
      assert.ok(found >= rows, `${rows} rows fit into their own time, but ${found} were found`)
      if (found < 1_000) assert.ok(curve.high(found + 1) > curve.high(rows) * (1 - 1e-6))
      assert.equal(curve.largest(curve.high(rows), rows), rows)
    }
  }
})

test('one absurd run changes next to nothing, several in a row are the new truth', () => {
  for (const factor of [1_000, 8]) {
    const curve = curveOf(5, 1)
    curve.learn(8, 13 * factor)
    assert.ok(curve.mean(8) < 13.5 && curve.high(8) < 14.5)
    for (let i = 0; i < 8; i++) curve.learn(8, 13 * factor)
    assert.ok(curve.mean(8) > 12 * factor)
    for (let i = 0; i < 8; i++) curve.learn(8, 13)
    assert.ok(curve.mean(8) < 14)
  }
  const fresh = new Curve()
  fresh.learn(4, 9_000)
  for (let i = 0; i < 4; i++) fresh.learn(4, 9)
  assert.ok(fresh.mean(4) < 10, 'a slow first run is outvoted')
})

test('whatever waits runs at once on an idle executor, all of it while nothing is known', () => {
  assert.equal(runOf(waitingOf(due(1, Infinity))).rows, 1)
  assert.equal(runOf(waitingOf(due(30, Infinity))).rows, 30)
  assert.equal(runOf(waitingOf(due(100, Infinity))).rows, 64)
  const strange = runOf(waitingOf(due(100, 1), { curve: new Curve() }))
  assert.deepEqual([strange.rows, strange.finishAt], [64, -Infinity])
})

test('a batch is no larger than lets its most urgent request be in time', () => {
  const { rows, finishAt, latestAt } = runOf(waitingOf([...due(1, 20), ...due(40, 500)]))
  assert.ok(rows >= 13 && rows <= 15, `${rows} rows`)
  assert.ok(finishAt <= 20 && latestAt >= 0)
  // Staged behind another run it has less time.
  const staged = runOf(waitingOf([...due(1, 20), ...due(40, 500)]), momentAt(0, { startAt: 10 }))
  assert.ok(staged.rows >= 3 && staged.rows <= 5, `${staged.rows} rows`)
})

test('a request that forces a small batch is given up in overload only, and only for its own class and those above', () => {
  const jobs = [...due(1, 8), ...due(40, 60)]
  assert.ok(runOf(waitingOf(jobs, { rates: [0, 0.1, 0, 0] })).finishAt <= 8)
  const overloaded = runOf(waitingOf(jobs, { rates: [0, 3, 0, 0] }))
  assert.ok(overloaded.finishAt > 8 && overloaded.rows >= 38, `${overloaded.rows} rows`)
  const urgent = [...due(1, 8, { rank: 0 }), ...due(40, 60, { rank: 2 })]
  assert.ok(
    runOf(waitingOf(urgent, { rates: [0.1, 0, 3, 0] })).finishAt <= 8,
    'bulk must not cost an interactive request',
  )
  const bulky = [...due(1, 8, { rank: 2 }), ...due(40, 60, { rank: 0 })]
  assert.ok(runOf(waitingOf(bulky, { rates: [3, 0, 0.1, 0] })).finishAt > 8, 'an overload above costs bulk requests')
})

test('where nothing can be in time, something is tried all the same, once a second', () => {
  const waiting = waitingOf(due(3, 4), { lastRunAt: -100 })
  assert.deepEqual(adaptive().propose(momentAt(0), waiting), { kind: 'wait', until: 900 })
  assert.deepEqual(runOf(waiting, momentAt(900)), { kind: 'run', rows: 1, finishAt: -Infinity, latestAt: 900 })
})

test('on an idle executor luck is tried where there is a chance', () => {
  const noisy = new Curve()
  for (let i = 0; i < 200; i++) noisy.learn(1, i % 2 ? 9 : 11)
  const idle = momentAt(0, { isIdle: true })
  const facts = { curve: noisy, lastRunAt: -100 }
  assert.ok(noisy.mean(1) < 10.5 && noisy.high(1) > 11)
  assert.equal(adaptive().propose(idle, waitingOf(due(1, 10.8), facts)).kind, 'run')
  assert.equal(adaptive().propose(momentAt(0), waitingOf(due(1, 10.8), facts)).kind, 'wait')
  assert.equal(adaptive().propose(idle, waitingOf(due(1, 8), facts)).kind, 'wait')
  const young = new Curve()
  for (let i = 0; i < 5; i++) young.learn(1, 10)
  assert.equal(adaptive().propose(idle, waitingOf(due(1, 8), { ...facts, curve: young })).kind, 'run')
})

test('several executors take turns when there is much to do, and do not wait when there is little', () => {
  const moment = momentAt(0, { executors: 4, share: 4 })
  const jobs = due(10, 30)
  const busy = waitingOf(jobs, { rates: [0, 2.4, 0, 0], lastRunAt: -1 })
  const proposal = adaptive().propose(moment, busy)
  assert.equal(proposal.kind, 'wait')
  const { until } = proposal as { until: number }
  assert.ok(until > 2 && until < 6, `until ${until}`)
  assert.equal(adaptive().propose({ ...moment, now: until, startAt: until }, busy).kind, 'run')
  assert.equal(adaptive().propose(moment, waitingOf(jobs, { rates: [0, 0.2, 0, 0], lastRunAt: -1 })).kind, 'run')
  assert.equal(adaptive().propose(momentAt(0), busy).kind, 'run', 'one executor has nobody to take turns with')
})

test('whatever is proposed keeps its word: what is kept is in time, a wait ends in a run', () => {
  const draw = drawFrom(5)
  for (let i = 0; i < 20_000; i++) {
    const jobs = Array.from({ length: 1 + draw(80) }, () => ({ deadline: draw(120), rows: 1 + draw(3), rank: draw(4) }))
    const rates = [0, 1, 2, 3].map(() => draw(40) / 10)
    const executors = 1 + draw(4)
    const now = draw(30)
    const moment = momentAt(now, { startAt: now + draw(20), executors, share: executors / (1 + draw(3)) })
    const maxRows = 4 + draw(60)
    const waiting = waitingOf(jobs, { rates, lastRunAt: now - draw(2_000) })
    const proposal = adaptive(maxRows).propose(moment, waiting)
    const kept = (finishAt: number) => jobs.filter(({ deadline }) => deadline >= finishAt)
    if (proposal.kind === 'wait') {
      assert.ok(proposal.until > now)
      assert.ok(runsAfter(proposal.until, moment, waiting, maxRows), 'it would wait for ever')
      continue
    }
    const { rows, finishAt } = proposal
    assert.ok(rows >= 1 && rows <= maxRows, `${rows} of ${maxRows} rows`)
    assert.ok(finishAt === -Infinity || Math.abs(finishAt - moment.startAt - known.high(rows)) < 1e-6)
    assert.ok(kept(finishAt).length > 0, 'nothing would be left to run')
  }
})

/** Whether a run comes in the end, if it is asked whenever it says. */
function runsAfter(from: number, moment: Moment, waiting: Waiting, maxRows: number): boolean {
  let until = from
  for (let turn = 0; turn < 10; turn++) {
    const later = { ...moment, now: until, startAt: Math.max(until, moment.startAt) }
    const next = adaptive(maxRows).propose(later, waiting)
    if (next.kind === 'run') return true
    assert.ok(next.until > until)
    ;({ until } = next)
  }
  return false
}

test('a sure overload refuses at once, and only those who are no more urgent than what overloads', () => {
  const ask = (rank: number, rates: readonly number[]) => {
    const waiting = waitingOf([], { rates, leastRates: rates })
    // Behind a run of 25 ms, with 50 ms for all: 23 rows that come later can fill a batch of 28 ms.
    const arrival = { rows: 1, rank, deadline: 50, rowsAhead: 0 }
    return adaptive().predict(momentAt(0, { startAt: 25 }), waiting, arrival) <= 50
  }
  assert.equal(ask(1, [0, 1.6, 0, 0]), false)
  assert.equal(ask(2, [0, 1.6, 0, 0]), false)
  assert.equal(ask(0, [0, 1.6, 0, 0]), true)
  assert.equal(ask(1, [0, 0.3, 0, 0]), true)
})

test('who arrives has a place in the next batch, unless it cannot be in time or others fill all it could be in', () => {
  const policy = adaptive()
  const ask = (
    rowsAhead: number,
    deadline: number,
    { rates, startAt = 0 }: { rates?: number[]; startAt?: number } = {},
  ) => {
    const waiting = waitingOf(due(rowsAhead, deadline - 1e-3), { rates: rates ?? [0, 0, 0, 0] })
    return policy.predict(momentAt(0, { startAt }), waiting, { rows: 1, rank: 1, deadline, rowsAhead }) <= deadline
  }
  assert.equal(ask(0, 7), true)
  assert.equal(ask(0, 5), false, 'not even alone')
  assert.equal(ask(0, 17, { startAt: 12 }), false, 'not behind what runs')
  assert.equal(ask(10, 20), true, 'together with those before it')
  assert.equal(ask(18, 20), false, 'the batch that it could be in is full, and there is no time for another')
  assert.equal(ask(64, 200), true, 'there is time for another')
  assert.equal(ask(64, 80, { rates: [0, 3, 0, 0] }), false, 'a small batch would be given up for a large one')
  assert.equal(ask(64, 80), true, 'but not if there is no overload')
  assert.equal(
    policy.predict(momentAt(0), waitingOf([], { curve: new Curve() }), { rows: 1, rank: 1, deadline: 1, rowsAhead: 9 }),
    -Infinity,
  )
  assert.equal(
    fixed(8, 2).predict(momentAt(0), waitingOf([]), { rows: 1, rank: 1, deadline: 1, rowsAhead: 9 }),
    -Infinity,
  )
})
