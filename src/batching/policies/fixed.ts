/**
 * A size and a window, for those who know them from other servers: run when `maxRows` rows are queued, or when the
 * oldest has waited `windowMs`, counted from its arrival in the queue. Nothing is predicted, so nothing is given up.
 */
import * as z from 'zod'
import { kind } from '../../core/kinds.ts'
import type { Moment, Policy, Proposal, Waiting } from '../policy.ts'

const options = {
  maxRows: z.int().min(1).max(65_536).default(16).describe('Run as soon as this many rows wait.'),
  windowMs: z
    .number()
    .min(0)
    .max(60_000)
    .default(2)
    .describe('Run at the latest when the oldest has waited this long.'),
}

export const fixed = kind('fixed', options, ({ maxRows, windowMs }): Policy => {
  return {
    maxRows,
    propose({ now }: Moment, { rows, oldestAt }: Waiting): Proposal {
      const due = oldestAt + windowMs
      if (rows < maxRows && now < due) return { kind: 'wait', until: due }
      return { kind: 'run', rows: maxRows, finishAt: -Infinity, latestAt: due }
    },
    predict: () => -Infinity,
  }
})
