/** The scores of all cells, to be asked for. */
import { round } from '../support/interleave.ts'
import { arrivalKinds, loads, type Row } from './grid.ts'
import type { Score } from './score.ts'
import { setups } from './setups.ts'
import { meanOf } from './statistics.ts'
import type { ArrivalKind } from './traces.ts'

export interface Place {
  readonly setup: string
  readonly arrivals: ArrivalKind
  readonly load: number
}

export class Scores {
  readonly #rows: ReadonlyMap<string, readonly Row[]>

  constructor(rows: readonly Row[]) {
    this.#rows = Map.groupBy(rows, (row) => keyOf(row, row.contender))
  }

  /** One figure of a contender in a cell, by seed. */
  of(place: Place, contender: string, figure: keyof Score): readonly number[] {
    return this.#rows.get(keyOf(place, contender))!.map(({ score }) => score[figure])
  }
}

/** Mean goodput of everybody, by load in the order of `loads`. */
export function goodputsOf(scores: Scores, contenders: readonly string[]): Record<string, readonly number[]> {
  const goodputs = (where: Omit<Place, 'load'>, contender: string) =>
    loads.map((load) => round(meanOf(scores.of({ ...where, load }, contender, 'goodput')).mean, 4))
  return Object.fromEntries(
    setups.flatMap(({ name: setup }) =>
      arrivalKinds.flatMap((arrivals) =>
        contenders.map((contender) => [`${setup}/${arrivals}/${contender}`, goodputs({ setup, arrivals }, contender)]),
      ),
    ),
  )
}

function keyOf({ setup, arrivals, load }: Place, contender: string): string {
  return `${setup}/${arrivals}/${load}/${contender}`
}
