/** The entry of a worker thread: its port is a slab. A thread that is terminated inside a native run aborts the process. */
import { parentPort, receiveMessageOnPort, workerData, type MessagePort } from 'node:worker_threads'
import { isStrings } from '../../core/tensor.ts'
import type { Loaded, Mail, Order, Port, Results, Task } from '../channel.ts'
import { Slab, slotState, type SlabMemory } from '../slab.ts'
import { stepBack } from './priority.ts'

export interface ThreadData {
  readonly memory: SlabMemory
  /** Orders to the worker, and its mail. Read without events: a worker that waits in `Atomics.wait` hears none. */
  readonly mail: MessagePort
}

const { memory, mail } = workerData as ThreadData

class SlabPort implements Port {
  readonly #slab = new Slab(memory)
  #slot = 0

  next(): Order | Task {
    const slab = this.#slab
    for (;;) {
      const seen = slab.wakeCount
      const post = receiveMessageOnPort(mail)
      if (post) return post.message as Order
      const slot = this.#slot
      if (slab.state(slot) === slotState.queued) {
        this.#slot = (slot + 1) % slab.slots
        return { kind: 'run', slot, memory: slab.slot(slot) }
      }
      slab.sleep(seen)
    }
  }

  loaded(loaded: Loaded): void {
    parentPort!.postMessage(loaded)
  }

  finish({ slot }: Task, { computeMs, mail: letter }: Results): void {
    if (letter) mail.postMessage(letter, buffersOf(letter))
    this.#slab.finish(slot, letter ? slotState.mailed : slotState.done, computeMs)
  }

  giveUp(reason: string): never {
    throw new Error(reason)
  }
}

function buffersOf(letter: Mail): ArrayBuffer[] {
  if ('failed' in letter) return []
  return letter.outputs.flatMap(({ data }) =>
    isStrings(data) ? [data.offsets.buffer, data.bytes.buffer] : [data.buffer],
  ) as ArrayBuffer[]
}

stepBack()
// Only now, because to load ONNX Runtime is part of the work.
const { serve } = await import('./serve.ts')
await serve(new SlabPort())
mail.close()
