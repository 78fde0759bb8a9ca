/**
 * A lane is where requests for one model version wait. It lets in what can be answered in time, queues it by batch key,
 * because only rows under the same key may share a run, asks its policy when to run, and hands each answer to its request.
 */
import type { Clock } from '../core/clock.ts'
import { paddedShape, shapeKey } from '../core/padding.ts'
import { refuse, Refusal } from '../core/refusal.ts'
import type { Ran, Run, Work } from '../core/run.ts'
import type { Program } from '../core/signature.ts'
import type { Accounts } from './accounts.ts'
import { Admission, retryAfterS, type Applicant } from './admission.ts'
import type { Curve } from './curve.ts'
import { Expiry } from './expiry.ts'
import { Job, type Claim, type Done, type JobFacts } from './job.ts'
import { isBetter, offerOf, type Offer, type Wait } from './offer.ts'
import type { Moment, Policy } from './policy.ts'
import type { Queue } from './queue.ts'
import { Queues } from './queues.ts'
import { Rescue, type Attempt, type RescueOptions } from './rescue.ts'
import { Suspects } from './suspects.ts'

/** What a lane asks of the arbiter. */
export interface Planner {
  /** Tells that there is something to decide. */
  poke(lane: Lane): void
  /** What the lane can count on at the moment, which is `now`. */
  momentFor(lane: Lane, now: number): Moment
}

/** What has the workers that run a lane's batches, or brings them when they are asked for. */
export interface Host {
  /** Why nothing can be run, if it will not be soon either. */
  refused(): Refusal | undefined
  /** Told that a request has come. */
  use(now: number): void
  /** When a batch could be run; `now` if at once. */
  readyAt(now: number): number
}

export interface LaneOptions extends RescueOptions {
  readonly program: Program
  readonly policy: Policy
  readonly maxQueueRows: number
  readonly clock: Clock
  readonly accounts: Accounts
  readonly planner: Planner
  readonly host: Host
  /** Told of every run that ended well. */
  readonly onRun: (rows: number, computeMs: number, key: string) => void
}

export class Lane {
  readonly #options: LaneOptions
  readonly #queues: Queues
  readonly #admission: Admission
  readonly #rescue: Rescue
  readonly #suspects: Suspects
  readonly #expiry: Expiry

  constructor(options: LaneOptions) {
    const { accounts, clock } = options
    this.#options = options
    this.#queues = new Queues(accounts)
    this.#admission = new Admission({ ...options, queues: this.#queues })
    this.#rescue = new Rescue(options)
    this.#suspects = new Suspects(clock)
    this.#expiry = new Expiry(clock, (job) => this.#giveUp(job, tooLate()))
  }

  /** Rows waiting, over all keys. */
  get rows(): number {
    return this.#queues.rows
  }

  /** How long its runs take, of the shape that came last; undefined while too few were seen. */
  get fit(): Curve['fit'] {
    return this.#queues.latest?.curve.fit
  }

  get empty(): boolean {
    return this.rows === 0 && this.#rescue.empty
  }

  get program(): Program {
    return this.#options.program
  }

  readyAt(now: number): number {
    return this.#options.host.readyAt(now)
  }

  /** How many executors it would take to serve all that comes. */
  demandAt(now: number): number {
    return this.#admission.demandAt(now)
  }

  /** Asked from the request's head, before its body is paid for. */
  reserve(claim: Claim): Refusal | undefined {
    const { host, clock } = this.#options
    const now = clock.now()
    const applicant = this.#admission.stranger(claim)
    host.use(now)
    const refusal = host.refused() ?? this.#refusalOf(claim, applicant, now)
    if (refusal && applicant) this.#admission.count(applicant, now)
    return refusal
  }

  /** Waits for a run that holds this work, and returns its share of the outputs. */
  run(asked: Work, claim: Claim): Promise<Done | Refusal> {
    const { clock, host, program } = this.#options
    const now = clock.now()
    if (claim.gone) return Promise.resolve(hungUp())
    if (claim.deadline <= now) return Promise.resolve(tooLate())
    const work = padded(asked, program)
    const queue = this.#queues.of(work.key, this.#apart(claim))
    const applicant = { claim, queue, rows: work.rows }
    this.#admission.count(applicant, now)
    host.use(now)
    const refusal = host.refused() ?? this.#refusalOf(claim, applicant, now)
    if (refusal) return Promise.resolve(refusal)
    this.#makeRoom(claim)
    return new Promise((resolve) => {
      this.#enqueue(new Job(work, claim, this.#factsOf(applicant, now), resolve), queue)
    })
  }

  /** Its expected share of a run, milliseconds; undefined while too few runs of its shape were seen. */
  predict(asked: Work, { deadline }: Pick<Claim, 'deadline'>): number | undefined {
    const { clock, program } = this.#options
    const queue = this.#queues.of(padded(asked, program).key, undefined)
    return queue.curve.known ? this.#admission.costMs(queue, asked.rows, deadline - clock.now()) : undefined
  }

