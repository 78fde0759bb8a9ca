/** What operators must know, as JSON lines on stderr. Never input values, never secrets. */
import { destination, pino, type Logger } from 'pino'
import * as z from 'zod'

export const logOptions = z.strictObject({
  level: z
    .enum(['debug', 'info', 'warn', 'error', 'silent'])
    .default('warn')
    .describe('Least severity that is written.'),
})

export type { Logger }

export function createLog({ level }: z.output<typeof logOptions>): Logger {
  return pino({ level, base: null }, destination({ fd: 2, sync: true }))
}
