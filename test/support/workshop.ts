/** A clock that a test holds in its hand, and executors that run as it says: all that lanes and their arbiter need. */
import assert from 'node:assert/strict'
import { setImmediate as turn } from 'node:timers/promises'
import { Accounts } from '../../src/batching/accounts.ts'
import { Arbiter } from '../../src/batching/arbiter.ts'
import { Lane, type LaneOptions } from '../../src/batching/lane.ts'
import { policies } from '../../src/batching/policies.ts'
import type { Done } from '../../src/batching/job.ts'
import type { Clock } from '../../src/core/clock.ts'
import { noPadding } from '../../src/core/padding.ts'
import type { Priority } from '../../src/core/priority.ts'
import { isRefusal, refuse } from '../../src/core/refusal.ts'
import type { Ran, Work } from '../../src/core/run.ts'
import type { Program } from '../../src/core/signature.ts'

interface Timer {
  readonly at: number
  readonly callback: () => void
  isCancelled: boolean
}

/** A clock that stands still until `run` moves it from one timer to the next. */
class HandClock implements Clock {
  #now = 0
  #soon: (() => void)[] = []
  /** The next one last. */
  #timers: Timer[] = []
  now = () => this.#now
  epoch = () => this.#now
  idle = () => 0
  soon = (callback: () => void) => void this.#soon.push(callback)
  after = (ms: number, callback: () => void) => {
    const timer = { at: this.#now + Math.max(0, ms), callback, isCancelled: false }
    let [from, to] = [0, this.#timers.length]
    while (from < to) {
      const middle = (from + to) >> 1
      if (this.#timers[middle]!.at > timer.at) from = middle + 1
      else to = middle
    }
    this.#timers.splice(from, 0, timer)
    return () => void (timer.isCancelled = true)
  }

  /** The machine slept: time has passed, and nothing has happened in it. */
  jump(ms: number): void {
    this.#now += ms
  }

  /** Lets everything happen, up to and with `until`. */
  async run(until = Infinity): Promise<void> {
    for (;;) {
      await turn()
      const soon = this.#soon.splice(0)
      for (const callback of soon) callback()
      if (soon.length > 0) continue
      while (this.#timers.at(-1)?.isCancelled) this.#timers.pop()
      const next = this.#timers.at(-1)
      if (!next || next.at > until) break
      this.#timers.pop()
      this.#now = Math.max(this.#now, next.at)
      next.callback()
    }
    if (until < Infinity) this.#now = Math.max(this.#now, until)
  }
}

export interface Batch {
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
      for (const [i, { batch, resolve }] of over.entries()) {
        batch.ran = i > 0 ? 'unstarted' : ends
        resolve(ranAs(batch.ran, batch.works, ms))
      }
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
    takes: () => own.alive,
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
  const reason = 'as the test says'
  if (kind === 'lost') return { kind, reason, mayRepeat: true }
  return kind === 'failed' ? { kind, reason } : { kind }
}

/** Work that a run gives back: its list of inputs can be told from any other. */
export function work(rows = 1, key = ''): Work {
  return { rows, key, inputs: [] }
}

export const program: Program = {
  id: 0,
  inputs: [],
  outputs: [],
  batched: true,
  runRows: 64,
  repeatable: true,
  padding: noPadding,
}
export const adaptive = (maxRows = 64) => policies.create({ kind: 'adaptive', maxRows })
export const fixed = (maxRows: number, windowMs: number) => policies.create({ kind: 'fixed', maxRows, windowMs })

/** Lanes, executors and a clock, put together as the gateway does. */
export function workshop(outcome: Outcome = () => ({ ms: 5 }), count = 1, weights: Record<string, number> = {}) {
  const clock = new HandClock()
  const batches: Batch[] = []
  const hands = Array.from({ length: count }, () => hand(clock, outcome, batches, () => arbiter.poke()))
  const arbiter = new Arbiter(hands, clock)
  const accounts = new Accounts(weights)
  const laneWith = (options: Partial<LaneOptions> = {}) =>
    new Lane({
      program,
      policy: adaptive(),
      maxQueueRows: 4096,
      clock,
      host: {
        refused: () => (hands.some(({ alive }) => alive) ? undefined : refuse('not_ready', 'no worker')),
        use: () => {},
        readyAt: (now) => now,
      },
      accounts,
      planner: arbiter,
      onRun: () => {},
      onExtraRun: () => {},
      onFailure: () => {},
      ...options,
    })
  return { clock, laneWith, batches }
}

/** What a request asks for beside its work. */
export interface Wish {
  readonly deadline?: number
  readonly caller?: string
  readonly priority?: Priority
}

/** A request in a lane, and what became of it when. */
export function ask(lane: Lane, clock: Clock, its: Work, wish: number | Wish = Infinity) {
  const {
    deadline = Infinity,
    caller = '',
    priority = 'standard',
  } = typeof wish === 'number' ? { deadline: wish } : wish
  const gone: (() => void)[] = []
  const asked = {
    requestId: '',
    caller,
    priority,
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

export type Asked = ReturnType<typeof ask>
