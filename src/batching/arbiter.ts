/**
 * The arbiter brings lanes and executors together. It decides at most once in a turn of the event loop, after all that
 * the turn received is queued, so that requests which arrive together run together.
 *
 * Of several lanes the one whose batch is worth most goes first; but each has a part of the executors' time that the
 * others cannot take from it, so that a lane whose requests are dear or patient is not starved by cheap and urgent ones.
 */
import type { Clock } from '../core/clock.ts'
import type { Ran, Run } from '../core/run.ts'
import type { Program } from '../core/signature.ts'
import type { Lane, Planner } from './lane.ts'
import type { Offer } from './offer.ts'
import type { Moment } from './policy.ts'
import { Schedule } from './schedule.ts'

export interface Executor {
  /** Whether it can take a batch now. */
  readonly free: boolean
  /** Whether it would start a batch at once. */
  readonly idle: boolean
  /** Whether it has a worker for a program at the moment. */
  takes(program: Program): boolean
  /** Runs a batch of a program that it takes. */
  readonly run: Run
}

type Start = Pick<Moment, 'now' | 'startAt' | 'isIdle'>

interface Load {
  readonly demand: number
  readonly lanes: number
}

/** A lane that asks for less of an executor's time is not counted. */
const leastDemand = 1e-3
/** Of an equal part of the executors' time, what a lane with work may count on whatever the others offer. */
const guarantee = 0.3
/** How fast the pace follows the runs, and the lag what is added to them. */
const step = 0.05
/** A batch is staged so long before the executor is free, and a part of the run before it at most. */
const stagedMs = 0.1
const mostStaged = 0.25
const longestStagedMs = 5
const leastStagedRunMs = 1

export class Arbiter implements Planner {
  readonly #clock: Clock
  readonly #executors: readonly Executor[]
  readonly #schedules: ReadonlyMap<Executor, Schedule>
  /** Lanes with something to run, and the executors' time that each is owed. */
  readonly #owed = new Map<Lane, number>()
  /** Lanes that had something lately. */
  readonly #known = new Set<Lane>()
  #decisionDue = false
  #pokedAt = 0
  #timer: { readonly at: number; readonly cancel: () => void } | undefined
  /** Expected time of a run, whoever's it is. */
  #paceMs = 1
  /** From the end of a run in the worker until it is seen here, for nine runs of ten. */
  #lagMs = 0
  /** How long a turn of the event loop goes on after something has come. */
  #turnMs = 0

  constructor(executors: readonly Executor[], clock: Clock) {
    this.#executors = executors
    this.#clock = clock
    this.#schedules = new Map(executors.map((executor) => [executor, new Schedule()]))
  }

  /** Something changed: a lane has work, or an executor is free. */
  poke(lane?: Lane): void {
    if (lane && !this.#owed.has(lane)) this.#owed.set(lane, 0)
    if (lane) this.#known.add(lane)
    if (this.#decisionDue) return
    this.#decisionDue = true
    this.#pokedAt = this.#clock.now()
    this.#clock.soon(() => {
      this.#decisionDue = false
      this.#decide()
    })
  }

  momentFor(lane: Lane, now: number): Moment {
    let startAt = Infinity
    let isIdle = false
    for (const executor of this.#executors) {
      if (!executor.takes(lane.program)) continue
      startAt = Math.min(startAt, this.#freeAt(executor, now))
      isIdle ||= executor.idle
    }
    return this.#moment(
      lane,
      { now, startAt: startAt === Infinity ? lane.readyAt(now) : startAt, isIdle },
      this.#load(now),
    )
  }

  /** Forgets when to ask again, so that nothing keeps the process alive. */
  close(): void {
    this.#timer?.cancel()
  }

