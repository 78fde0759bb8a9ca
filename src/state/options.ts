import * as z from 'zod'

export const stateOptions = z.strictObject({
  path: z
    .string()
    .min(1)
    .default('state')
    .describe('Folder for what a gateway has to know again after a restart. It is made when first needed.'),
  store: z
    .enum(['file', 'redis'])
    .default('file')
    .describe(
      'Where it is kept: `file` in the folder, for one gateway; `redis` for all that share it, as durable as that Redis is.',
    ),
})
