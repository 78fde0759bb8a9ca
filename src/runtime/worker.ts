/** A worker as the gateway's thread sees it: one thread or process that holds one session, from its start to its end. */
import type { Ran, Run, Work } from '../core/run.ts'
import type { Program } from '../core/signature.ts'
import { openChannel } from './backends.ts'
import { fill, layOut, split, type Batch } from './batch.ts'
import { slots, type Channel, type Loaded, type Results } from './channel.ts'
import { maxSlotBytes, writeFrame, type SlotMemory } from './frame.ts'
import type { WorkerOptions } from './options.ts'

export interface Death {
  readonly reason: string
  /** It does not come back from a run and cannot be killed: it may yet, and then it goes. */
  readonly isHanging: boolean
}

/** A batch that lies in a slot of its worker. */
export interface Staged {
  readonly worker: Worker
  readonly batch: Batch
  readonly slot: number
  readonly memory: SlotMemory
}

interface Submitted {
  readonly staged: Staged
  readonly over: (ran: Ran) => void
}

export class Worker {
  /** False once it died, hangs, or was told to leave. */
  alive = true
  /** It was left alone in a run: nobody knows whether it comes back. */
  isHanging = false
  /** Settles when nothing of it is left. */
  readonly gone: Promise<void>
  readonly #channel: Channel
  readonly #onDeath: (death: Death) => void
  readonly #submitted: Submitted[] = []
  #onLoaded: ((loaded: Loaded) => void) | undefined
  #nextSlot = 0

  constructor(options: WorkerOptions, onDeath: (death: Death) => void) {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.gone = promise
    this.#onDeath = onDeath
    this.#channel = openChannel(options, {
      onLoaded: (loaded) => this.#onLoaded?.(loaded),
      onDone: (_, results) => this.#finish(results),
      onExit: (reason) => {
        this.#end({ reason, isHanging: false })
        resolve()
      },
    })
  }

  /** Bytes of memory that it has of its own. */
  get memory(): number | undefined {
    return this.#channel.memory()
  }

  load(file: string, options: WorkerOptions, isRepeatable: boolean = true): Promise<Loaded> {
    return new Promise((resolve) => {
      this.#onLoaded = resolve
      this.#channel.tell({ kind: 'load', file, options, isRepeatable })
    })
  }

  /** Runs a batch at once, for whoever does not go through an executor. */
  readonly run: Run = async (program, works) => {
    const staged = this.stage(program, works)
    if (typeof staged === 'string') return { kind: 'failed', reason: staged }
    return new Promise((resolve) => this.submit(staged, resolve))
  }

  /** Fills the next slot; or says why the batch cannot be held. What was staged has to be submitted before there is more. */
  stage(program: Program, works: readonly Work[]): Staged | string {
    const batch = layOut(program, works)
    if (batch.bytes > maxSlotBytes) return `the batch needs ${batch.bytes} bytes, more than a slot can have`
    const slot = this.#nextSlot
    let memory: SlotMemory
    try {
      memory = this.#channel.reserve(slot, batch.bytes)
    } catch {
      return `there is no memory for a batch of ${batch.bytes} bytes`
    }
    this.#nextSlot = (slot + 1) % slots
    writeFrame(memory, batch.frame)
    fill(batch, memory)
    return { worker: this, batch, slot, memory }
  }

  /** Runs what was staged; at once it tells that there is no worker for it, if there is none any more. */
  submit(staged: Staged, over: (ran: Ran) => void): void {
    if (!this.alive) return over({ kind: 'unstarted' })
    this.#submitted.push({ staged, over })
    this.#channel.submit(staged.slot, staged.batch)
  }

  /** It has taken too long: kills it, or leaves it alone. */
  abandon(): void {
    if (!this.alive || this.#channel.kill()) return
    this.isHanging = true
    this.#end({ reason: 'it hangs in a run, and a thread cannot be ended there: it is left alone', isHanging: true })
    this.leave()
  }

  /** Ends it whatever it does; says whether that can be done. */
  kill(): boolean {
    return this.#channel.kill()
  }

  /** Tells it that it has warmed up. */
  serve(): void {
    this.#channel.tell({ kind: 'serve' })
  }

  /** Lets it leave once it is done with what it runs. */
  leave(): void {
    this.alive = false
    this.#channel.tell({ kind: 'leave' })
  }

  #finish({ computeMs, mail }: Results): void {
    const submitted = this.#submitted.shift()
    // Of a thread that came back late.
    if (!submitted) return
    const { staged, over } = submitted
    const outputs = mail && 'failed' in mail ? mail.failed : split(staged.batch, staged.memory, mail?.outputs ?? [])
    over(typeof outputs === 'string' ? { kind: 'failed', reason: outputs } : { kind: 'done', outputs, computeMs })
  }

  /** Whoever waits for it is told in any case; that it died is told if it was not to leave. */
  #end(death: Death): void {
    const wasAlive = this.alive
    this.alive = false
    this.#onLoaded?.({ problem: `the worker died: ${death.reason}` })
    if (wasAlive) this.#onDeath(death)
    const [running, ...staged] = this.#submitted.splice(0)
    running?.over({ kind: 'lost', reason: death.reason, mayRepeat: !death.isHanging })
    for (const { over } of staged) over({ kind: 'unstarted' })
  }
}
