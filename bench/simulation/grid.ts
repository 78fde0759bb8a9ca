/** What is simulated: every contender in every cell, for every seed. */
import { Peer } from '../support/processes.ts'
import type { Score } from './score.ts'
import { setups } from './setups.ts'
import type { ArrivalKind } from './traces.ts'

export const arrivalKinds: readonly ArrivalKind[] = ['poisson', 'gamma4']
export const loads: readonly number[] = [0.3, 0.7, 0.9, 1.2, 2]

/** What the upper bound is called where contenders have their names. */
export const bound = 'nobody can do better than'

/** One piece of work for a process. */
export interface Order {
  readonly setup: string
  readonly seed: number
  readonly requests: number
}

export interface Row {
  readonly setup: string
  readonly arrivals: ArrivalKind
  readonly load: number
  readonly seed: number
  readonly contender: string
  readonly score: Score
}

export interface Plan {
  readonly seeds: readonly number[]
  readonly requests: number
  readonly say: (line: string) => void
}

/** Rows of all cells, those of a cell in the order of the seeds, whoever finished first. */
export async function runGrid({ seeds, requests, say }: Plan): Promise<readonly Row[]> {
  const orders = seeds.flatMap((seed) => setups.map(({ name }): Order => ({ setup: name, seed, requests })))
  const waiting = [...orders.entries()]
  const results: (readonly Row[])[] = []
  let done = 0
  const work = async () => {
    await using peer = new Peer(new URL('seed-runner.ts', import.meta.url))
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      const [place, order] = next
      results[place] = await peer.ask<readonly Row[]>(order)
      if (++done % setups.length === 0) say(`  ${done} of ${orders.length} pieces`)
    }
  }
  await Promise.all([work(), work()])
  return results.flat()
}
