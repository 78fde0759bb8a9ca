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

export type BatchingOptions = z.output<typeof batchingOptions>
