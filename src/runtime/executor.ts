/**
 * An executor is one worker as the gateway's thread sees it: a slab whose slots are filled in turn, and the runs that
 * are under way. When its worker dies, the runs are reported lost, and a new worker with the same sessions takes over.
 */
import { MessageChannel, receiveMessageOnPort, Worker, type MessagePort } from 'node:worker_threads'
import type { Clock } from '../core/clock.ts'
import type { Ran, Work } from '../core/run.ts'
import type { Graph, Program } from '../core/signature.ts'
import { fill, layOut, split, type Batch } from './batch.ts'
import { maxSlotBytes, Slab, slotState } from './slab.ts'
import type { Loaded, Mail, Order, WorkerData } from './worker.ts'

export interface ExecutorOptions {
  readonly slots: number
  /** Heap of the worker in MiB. Native memory, where weights and tensors live, is beside it. */
  readonly heapMb: number
  readonly threads: number
  readonly clock: Clock
  /** Told when a slot is free that was not, or a worker is alive again. */
  readonly onFree: () => void
  /** Told that a worker died and is being replaced, or that a new one could not be given all sessions. */
  readonly onTrouble: (reason: string) => void
}

interface Run {
  readonly batch: Batch
  readonly slot: number
  readonly resolve: (ran: Ran) => void
}

const firstRestartMs = 50
const slowestRestartMs = 10_000

export class Executor {
  deaths = 0
  alive = false
  readonly #options: ExecutorOptions
  readonly #files = new Map<number, string>()
  readonly #loads = new Map<number, (loaded: Loaded) => void>()
  readonly #runs: Run[] = []
  #slab!: Slab
  #mail!: MessagePort
  #nextSlot = 0
  #restartMs = firstRestartMs
  #closing = false
  #cancelRestart: (() => void) | undefined
  /** Settles when the worker there is, or the last there was, has gone. */
  #ended!: Promise<void>

  constructor(options: ExecutorOptions) {
    this.#options = options
    this.#start()
    this.alive = true
  }

  get free(): boolean {
    return this.alive && this.#runs.length < this.#slab.slots
  }

  get idle(): boolean {
    return this.#runs.length === 0
  }

  /** Loads a model file under a session number; says what the graph is, or what is wrong with the file. */
  async load(session: number, file: string): Promise<Graph | string> {
    const loaded = await this.#load(session, file)
    if ('problem' in loaded) return loaded.problem
    this.#files.set(session, file)
    return loaded.graph
  }

  /** Copies the works into the next slot and runs them together. Call only when `free`. */
  async run(program: Program, works: readonly Work[]): Promise<Ran> {
    const slot = this.#nextSlot
    const batch = this.#stage(slot, program, works)
    if (typeof batch === 'string') return { kind: 'failed', reason: batch }
    this.#nextSlot = (slot + 1) % this.#slab.slots
    return new Promise((resolve) => {
      this.#runs.push({ batch, slot, resolve })
      this.#slab.submit(slot)
      if (this.#runs.length === 1) void this.#watch(this.#slab)
    })
  }

  /** Fills a slot; or says why the batch cannot be held. */
  #stage(slot: number, program: Program, works: readonly Work[]): Batch | string {
    const batch = layOut(program, works)
    if (batch.bytes > maxSlotBytes) return `the batch needs ${batch.bytes} bytes, more than a slot can have`
    try {
      this.#slab.reserve(slot, batch.bytes)
    } catch {
      return `there is no memory for a batch of ${batch.bytes} bytes`
    }
    this.#slab.writeFrame(slot, batch.frame)
    fill(batch, this.#slab.slot(slot))
    return batch
  }

  /** Lets the worker finish what it has and leave. */
  async close(): Promise<void> {
    this.#closing = true
    this.#cancelRestart?.()
    this.#order({ kind: 'leave' })
    await this.#ended
  }

  #start(): void {
    const { slots, heapMb } = this.#options
    const { port1, port2 } = new MessageChannel()
    const slab = Slab.create(slots)
    const worker = new Worker(new URL('./worker.ts', import.meta.url), {
      workerData: { memory: slab.memory, mail: port2 } satisfies WorkerData,
      transferList: [port2],
      resourceLimits: { maxOldGenerationSizeMb: heapMb },
    })
    let reason = 'it left without being told to'
    worker.on('message', (loaded: Loaded) => this.#loads.get(loaded.session)?.(loaded))
    worker.on('error', (error) => (reason = error instanceof Error ? error.message : String(error)))
    this.#ended = new Promise((resolve) => {
      worker.on('exit', () => {
        resolve()
        this.#buryWorker(reason)
      })
    })
    this.#slab = slab
    this.#mail = port1
    this.#nextSlot = 0
  }

  #load(session: number, file: string): Promise<Loaded> {
    return new Promise((resolve) => {
      this.#loads.set(session, (loaded) => {
        this.#loads.delete(session)
        resolve(loaded)
      })
      this.#order({ kind: 'load', session, file, options: { threads: this.#options.threads } })
    })
  }

  #order(order: Order): void {
    this.#mail.postMessage(order)
    this.#slab.wake()
  }

  /** Completes runs in the order of the ring for as long as there are any. */
  async #watch(slab: Slab): Promise<void> {
    while (this.#runs.length > 0 && slab === this.#slab) {
      const seen = slab.doneCount
      this.#collect()
      if (this.#runs.length > 0) await slab.finished(seen)
    }
  }

  #collect(): void {
    for (let run = this.#runs[0]; run && this.#isOver(run); run = this.#runs[0]) {
      this.#runs.shift()
      run.resolve(this.#complete(run))
      this.#options.onFree()
    }
  }

  #isOver({ slot }: Run): boolean {
    const state = this.#slab.state(slot)
    return state === slotState.done || state === slotState.mailed
  }

  #complete({ batch, slot }: Run): Ran {
    const mailed = this.#slab.state(slot) === slotState.mailed
    const mail: Mail = mailed ? receiveMessageOnPort(this.#mail)!.message : { outputs: [] }
    const computeMs = this.#slab.computeMs(slot)
    this.#restartMs = firstRestartMs
    const outputs = 'failed' in mail ? mail.failed : split(batch, this.#slab.slot(slot), mail.outputs)
    this.#slab.release(slot)
    if (typeof outputs === 'string') return { kind: 'failed', reason: outputs }
    return { kind: 'done', outputs, computeMs }
  }

  #buryWorker(reason: string): void {
    this.alive = false
    this.#collect()
    this.#mail.close()
    if (this.#closing) return
    this.deaths++
    this.#options.onTrouble(`it died and is being replaced: ${reason}`)
    for (const [session, loaded] of this.#loads) loaded({ session, problem: `the worker died: ${reason}` })
    const [running, ...staged] = this.#runs.splice(0)
    running?.resolve({ kind: 'lost' })
    for (const { resolve } of staged) resolve({ kind: 'unstarted' })
    this.#slab.ring()
    this.#cancelRestart = this.#options.clock.after(this.#restartMs, () => void this.#restart())
    this.#restartMs = Math.min(this.#restartMs * 2, slowestRestartMs)
  }

  async #restart(): Promise<void> {
    this.#start()
    const deaths = this.deaths
    for (const [session, file] of this.#files) {
      const loaded = await this.#load(session, file)
      if (this.deaths > deaths || this.#closing) return
      if ('problem' in loaded) this.#options.onTrouble(`${file} cannot be loaded again: ${loaded.problem}`)
    }
    this.alive = true
    this.#options.onFree()
  }
}
