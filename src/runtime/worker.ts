/**
 * A worker thread: it holds sessions and runs the batches that the gateway puts into its slab, one after another.
 *
 * It leaves only between runs, when it is told to. A thread that is terminated inside a native run aborts the process.
 */
import { parentPort, receiveMessageOnPort, workerData, type MessagePort } from 'node:worker_threads'
import { systemClock } from '../core/clock.ts'
import type { Graph } from '../core/signature.ts'
import { isStrings } from '../core/tensor.ts'
import { Session, type SessionOptions } from './backends/onnx.ts'
import type { Mailed } from './batch.ts'
import { Slab, slotState, type SlabMemory } from './slab.ts'

export interface WorkerData {
  readonly memory: SlabMemory
  /** Orders to the worker, and what of a run's results does not fit a slot. Read without events: a worker that waits in
   * `Atomics.wait` hears none. */
  readonly mail: MessagePort
}

export type Order =
  | { readonly kind: 'load'; readonly session: number; readonly file: string; readonly options: SessionOptions }
  | { readonly kind: 'leave' }

/** The answer to a `load`: the graph, or why there is none. */
export type Loaded =
  | { readonly session: number; readonly graph: Graph }
  | { readonly session: number; readonly problem: string }

/** What a slot in the state `mailed` left to say. */
export type Mail = { readonly failed: string } | { readonly outputs: readonly Mailed[] }

const { memory, mail } = workerData as WorkerData
const slab = new Slab(memory)
const sessions = new Map<number, Session>()

await serve()
for (const session of sessions.values()) await session.release()
mail.close()

async function serve(): Promise<void> {
  for (let slot = 0; ;) {
    const seen = slab.wakeCount
    for (let post = receiveMessageOnPort(mail); post; post = receiveMessageOnPort(mail)) {
      const order = post.message as Order
      if (order.kind === 'leave') return
      await obey(order)
    }
    if (slab.state(slot) === slotState.queued) {
      await run(slot)
      slot = (slot + 1) % slab.slots
    } else slab.sleep(seen)
  }
}

async function obey({ session, file, options }: Extract<Order, { kind: 'load' }>): Promise<void> {
  const loaded = await load(file, options)
  if (loaded instanceof Session) sessions.set(session, loaded)
  const reply = loaded instanceof Session ? { graph: loaded.graph } : { problem: loaded }
  parentPort!.postMessage({ session, ...reply } satisfies Loaded)
}

async function load(file: string, options: SessionOptions): Promise<Session | string> {
  try {
    return await Session.load(file, options)
  } catch (error) {
    return messageOf(error)
  }
}

async function run(slot: number): Promise<void> {
  const frame = slab.readFrame(slot)
  const startedAt = systemClock.now()
  let results: Mail
  try {
    const session = sessions.get(frame.session)
    if (!session) throw new Error('the file could not be loaded again after a worker died')
    results = { outputs: await session.run(frame, slab.slot(slot)) }
  } catch (error) {
    results = { failed: messageOf(error) }
  }
  const computeMs = systemClock.now() - startedAt
  const nothingToSay = 'outputs' in results && results.outputs.length === 0
  if (!nothingToSay) mail.postMessage(results, buffersOf(results))
  slab.finish(slot, nothingToSay ? slotState.done : slotState.mailed, computeMs)
}

function buffersOf(results: Mail): ArrayBuffer[] {
  if ('failed' in results) return []
  return results.outputs.flatMap(({ data }) =>
    isStrings(data) ? [data.offsets.buffer, data.bytes.buffer] : [data.buffer],
  ) as ArrayBuffer[]
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
