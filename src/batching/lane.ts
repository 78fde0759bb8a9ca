/**
 * A lane is where requests for one model version wait. It queues them by batch key, because only rows under the same
 * key may share a run; it asks its policy when to run; it hands a batch to an executor and each answer to its request.
 *
 * If a run fails, the batch is cut in half and both halves run again, so that of n requests the n-1 good ones succeed
 * and the culprit gets its own error. If a worker dies, the halves of what it ran run once more; what is lost again is
 * refused, because each try costs a worker.
 */
import type { Clock } from '../core/clock.ts'
import { refuse, type Refusal } from '../core/refusal.ts'
import type { Ran, Work } from '../core/run.ts'
import type { Program } from '../core/signature.ts'
import type { Policy } from './policy.ts'
import { Job, Queue, type Done } from './queue.ts'

export interface Executor {
  /** Whether it can take a batch now. */
  readonly free: boolean
  /** Whether it would start a batch at once. */
  readonly idle: boolean
  run(program: Program, works: readonly Work[]): Promise<Ran>
}

/** The request behind a piece of work, as far as a lane cares. */
export interface Claim {
  readonly requestId: string
  readonly deadline: number
  readonly gone: boolean
  onGone(callback: () => void): void
}

/** A batch that could run now, and what it is worth beside those of other lanes. */
export interface RunOffer {
  readonly kind: 'run'
  readonly worth: number
  readonly take: () => readonly Job[]
}

type Offer = RunOffer | { readonly kind: 'wait'; readonly until: number }

export interface LaneOptions {
  readonly program: Program
  readonly policy: Policy
  readonly maxQueueRows: number
  readonly clock: Clock
  /** Why nothing can be run at the moment, if that is so. */
  readonly refused: () => Refusal | undefined
  /** Tells the arbiter that there is something to decide. */
  readonly poke: (lane: Lane) => void
  /** Told of every run that ended well. */
  readonly onRun: (rows: number, computeMs: number) => void
  /** Told why a request's run failed; the client is not. */
  readonly onFailure: (reason: string, requestId: string) => void
}

const mostLosses = 2

export class Lane {
  /** Rows waiting, over all keys. */
  rows = 0
  readonly #options: LaneOptions
  readonly #queues = new Map<string, Queue>()
  /** Batches that must run again just as they are. */
  readonly #again: (readonly Job[])[] = []

  constructor(options: LaneOptions) {
    this.#options = options
  }

  get empty(): boolean {
    return this.rows === 0 && this.#again.length === 0
  }

