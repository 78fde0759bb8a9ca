/** Simulates everything, in two processes, in pieces of some rollouts. */
import { Peer } from '../../support/processes.ts'
import type { Outcome } from './outcome.ts'
import { scenarios } from './scenarios.ts'

/** One piece of work: rollouts of a scenario from one number to before another. */
export interface Order {
  readonly scenario: string
  /** What the seeds begin with. */
  readonly seed: string
  readonly from: number
  readonly to: number
}

export interface Plan {
  readonly seed: string
  /** Of the rollouts of each scenario, which part. */
  readonly part: number
  readonly say: (line: string) => void
}

const perPiece = 100

export type Outcomes = ReadonlyMap<string, readonly Outcome[]>

/** Outcomes by scenario, in the order of their numbers, whoever finished first. */
export async function simulateAll({ seed, part, say }: Plan): Promise<Outcomes> {
  const orders = Object.entries(scenarios).flatMap(([scenario, { rollouts }]) =>
    piecesOf(Math.ceil(rollouts * part)).map(([from, to]): Order => ({ scenario, seed, from, to })),
  )
  const results: (readonly Outcome[])[] = []
  const waiting = [...orders.entries()]
  const work = async () => {
    await using peer = new Peer(new URL('runner.ts', import.meta.url))
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      const [place, order] = next
      results[place] = await peer.ask<readonly Outcome[]>(order)
      if (waiting.length > 0 && waiting.length % 100 === 0) say(`  ${waiting.length} of ${orders.length} pieces left`)
    }
  }
  await Promise.all([work(), work()])
  const byName = Map.groupBy(orders.keys(), (place) => orders[place]!.scenario)
  return new Map(byName.entries().map(([name, places]) => [name, places.flatMap((place) => results[place]!)]))
}

function piecesOf(count: number): [from: number, to: number][] {
  return Array.from({ length: Math.ceil(count / perPiece) }, (_, piece) => [
    piece * perPiece,
    Math.min(count, (piece + 1) * perPiece),
  ])
}
