/** The outcomes for reading: those of the record, and those of seeds that were drawn for the run. */
import type { Table, TitledTable } from '../../support/bench.ts'
import type { Outcomes } from './grid.ts'
import { alarmsOf, delayOf, delayScenarios, healthyScenarios, lanesNames } from './judge.ts'
import { checkCounts, limitName } from './scenarios.ts'

export function tablesOf(outcomes: Outcomes, fresh: Outcomes): readonly TitledTable[] {
  return [
    { title: 'Canaries that fail more often', table: delayTable(delayScenarios, outcomes, fresh) },
    { title: 'Canaries that take longer', table: delayTable(lanesNames(), outcomes, fresh) },
    { title: 'Healthy canaries', table: alarmTable(outcomes, fresh) },
    { title: 'What others do', table: rivalTable(outcomes) },
  ]
}

function delayTable(names: readonly string[], outcomes: Outcomes, fresh: Outcomes): Table {
  return {
    head: ['seconds to the rollback', 'mean', 'p50', 'p90', 'requests or runs it got', 'rollouts', 'fresh seeds: mean'],
    rows: names.map((name) => {
      const { mean, margin, p50, p90, exposed, rollouts } = delayOf(outcomes.get(name)!)
      const others = delayOf(fresh.get(name)!)
      const got = exposed > 0 ? exposed.toFixed(0) : ''
      const spread = `${p50.toFixed(1)},${p90.toFixed(1)}`.split(',')
      return [name, showMean(mean, margin), ...spread, got, String(rollouts), showMean(others.mean, others.margin)]
    }),
  }
}

function alarmTable(outcomes: Outcomes, fresh: Outcomes): Table {
  const cells = (all: Outcomes, name: string) => {
    const { rolledBack, mismatched, rollouts } = alarmsOf(all.get(name)!)
    return [`${rolledBack} of ${rollouts}`, mismatched === undefined ? '' : `${mismatched} of ${rollouts}`]
  }
  return {
    head: ['', 'rolled back', 'sample ratio', 'fresh seeds: rolled back', 'fresh seeds: sample ratio'],
    rows: healthyScenarios.map((name) => [name, ...cells(outcomes, name), ...cells(fresh, name)]),
  }
}

function rivalTable(outcomes: Outcomes): Table {
  const delay = (name: string) => `${delayOf(outcomes.get(name)!).mean.toFixed(0)} s`
  const falsely = (name: string) => {
    const { rolledBack, rollouts } = alarmsOf(outcomes.get(name)!)
    return `${((100 * rolledBack) / rollouts).toFixed(2)} %`
  }
  return {
    head: ['', '1 % -> 3 %, mean', 'healthy 1 %: false rollbacks in an hour', 'the same, uneven'],
    rows: [
      [
        'this gateway',
        delay('1 % -> 3 %, tolerate 1'),
        falsely('ours, healthy hour'),
        falsely('failures: by schedule'),
      ],
      ...checkCounts.map((checks) => [
        `more than 2 % in a minute, ${checks} times`,
        delay(limitName(checks, '1 % -> 3 %')),
        falsely(limitName(checks, 'healthy hour')),
        falsely(limitName(checks, 'uneven hour')),
      ]),
      ['a test each minute for 5.5 h, p < 0.05', '', falsely('peeking at 0.05'), ''],
      ['a test each minute for 5.5 h, p < 0.001', '', falsely('peeking at 0.001'), ''],
      ['the test of this gateway, each request of a user counted', '', '', falsely('each request of a user')],
    ],
  }
}

function showMean(mean: number, margin: number): string {
  return Number.isFinite(mean) ? `${mean.toFixed(1)} ± ${margin.toFixed(1)}` : 'not always'
}