  /** Asked from the request's head, before its body is paid for. */
  reserve(): Refusal | undefined {
    const refused = this.#options.refused()
    if (refused || this.rows < this.#options.maxQueueRows) return refused
    return refuse('overloaded', `${this.rows} rows are waiting for this model already`)
  }

  /** Waits for a run that holds this work, and returns its share of the outputs. */
  run(work: Work, claim: Claim): Promise<Done | Refusal> {
    if (claim.gone) return Promise.resolve(hungUp())
    if (claim.deadline <= this.#options.clock.now()) return Promise.resolve(tooLate())
    const refused = this.reserve()
    if (refused) return Promise.resolve(refused)
    return new Promise((resolve) => {
      this.#queue(work, claim, resolve)
    })
  }

  #queue(work: Work, claim: Claim, resolve: (outcome: Done | Refusal) => void): void {
    const { clock, poke } = this.#options
    const job = new Job(work, { requestId: claim.requestId, queuedAt: clock.now() }, resolve)
    const queue = this.#queues.get(work.key) ?? new Queue(work.key)
    this.#queues.set(work.key, queue)
    queue.push(job)
    this.rows += work.rows
    const giveUp = (outcome: Refusal) => {
      const waited = job.state === 'waiting'
      job.settle(outcome)
      if (waited) this.#leave(queue, () => queue.forget(job))
    }
    job.timedBy(clock.after(claim.deadline - job.queuedAt, () => giveUp(tooLate())))
    claim.onGone(() => giveUp(hungUp()))
    poke(this)
  }

  /** The best batch this lane could run, given when an executor can start. */
  offer(now: number, freeAt: number): Offer {
    const again = this.#again[0]
    if (again) return { kind: 'run', worth: Infinity, take: () => this.#again.shift() ?? [] }
    let best: Offer = { kind: 'wait', until: Infinity }
    for (const queue of this.#queues.values()) {
      const offer = this.#offerOf(queue, now, freeAt)
      if (better(offer, best)) best = offer
    }
    return best
  }

  #offerOf(queue: Queue, now: number, freeAt: number): Offer {
    const oldest = queue.oldest
    if (!oldest) return { kind: 'wait', until: Infinity }
    const proposal = this.#options.policy.propose(now, freeAt, { rows: queue.rows, oldestAt: oldest.queuedAt })
    if (proposal.kind === 'wait') return proposal
    // No row may join a request whose rows are not known to be independent: room for none takes just the one.
    const maxRows = this.#options.program.batched ? proposal.rows : 0
    return { kind: 'run', worth: proposal.worth, take: () => this.#leave(queue, () => queue.take(maxRows)) }
  }

  /** Lets something leave a queue, and keeps the books. */
  #leave<T>(queue: Queue, leave: () => T): T {
    const before = queue.rows
    const left = leave()
    this.rows -= before - queue.rows
    if (queue.rows === 0) this.#queues.delete(queue.key)
    return left
  }

  /** Runs a batch that `offer` gave, and settles each of its requests. */
  async dispatch(jobs: readonly Job[], executor: Executor): Promise<void> {
    const { clock, program, onRun } = this.#options
    const live = jobs.filter((job) => job.state === 'running')
    if (live.length === 0) return
    const startedAt = clock.now()
    const works = live.map((job) => job.work)
    // What an executor throws is a defect; it must not leave requests without an answer.
    const ran = await executor.run(program, works).catch((error: unknown): Ran => {
      return { kind: 'failed', reason: `a defect: ${String(error)}` }
    })
    if (ran.kind === 'failed') return this.#bisect(live, ran.reason)
    if (ran.kind === 'lost') return this.#rescue(live)
    if (ran.kind === 'unstarted') return this.#runAgain([live])
    const { computeMs } = ran
    const batchRows = live.reduce((sum, job) => sum + job.work.rows, 0)
    onRun(batchRows, computeMs)
    live.forEach((job, i) => {
      job.settle({ outputs: ran.outputs[i]!, batchRows, queueMs: startedAt - job.queuedAt, computeMs })
    })
  }

  #bisect(jobs: readonly Job[], reason: string): void {
    if (jobs.length > 1) return this.#runAgain(halves(jobs))
    this.#options.onFailure(reason, jobs[0]!.requestId)
    jobs[0]!.settle(refuse('model_failed', "the model failed on this input; the gateway's log says why"))
  }

  /** Halves here too: of the requests beside the one that killed the worker, half are out of its way. */
  #rescue(jobs: readonly Job[]): void {
    for (const job of jobs) if (++job.losses >= mostLosses) job.settle(refuse('model_failed', diedTwice))
    this.#runAgain(halves(jobs))
  }

  #runAgain(batches: readonly (readonly Job[])[]): void {
    this.#again.push(...batches.filter((jobs) => jobs.length > 0))
    this.#options.poke(this)
  }
}

function halves(jobs: readonly Job[]): (readonly Job[])[] {
  const middle = Math.ceil(jobs.length / 2)
  return [jobs.slice(0, middle), jobs.slice(middle)]
}

const diedTwice = 'the worker died twice while it ran the batch that held this request'

function better(offer: Offer, than: Offer): boolean {
  if (offer.kind === 'wait') return than.kind === 'wait' && offer.until < than.until
  return than.kind === 'wait' || offer.worth > than.worth
}

function tooLate(): Refusal {
  return refuse('expired', 'the deadline passed before the model answered')
}

function hungUp(): Refusal {
  return refuse('abandoned', 'the client hung up')
}
