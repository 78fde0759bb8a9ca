import * as z from 'zod'
import { policies } from './policies.ts'

export const batchingOptions = z.strictObject({
  policy: policies.options
    .default({ kind: 'adaptive', maxRows: 64 })
    .describe(
      'When to run, with whom. `adaptive` runs what waits when a worker is free; `fixed` has a size and a window.',
    ),
  maxQueueRows: z
    .int()
    .min(1)
    .default(4096)
    .describe('Most rows that may wait for one version. Beyond it requests are refused with 503.'),
})

/** Between callers, over all models. */
export const fairnessOptions = z.strictObject({
  weights: z
    .record(z.string(), z.number().positive().max(1e6))
    .default({})
    .describe(
      'Shares of single callers when not all can be served; others have 1. By their full names, such as `https://login.example.com/alice` or `key:robot`; who shows nothing is a client address such as 10.0.0.7, or an IPv6 network such as 2001:db8:0:0::/64.',
    ),
})
