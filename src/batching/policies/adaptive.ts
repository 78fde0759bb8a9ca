/**
 * Natural batching: run what is queued the moment an executor is free, never wait on a timer. The size of a batch then
 * follows the load by itself: alone when idle, large when busy. Greedy dispatch is 2-competitive for total flow time
 * and no online algorithm does much better (Gfeller et al. 2007).
 *
 * While the executor is busy only a full batch is staged behind the running one: any smaller batch would gain from
 * waiting for the requests that arrive meanwhile.
 */
import * as z from 'zod'
import { kind } from '../../core/kinds.ts'
import type { Policy, Proposal, Waiting } from '../policy.ts'

const options = {
  maxRows: z
    .int()
    .min(1)
    .max(65_536)
    .default(64)
    .describe('Most rows in one run. A larger request is run alone, piece by piece.'),
}

export const adaptive = kind('adaptive', options, ({ maxRows }): Policy => {
  return {
    propose(now: number, freeAt: number, { rows, oldestAt }: Waiting): Proposal {
      if (freeAt > now && rows < maxRows) return { kind: 'wait', until: freeAt }
      return { kind: 'run', rows: maxRows, worth: now - oldestAt }
    },
  }
})
