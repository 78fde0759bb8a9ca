/**
 * Clipper (NSDI 2017): the most rows of a batch go up by one whenever a full batch keeps to the deadline, and down by a
 * tenth whenever a batch does not. What counts is how long the batch ran, not how long its requests had waited. What has
 * expired already is dropped, as in the code that was published. Across models: the oldest head first.
 */
import type { Contender } from '../contender.ts'
import { eager, expire, Fifo, oldest } from './shared.ts'

class Container extends Fifo {
  cap = 1
}

export const additiveIncrease: Contender = {
  name: 'AIMD (Clipper)',
  create(machine, { lanes, maxRows, deadlineMs }) {
    const queues = Array.from({ length: lanes }, () => new Container())
    const run = eager(machine, {
      next() {
        for (const queue of queues) expire(machine, queue)
        const queue = oldest(queues)
        return queue?.take(Math.floor(queue.cap))
      },
      learn(lane, rows, ms) {
        const queue = queues[lane]!
        if (ms > deadlineMs) queue.cap = Math.max(1, queue.cap * 0.9)
        else if (rows >= Math.floor(queue.cap)) queue.cap = Math.min(maxRows, queue.cap + 1)
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
