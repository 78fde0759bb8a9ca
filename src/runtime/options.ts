import * as z from 'zod'

export const runtimeOptions = z.strictObject({
  executors: z
    .union([z.literal('auto'), z.int().min(1).max(256)])
    .default('auto')
    .describe(
      'How many workers run models. `auto` is one less than the cores, at least one: the edge needs a core too.',
    ),
  threads: z.int().min(1).max(256).default(1).describe('Threads inside one run of a model.'),
  heapMb: z
    .int()
    .min(32)
    .max(65_536)
    .default(512)
    .describe('JavaScript heap of one worker, in MiB. Weights are not in it.'),
})

export type RuntimeOptions = z.output<typeof runtimeOptions>
