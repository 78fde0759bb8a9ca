/** How soon a bad canary is rolled back, and how often a healthy one: the shipped guards over simulated traffic. */
import { randomUUID } from 'node:crypto'
import { simulateAll, type Outcomes } from './simulation/rollout/grid.ts'
import { judge } from './simulation/rollout/judge.ts'
import { tablesOf } from './simulation/rollout/tables.ts'
import type { Bench, BenchOptions, Report, TitledTable } from './support/bench.ts'

/** For the record only: what is tuned is tuned on others. */
const recordSeed = 'record'
const quickSeed = 'quick'

export const rollout: Bench = {
  name: 'rollout',
  question: 'how soon a canary that fails more, or is slower, is rolled back, and how many healthy ones are',
  measure,
}

async function measure({ quick, say }: BenchOptions): Promise<Report> {
  const seed = quick ? quickSeed : recordSeed
  const outcomes = await simulateAll({ seed, part: quick ? 0.02 : 1, say })
  say('  the same again, with seeds that nobody has seen before')
  const fresh = await simulateAll({ seed: randomUUID(), part: quick ? 0.01 : 0.1, say })
  const [table, ...tables] = tablesOf(outcomes, fresh)
  for (const each of [table!, ...tables]) say(showTable(each))
  const { targets, ...judged } = judge(outcomes)
  return {
    figures: { ...judged.figures, fresh: judge(fresh).figures },
    targets,
    pass: judged.pass,
    table: table!.table,
    tables,
    notes: notes(outcomes, fresh),
  }
}

function showTable({ title, table: { head, rows } }: TitledTable): string {
  const line = ([first, ...cells]: readonly string[]) =>
    `  ${first!.padEnd(46)}${cells.map((cell) => cell.padStart(22)).join('')}`
  return [`  ${title}`, line(head), ...rows.map(line)].join('\n')
}

function notes(outcomes: Outcomes, fresh: Outcomes): string[] {
  const count = (all: Outcomes) => all.values().reduce((sum, { length }) => sum + length, 0)
  return [
    `${count(outcomes)} rollouts with the seeds of the record, and ${count(fresh)} with seeds drawn for this run. They are the` +
      ' shipped `Experiment` with its tick of a second, its blocks of 10 s and its guards at alpha 0.001 (shadows that are to' +
      ' be caught: 0.0005, the default), with a simulated clock; a rollback is counted when the experiment says so.',
    'Traffic: 100 requests/s, Poisson, 5 % to the canary where shares do not change. Healthy canaries fail with exactly the' +
      " control's probability, tolerate is 1 and the floor 0: the very edge of the promise. Where load is not steady it goes" +
      ' from 0.2 to 1.8 times the mean and back within the hour, and every 10 minutes 30 % more of everything fails for 15 s.' +
      ' `By schedule`: 1, 5, 10, 25, 50 %, for 12 minutes each; `by proof`: as soon as the evidence allows, after a minute.' +
      ' Users: 2,000, Zipf with exponent 1, each with a rate of failures of his own (gamma, mean 1 %, shape 0.3), who send' +
      ' each request ten times; assigned by the shipped split, counted by the shipped `Units`.',
    'Lanes: one executor serves two lanes in turn, and takes all that waits in one; a batch of b takes (4 + 0.6 b) ms times how' +
      ' heavy the model is, with lognormal noise of 15 %. 8,000 runs, or an hour, with models of which a batch is 1, 4 or 8' +
      ' times as heavy. Drift: all runs take up to 1.5 times and down to 0.5 times as long, in 5 minutes; stalls: four times' +
      ' as long, for 2 s, three times a minute. The delays of lanes begin with nothing known of either version.',
    'Fixed limits: each minute, whether more than 2 % of the canary failed; rolled back by so many failed checks in all, as' +
      ' samples of Argo Rollouts and Flagger do. Peeking: a one-sided test of two proportions on all there is so far, each' +
      ' minute for 5.5 h, at a healthy 1 %.',
  ]
}
