/** One request at a time, first come, first served: a plain web server around the model. */
import type { Contender } from '../contender.ts'
import { eager, Fifo } from './shared.ts'

export const noBatching: Contender = {
  name: 'no batching',
  create(machine) {
    const queue = new Fifo()
    const run = eager(machine, { next: () => (queue.head ? queue.take(1) : undefined) })
    return {
      arrive(request) {
        queue.push(request)
        run()
      },
    }
  },
}
