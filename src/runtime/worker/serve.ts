/**
 * What a worker does, be it a thread or a process: it holds one session and runs the batches that come through its port,
 * one after another. It leaves only between runs, when it is told to.
 */
import { systemClock } from '../../core/clock.ts'
import type { Loaded, LoadOrder, Mail, Port, Task } from '../channel.ts'
import { FrameReader, type SlotMemory } from '../frame.ts'
import { comeBack } from './priority.ts'
import { Session } from './session.ts'

export async function serve(port: Port): Promise<void> {
  try {
    await work(port)
  } catch (error) {
    port.giveUp(messageOf(error))
  }
}

async function work(port: Port): Promise<void> {
  let session: Session | string = 'nothing is loaded'
  for (;;) {
    const next = port.next()
    if (next.kind === 'leave') break
    if (next.kind === 'serve') comeBack()
    else if (next.kind === 'run') await run(port, next, session)
    else {
      session = await load(next)
      port.loaded(typeof session === 'string' ? { problem: session } : loadedBy(session))
    }
  }
  if (typeof session !== 'string') await session.release()
}

async function load(order: LoadOrder): Promise<Session | string> {
  const { threads, providers } = order.options
  // Threads that the session makes would inherit the lower priority and never come back.
  if (threads > 1 || providers[0] !== 'cpu') comeBack()
  return Session.load(order).catch(messageOf)
}

function loadedBy({ graph, device }: Session): Loaded {
  return { graph, device }
}

async function run(port: Port, task: Task, session: Session | string): Promise<void> {
  const { memory } = task
  const frame = readerOf(memory).read()
  const startedAt = systemClock.now()
  let mail: Mail | undefined
  try {
    if (typeof session === 'string') throw new Error(session)
    const outputs = await session.run(frame, memory)
    if (outputs.length > 0) mail = { outputs }
  } catch (error) {
    // If it is the device, another worker may have an answer to this run.
    if (typeof session !== 'string') await session.checkDevice()
    mail = { failed: messageOf(error) }
  }
  port.finish(task, { computeMs: systemClock.now() - startedAt, mail })
}

const readers = new WeakMap<SlotMemory, FrameReader>()

function readerOf(slot: SlotMemory): FrameReader {
  let reader = readers.get(slot)
  if (!reader) readers.set(slot, (reader = new FrameReader(slot)))
  return reader
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
