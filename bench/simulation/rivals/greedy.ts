/**
 * NVIDIA Triton's dynamic batcher as it comes and as its manual recommends it: no queue delay, no preferred sizes, so
 * that an idle instance takes whatever is queued. With a queue policy that rejects after the deadline: the time counts
 * from the arrival and is compared with now, not with when the batch would end. Across models: the oldest head first.
 */
import type { Contender } from '../contender.ts'
import { eager, expire, fifos, oldest } from './shared.ts'

export const greedy: Contender = {
  name: 'greedy, queue timeout (Triton)',
  create(machine, { lanes, maxRows }) {
    const queues = fifos(lanes)
    const run = eager(machine, {
      next() {
        for (const queue of queues) expire(machine, queue)
        return oldest(queues)?.take(maxRows)
      },
    })
    return {
      arrive(request) {
        queues[request.lane]!.push(request)
        run()
      },
    }
  },
}