  /** What must not share a run with the others: what nobody waits for, and what comes from whoever has just made one fail. */
  #apart({ caller, priority }: Claim): string | undefined {
    if (priority === 'shadow') return priority
    return this.#suspects.has(caller) ? `caller ${caller}` : undefined
  }

  #refusalOf(claim: Claim, applicant: Applicant | undefined, now: number): Refusal | undefined {
    const readyAt = this.readyAt(now)
    if (readyAt > now && readyAt > claim.deadline) return notLoaded(readyAt - now)
    const full = this.#admission.full(claim)
    if (full || !applicant) return full
    return this.#admission.late(applicant, this.#options.planner.momentFor(this, now))
  }

  /** In a full queue somebody else has to give way. */
  #makeRoom(claim: Claim): void {
    if (this.rows < this.#options.maxQueueRows) return
    const victim = this.#admission.victimOf(claim)
    if (victim) this.#giveUp(victim.job, refuse('overloaded', 'requests with more right to its place came'))
  }

  #factsOf({ claim, queue, rows }: Applicant, now: number): JobFacts {
    const costMs = this.#admission.costMs(queue, rows, claim.deadline - now)
    return { account: this.#options.accounts.of(claim.caller), queuedAt: now, costMs }
  }

  #enqueue(job: Job, queue: Queue): void {
    this.#queues.push(queue, job)
    job.watchedBy(this.#expiry)
    this.#expiry.add(job, job.queuedAt)
    job.onGone(() => this.#giveUp(job, hungUp()))
    this.#options.planner.poke(this)
  }

  #giveUp(job: Job, refusal: Refusal): void {
    const waited = job.state === 'waiting'
    job.settle(refusal)
    if (waited) this.#queues.forget(job)
  }

  /** The best batch this lane could run, given when an executor can start. */
  offer(moment: Moment, paceMs: number): Offer | Wait {
    if (!this.#rescue.empty) return this.#rescueOffer()
    let best: Offer | Wait = { kind: 'wait', until: Infinity }
    for (const queue of this.#queues.busy) {
      const offer = this.#offerOf(queue, moment, paceMs)
      if (isBetter(offer, best)) best = offer
    }
    return best
  }

  #rescueOffer(): Offer {
    const take = () => this.#rescue.next()!
    return { kind: 'run', worth: Infinity, costMs: undefined, idleOnly: false, take }
  }

  #offerOf(queue: Queue, moment: Moment, paceMs: number): Offer | Wait {
    const proposal = this.#options.policy.propose(moment, queue)
    if (proposal.kind === 'wait') return proposal
    return { ...offerOf(queue, proposal, moment, paceMs), take: () => this.#take(queue, proposal, moment) }
  }

  #take(queue: Queue, { rows, finishAt }: { rows: number; finishAt: number }, { now, startAt }: Moment): Attempt {
    // Where nothing is predicted, nothing is given up.
    const hopeless = finishAt === -Infinity ? [] : queue.hopeless(startAt, finishAt)
    for (const job of hopeless) this.#giveUp(job, givenUp())
    queue.lastRunAt = now
    const { program, policy } = this.#options
    // No row may join a request whose rows are not known to be independent: room for none takes just the one.
    const jobs = program.batched ? this.#queues.take(queue, rows, policy.maxRows) : this.#queues.take(queue, 0, 0)
    return { jobs, budget: undefined }
  }

  /** Takes in what a run took that nobody had asked for. */
  learn(key: string, rows: number, ms: number): void {
    this.#queues.of(key, undefined).curve.learn(rows, ms)
  }

  /** Nothing that waits will be run. */
  clear(refusal: Refusal): void {
    for (const queue of this.#queues.busy) for (const job of queue.all) this.#giveUp(job, refusal)
    for (let attempt = this.#rescue.next(); attempt; attempt = this.#rescue.next())
      for (const job of attempt.jobs) job.settle(refusal)
  }

  /** Runs a batch that `offer` gave, and settles each of its requests. */
  async dispatch(attempt: Attempt, run: Run): Promise<void> {
    const { clock, program, onRun } = this.#options
    const jobs = attempt.jobs.filter((job) => job.state === 'running')
    if (jobs.length === 0) return
    const live = { ...attempt, jobs }
    const startedAt = clock.now()
    const works = jobs.map((job) => job.work)
    // What an executor throws is a defect; it must not leave requests without an answer.
    const { key } = works[0]!
    const { curve } = this.#queues.of(key, undefined)
    const batchRows = jobs.reduce((sum, job) => sum + job.work.rows, 0)
    const expectedMs = curve.known ? curve.high(batchRows) : undefined
    const ran = await run(program, works, expectedMs).catch((error: unknown): Ran => {
      return { kind: 'failed', reason: `a defect: ${String(error)}` }
    })
    if (ran.kind !== 'done') return this.#save(live, ran)
    const { computeMs } = ran
    curve.learn(batchRows, computeMs)
    onRun(batchRows, computeMs, key)
    jobs.forEach((job, i) => {
      job.ran((computeMs * job.work.rows) / batchRows)
      job.settle({ outputs: ran.outputs[i]!, batchRows, queueMs: startedAt - job.queuedAt, computeMs })
    })
  }

  #save(attempt: Attempt, ran: Exclude<Ran, { kind: 'done' }>): void {
    if (ran.kind === 'failed') {
      const blamed = this.#rescue.bisect(attempt, ran.reason)
      for (const { account } of blamed) this.#suspects.add(account.caller)
    } else if (ran.kind === 'lost') this.#rescue.retry(attempt, ran)
    else this.#rescue.again(attempt)
    this.#options.planner.poke(this)
  }
}

/** What may be filled up to one size shares a key. */
function padded(work: Work, { inputs, padding }: Program): Work {
  if (padding.size === 0) return work
  const shapes = work.inputs.map(({ shape }, i) => paddedShape(inputs[i]!.spec.shape, shape, padding))
  return { ...work, key: shapeKey(shapes) }
}

function tooLate(): Refusal {
  return refuse('expired', 'the deadline passed before the model answered')
}

function notLoaded(ms: number): Refusal {
  return new Refusal('not_ready', 'the model is being loaded, which takes longer than the deadline', retryAfterS(ms))
}

function hungUp(): Refusal {
  return refuse('abandoned', 'the client hung up')
}

function givenUp(): Refusal {
  return refuse('overloaded', 'it could not be answered by its deadline any more')
}
