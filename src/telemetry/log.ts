/** What operators must know, as JSON lines on stderr. Never input values, never secrets. */
import { destination, pino, type Logger } from 'pino'
import type { LogOptions } from './options.ts'

export type { Logger }

export function createLog({ level }: LogOptions): Logger {
  return pino({ level, base: null }, destination({ fd: 2, sync: true }))
}
