/** A worker that is a thread: the fastest, for it shares memory with the gateway, and with it what a native crash does. */
import { MessageChannel, receiveMessageOnPort, Worker, type MessagePort } from 'node:worker_threads'
import { slots, type Channel, type ChannelEvents, type Loaded, type Mail, type Order } from '../channel.ts'
import type { SlotMemory } from '../frame.ts'
import type { WorkerOptions } from '../options.ts'
import { Slab, slotState } from '../slab.ts'
import type { ThreadData } from '../worker/thread.ts'

export function openThread({ heapMb }: WorkerOptions, events: ChannelEvents): Channel {
  return new ThreadChannel(heapMb, events)
}

class ThreadChannel implements Channel {
  readonly #slab = Slab.create(slots)
  readonly #worker: Worker
  readonly #mail: MessagePort
  readonly #events: ChannelEvents
  /** Slots whose runs are not over, in turn. */
  readonly #submitted: number[] = []

  constructor(heapMb: number, events: ChannelEvents) {
    const { port1, port2 } = new MessageChannel()
    const data: ThreadData = { memory: this.#slab.memory, mail: port2 }
    const worker = new Worker(new URL('../worker/thread.ts', import.meta.url), {
      workerData: data,
      transferList: [port2],
      resourceLimits: { maxOldGenerationSizeMb: heapMb },
    })
    let reason = 'it left without being told to'
    worker.on('message', (loaded: Loaded) => events.onLoaded(loaded))
    worker.on('error', (error) => (reason = error instanceof Error ? error.message : String(error)))
    worker.on('exit', () => {
      this.#collect()
      this.#mail.close()
      this.#submitted.length = 0
      this.#slab.ring()
      events.onExit(reason)
    })
    this.#worker = worker
    this.#mail = port1
    this.#events = events
  }

  reserve(slot: number, bytes: number): SlotMemory {
    return this.#slab.reserve(slot, bytes)
  }

  submit(slot: number): void {
    this.#submitted.push(slot)
    this.#slab.submit(slot)
    if (this.#submitted.length === 1) void this.#watch()
  }

  tell(order: Order): void {
    this.#mail.postMessage(order)
    this.#slab.wake()
  }

  kill(): boolean {
    this.#worker.unref()
    return false
  }

  memory(): undefined {
    return undefined
  }

  /** Reports runs in their turn for as long as there are any. */
  async #watch(): Promise<void> {
    while (this.#submitted.length > 0) {
      const seen = this.#slab.doneCount
      this.#collect()
      if (this.#submitted.length > 0) await this.#slab.finished(seen)
    }
  }

  #collect(): void {
    for (let slot = this.#submitted[0]; slot !== undefined; slot = this.#submitted[0]) {
      const state = this.#slab.state(slot)
      if (state !== slotState.done && state !== slotState.mailed) return
      this.#submitted.shift()
      const mail = state === slotState.mailed ? (receiveMessageOnPort(this.#mail)!.message as Mail) : undefined
      this.#slab.release(slot)
      this.#events.onDone(slot, { computeMs: this.#slab.computeMs(slot), mail })
    }
  }
}
