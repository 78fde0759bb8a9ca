/** Every kind of worker there is. To add one: write its file in backends/, add its name here. */
import type { Channel, ChannelEvents } from './channel.ts'
import { openProcess } from './backends/process.ts'
import { openThread } from './backends/thread.ts'
import type { Isolation, WorkerOptions } from './options.ts'

const backends: Readonly<Record<Isolation, (options: WorkerOptions, events: ChannelEvents) => Channel>> = {
  thread: openThread,
  process: openProcess,
}

/** Starts a worker that has nothing loaded yet. */
export function openChannel(options: WorkerOptions, events: ChannelEvents): Channel {
  return backends[options.isolation](options, events)
}
