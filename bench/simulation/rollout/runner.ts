/** A process that simulates some rollouts of one scenario. */
import type { Order } from './grid.ts'
import type { Outcome } from './outcome.ts'
import { drawsOf } from './random.ts'
import { scenarios } from './scenarios.ts'

process.on('message', (order) => {
  process.send!(obey(order as Order))
})

function obey({ scenario, seed, from, to }: Order): readonly Outcome[] {
  const { run } = scenarios[scenario]!
  return Array.from({ length: to - from }, (_, i) => run(drawsOf(`${seed}/${scenario}/${from + i}`)))
}