  #freeAt(executor: Executor, now: number): number {
    return this.#schedules.get(executor)!.freeAt(now)
  }

  /** How many executors it would take to serve all that comes in so many lanes. */
  #load(now: number): Load {
    let demand = 0
    for (const lane of this.#known) {
      const own = lane.demandAt(now)
      demand += own
      if (own < leastDemand && lane.empty) this.#known.delete(lane)
    }
    return { demand, lanes: Math.max(1, this.#known.size) }
  }

  /** What a lane can count on, once the others have had what they need or, if that is too much, their equal part. */
  #moment(lane: Lane, { now, startAt, isIdle }: Start, { demand, lanes }: Load): Moment {
    let executors = 0
    for (const executor of this.#executors) if (executor.takes(lane.program)) executors++
    executors ||= 1
    const others = Math.max(0, demand - lane.demandAt(now))
    const share = Math.max(executors - others, executors / lanes)
    return { now, startAt: startAt + this.#lagMs, isIdle, executors, share }
  }

  #decide(): void {
    const now = this.#clock.now()
    this.#turnMs += step * (now - this.#pokedAt - this.#turnMs)
    const load = this.#load(now)
    let askAt = Infinity
    for (const lane of this.#owed.keys()) if (lane.empty) this.#owed.delete(lane)
    const passed = new Set<Executor>()
    for (;;) {
      const ready = this.#nextReady(now, passed)
      if (!ready) break
      const { best, until } = this.#best(ready, { now, startAt: ready.startAt, isIdle: ready.executor.idle }, load)
      askAt = Math.min(askAt, until)
      if (best) this.#dispatch(best.lane, best.offer, ready.executor)
      else passed.add(ready.executor)
    }
    this.#askAgain(this.#owed.size === 0 ? Infinity : Math.min(askAt, this.#nextStageAt(now)), now)
  }

  /** The executor that a batch would start on soonest, if one can take it: an idle one, or one that soon will be. */
  #nextReady(
    now: number,
    passed: ReadonlySet<Executor>,
  ): { readonly executor: Executor; readonly startAt: number } | undefined {
    let ready: { executor: Executor; startAt: number } | undefined
    for (const executor of this.#executors) {
      if (!executor.free || passed.has(executor) || (!executor.idle && this.#stageAt(executor, now) > now)) continue
      const startAt = executor.idle ? now : this.#freeAt(executor, now)
      if (!ready || startAt < ready.startAt || (executor.idle && !ready.executor.idle)) ready = { executor, startAt }
    }
    return ready
  }

  /** When a busy executor should be given its next batch. Behind a short run never: it is over before that is worth it. */
  #stageAt(executor: Executor, now: number): number {
    const schedule = this.#schedules.get(executor)!
    return schedule.runMs < leastStagedRunMs ? Infinity : schedule.freeAt(now) - this.#leadMs
  }

  /** When the next of the busy executors should be given a batch that has none yet. */
  #nextStageAt(now: number): number {
    let next = Infinity
    for (const executor of this.#executors) {
      const at = executor.free && !executor.idle ? this.#stageAt(executor, now) : now
      if (at > now) next = Math.min(next, at)
    }
    return next
  }

  /** So long before its end a run has the next one staged behind it: longer if this thread is slow to come round. */
  get #leadMs(): number {
    return Math.min(stagedMs + 2 * this.#turnMs, mostStaged * this.#paceMs, longestStagedMs)
  }

  #best({ executor }: { readonly executor: Executor }, start: Start, load: Load) {
    let best: { readonly lane: Lane; readonly offer: Offer; readonly worth: number } | undefined
    let until = Infinity
    for (const [lane, owedMs] of this.#owed) {
      if (!executor.takes(lane.program)) continue
      const offer = lane.offer(this.#moment(lane, start, load), this.#paceMs)
      if (offer.kind === 'wait') until = Math.min(until, offer.until)
      else if (!offer.idleOnly || executor.idle) {
        const isOwed = owedMs >= (offer.costMs ?? this.#paceMs) && !offer.idleOnly
        const worth = isOwed ? Number.MAX_VALUE : offer.worth
        if (!best || worth > best.worth) best = { lane, offer, worth }
      }
    }
    return { best, until }
  }

  #dispatch(lane: Lane, offer: Offer, executor: Executor): void {
    const clock = this.#clock
    const schedule = this.#schedules.get(executor)!
    this.#charge(lane, offer.costMs ?? this.#paceMs)
    const attempt = offer.take()
    if (lane.empty) this.#owed.delete(lane)
    void lane.dispatch(attempt, async (program, works, expectedMs) => {
      schedule.begin(clock.now(), offer.costMs ?? Infinity)
      let ran: Ran | undefined
      try {
        ran = await executor.run(program, works, expectedMs)
        return ran
      } finally {
        const ms = schedule.end(clock.now())
        if (ran?.kind === 'done') this.#learn(ms, ran.computeMs)
      }
    })
  }

  #charge(lane: Lane, costMs: number): void {
    const part = (guarantee * costMs) / this.#owed.size
    for (const [each, owedMs] of this.#owed) this.#owed.set(each, owedMs + part)
    this.#owed.set(lane, Math.max(0, this.#owed.get(lane)! - costMs))
  }

  #learn(ms: number, computeMs: number): void {
    this.#paceMs += step * (computeMs - this.#paceMs)
    const lag = ms - computeMs
    this.#lagMs = Math.max(0, this.#lagMs + (lag > this.#lagMs ? 0.9 : -0.1) * step * Math.max(0.1, this.#lagMs))
  }

  #askAgain(at: number, now: number): void {
    if (this.#timer?.at === at) return
    this.#timer?.cancel()
    this.#timer = undefined
    if (at === Infinity) return
    const cancel = this.#clock.after(at - now, () => {
      this.#timer = undefined
      this.poke()
    })
    this.#timer = { at, cancel }
  }
}
