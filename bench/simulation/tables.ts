/** The scores for reading: a table for each setup and kind of arrivals. */
import type { Table, TitledTable } from '../support/bench.ts'
import { arrivalKinds, bound, loads } from './grid.ts'
import type { Place, Scores } from './scores.ts'
import { setups } from './setups.ts'
import { meanOf } from './statistics.ts'

const arrivalNames = { poisson: 'Poisson', gamma4: 'bursts (gamma, coefficient of variation 4)' }

export function tablesOf(scores: Scores, contenders: readonly string[]): readonly TitledTable[] {
  return setups.flatMap(({ name: setup }) =>
    arrivalKinds.map((arrivals) => ({
      title: `${setup}, ${arrivalNames[arrivals]}`,
      table: tableOf(scores, contenders, { setup, arrivals }),
    })),
  )
}

function tableOf(scores: Scores, contenders: readonly string[], where: Omit<Place, 'load'>): Table {
  const goodputs = (contender: string) =>
    loads.map((load) => showPercent(scores.of({ ...where, load }, contender, 'goodput')))
  const rows = contenders.map((contender) => [
    contender,
    ...goodputs(contender),
    showMean(scores.of({ ...where, load: 0.3 }, contender, 'p50Ms'), 2),
    showMean(scores.of({ ...where, load: 0.9 }, contender, 'meanRows'), 1),
  ])
  return {
    head: ['goodput in % of the limit', ...loads.map(String), 'p50 at 0.3, ms', 'rows per batch at 0.9'],
    rows: [...rows, [bound, ...goodputs(bound), '', '']],
  }
}

function showPercent(values: readonly number[]): string {
  const { mean, margin } = meanOf(values.map((value) => 100 * value))
  return `${mean.toFixed(1)} ± ${margin.toFixed(1)}`
}

/** Of the traces in which there is one: where nothing is on time there is no median. */
function showMean(values: readonly number[], digits: number): string {
  const known = values.filter((value) => !Number.isNaN(value))
  return known.length > 0 ? meanOf(known).mean.toFixed(digits) : ''
}
