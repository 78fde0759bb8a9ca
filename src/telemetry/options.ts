import * as z from 'zod'

export const logOptions = z.strictObject({
  level: z
    .enum(['debug', 'info', 'warn', 'error', 'silent'])
    .default('warn')
    .describe('Least severity that is written.'),
})

export type LogOptions = z.output<typeof logOptions>
