/**
 * The pure half of batching: policies, the queue, and lanes with their arbiter on a clock that the test holds and
 * executors that answer as the test says.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { Arbiter } from '../src/batching/arbiter.ts'
import { Lane, type LaneOptions } from '../src/batching/lane.ts'
import { policies } from '../src/batching/policies.ts'
import type { Done } from '../src/batching/queue.ts'
import type { Clock } from '../src/core/clock.ts'
import { isRefusal, refuse } from '../src/core/refusal.ts'
import type { Ran, Work } from '../src/core/run.ts'
import type { Program } from '../src/core/signature.ts'

/** A clock that stands still until `run` moves it from one timer to the next. */
class HandClock implements Clock {
  #now = 0
  #soon: (() => void)[] = []
  #timers: { at: number; callback: () => void }[] = []
  now = () => this.#now
  epoch = () => this.#now
  soon = (callback: () => void) => void this.#soon.push(callback)
  after = (ms: number, callback: () => void) => {
    const timer = { at: this.#now + Math.max(0, ms), callback }
    this.#timers.push(timer)
    return () => void (this.#timers = this.#timers.filter((each) => each !== timer))
  }

  /** Lets everything happen, up to and with `until`. */
  async run(until = Infinity): Promise<void> {
    for (;;) {
      await turn()
      const soon = this.#soon.splice(0)
      for (const callback of soon) callback()
      if (soon.length > 0) continue
      const [next] = this.#timers.toSorted((a, b) => a.at - b.at)
      if (!next || next.at > until) break
      this.#timers = this.#timers.filter((each) => each !== next)
      this.#now = next.at
      next.callback()
    }
    if (until < Infinity) this.#now = Math.max(this.#now, until)
  }
}

interface Batch {
  readonly program: Program
  readonly works: readonly Work[]
  ran?: Ran['kind']
}

/** How long a run takes, and how it ends. */
type Outcome = (works: readonly Work[]) => { readonly ms: number; readonly ends?: Ran['kind'] }

/** An executor with two slots: it runs one batch after another; one that died takes what it held along and comes back. */
function hand(clock: Clock, outcome: Outcome, batches: Batch[], onFree: () => void) {
  const staged: { batch: Batch; resolve: (ran: Ran) => void }[] = []
  const start = () => {
    const { ms, ends = 'done' } = outcome(staged[0]!.batch.works)
    clock.after(ms, () => {
      const over = staged.splice(0, ends === 'lost' ? staged.length : 1)
      for (const { batch, resolve } of over) resolve(ranAs((batch.ran = ends), batch.works, ms))
      if (staged.length > 0) start()
      own.alive = ends !== 'lost'
      clock.after(own.alive ? 0 : 50, () => {
        own.alive = true
        onFree()
      })
    })
  }
  const own = {
    alive: true,
    get free() {
      return own.alive && staged.length < 2
    },
    get idle() {
      return staged.length === 0
    },
    run(its: Program, works: readonly Work[]): Promise<Ran> {
      assert.ok(own.free, 'a batch for an executor that is not free')
      const batch: Batch = { program: its, works }
      batches.push(batch)
      return new Promise((resolve) => staged.push({ batch, resolve }) === 1 && start())
    },
  }
  return own
}

function ranAs(kind: Ran['kind'], works: readonly Work[], computeMs: number): Ran {
  if (kind === 'done') return { kind, outputs: works.map(({ inputs }) => inputs), computeMs }
  return kind === 'lost' ? { kind } : { kind, reason: 'as the test says' }
}

/** Work that a run gives back: its list of inputs can be told from any other. */
function work(rows = 1, key = ''): Work {
  return { rows, key, inputs: [] }
}

const program: Program = { session: 0, inputs: [], outputs: [], batched: true, runRows: 64 }
const adaptive = (maxRows = 64) => policies.create({ kind: 'adaptive', maxRows })
const fixed = (maxRows: number, windowMs: number) => policies.create({ kind: 'fixed', maxRows, windowMs })

/** Lanes, executors and a clock, put together as the gateway does. */
function workshop(outcome: Outcome = () => ({ ms: 5 }), count = 1) {
  const clock = new HandClock()
  const batches: Batch[] = []
  const hands = Array.from({ length: count }, () => hand(clock, outcome, batches, () => arbiter.poke()))
  const arbiter = new Arbiter(hands, clock)
  const laneWith = (options: Partial<LaneOptions> = {}) =>
    new Lane({
      program,
      policy: adaptive(),
      maxQueueRows: 4096,
      clock,
      refused: () => (hands.some(({ alive }) => alive) ? undefined : refuse('not_ready', 'no worker')),
      poke: (lane) => arbiter.poke(lane),
      onRun: () => {},
      onFailure: () => {},
      ...options,
    })
  return { clock, laneWith, batches }
}

/** A request in a lane, and what became of it when. */
function ask(lane: Lane, clock: Clock, its: Work, deadline = Infinity) {
  const gone: (() => void)[] = []
  const asked = {
    work: its,
    deadline,
    gone: false,
    said: 'nothing',
    done: undefined as Done | undefined,
    at: NaN,
    onGone: (callback: () => void) => void gone.push(callback),
    hangUp: () => {
      asked.gone = true
      for (const callback of gone) callback()
    },
  }
  const listen = async () => {
    const outcome = await lane.run(its, asked)
    if (isRefusal(outcome)) asked.said = outcome.code
    else Object.assign(asked, { said: 'ok', done: outcome })
    asked.at = clock.now()
  }
  void listen()
  return asked
}

type Asked = ReturnType<typeof ask>

/** A seeded draw of whole numbers below a bound. */
function drawFrom(seed: number): (below: number) => number {
  let state = Math.imul(seed + 1, 0x9e3779b1)
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

const run = (rows: number, worth: number) => ({ kind: 'run', rows, worth })
const wait = (until: number) => ({ kind: 'wait', until })

test('adaptive runs what there is on an idle executor and stages only full batches behind a busy one', () => {
  for (const [now, freeAt, rows, oldestAt, expected] of [
    [10, 10, 1, 10, run(8, 0)],
    [10, 4, 3, 7, run(8, 3)],
    [10, 10, 100, 0, run(8, 10)],
    [10, Infinity, 7, 1, wait(Infinity)],
    [10, 12, 7, 1, wait(12)],
    [10, Infinity, 8, 1, run(8, 9)],
  ] as const) {
    assert.deepEqual(adaptive(8).propose(now, freeAt, { rows, oldestAt }), expected)
  }
})

test('fixed runs when its size is reached or its window is over, whichever comes first', async () => {
  const policy = fixed(8, 2)
  assert.deepEqual(policy.propose(10, 10, { rows: 1, oldestAt: 10 }), wait(12))
  assert.deepEqual(policy.propose(11.9, 11.9, { rows: 7, oldestAt: 10 }), wait(12))
  assert.deepEqual(policy.propose(12, 12, { rows: 1, oldestAt: 10 }), run(8, 2))
  assert.deepEqual(policy.propose(10, 10, { rows: 8, oldestAt: 10 }), run(8, 0))
  const { clock, laneWith } = workshop()
  const alone = ask(laneWith({ policy }), clock, work())
  await clock.run()
  assert.equal(alone.at, 7)
})

test('a policy that waits says until when, and runs then', () => {
  const draw = drawFrom(1)
  for (let i = 0; i < 5_000; i++) {
    const policy = draw(2) ? adaptive(1 + draw(20)) : fixed(1 + draw(20), draw(50) / 10)
    const now = draw(1_000) / 10
    const waiting = { rows: 1 + draw(40), oldestAt: now - draw(100) / 10 }
    const proposal = policy.propose(now, [now - 1, now, now + 3, Infinity][draw(4)]!, waiting)
    if (proposal.kind === 'run' || proposal.until === Infinity) continue
    assert.ok(proposal.until > now)
    assert.equal(policy.propose(proposal.until, proposal.until, waiting).kind, 'run')
  }
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
    assert.equal(batches.length, 3)
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

test('a full queue refuses, and a client that hangs up frees its place', async () => {
  const { clock, laneWith, batches } = workshop()
  const lane = laneWith({ maxQueueRows: 6 })
  const first = [ask(lane, clock, work(3)), ask(lane, clock, work(3))]
  assert.equal(lane.reserve()?.code, 'overloaded')
  const refused = ask(lane, clock, work())
  first[0]!.hangUp()
  const gone = { deadline: Infinity, gone: true, onGone: () => {} }
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
    const one = ask(lane, clock, own, draw(6) === 0 ? clock.now() + 1 + draw(20) : Infinity)
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
      assert.deepEqual(places, [...new Float64Array(places).toSorted()], `${seed}: not first come, first run`)
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
