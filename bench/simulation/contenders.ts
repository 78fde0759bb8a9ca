/** Who competes. To add a rival: write its file in rivals/, add its name here. */
import type { Contender } from './contender.ts'
import { penstock } from './penstock.ts'
import { additiveIncrease } from './rivals/additive-increase.ts'
import { deferred } from './rivals/deferred.ts'
import { fixedWindow } from './rivals/fixed-window.ts'
import { greedy } from './rivals/greedy.ts'
import { noBatching } from './rivals/no-batching.ts'
import { regression } from './rivals/regression.ts'
import { sizeQueues } from './rivals/size-queues.ts'
import { slidingWindow } from './rivals/sliding-window.ts'

export const rivals: readonly Contender[] = [
  noBatching,
  fixedWindow,
  greedy,
  additiveIncrease,
  regression,
  slidingWindow,
  sizeQueues,
  deferred,
]

/** What is to be judged. */
export const ours: Contender | undefined = penstock

export const contenders: readonly Contender[] = ours ? [ours, ...rivals] : rivals
