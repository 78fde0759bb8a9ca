/** How much of what can be on time is on time: the batching of this gateway and that of others on the same simulated traffic. */
import { contenders, ours, rivals } from './simulation/contenders.ts'
import { bound, runGrid } from './simulation/grid.ts'
import { goodputsOf, Scores } from './simulation/scores.ts'
import { limitPerMs, setups } from './simulation/setups.ts'
import { tablesOf } from './simulation/tables.ts'
import { isLost, verdictOn, type Comparison, type Verdict } from './simulation/verdict.ts'
import type { Bench, BenchOptions, Report, Table } from './support/bench.ts'
import { round } from './support/interleave.ts'

export const batching: Bench = {
  name: 'batching',
  question:
    'how much of what a machine can do on time is done on time, from idle to overload, beside other ways to batch on the same simulated traffic',
  measure,
}

interface Pace {
  readonly seeds: readonly number[]
  readonly requests: number
}

/** The seeds of the record are for the record: what is tuned is tuned on others. */
const fullPace: Pace = { seeds: Array.from({ length: 20 }, (_, place) => 1_001 + place), requests: 4_000 }
const quickPace: Pace = { seeds: [1, 2, 3], requests: 2_000 }

const minOfLimit: Readonly<Record<string, number>> = {
  tiny: 0.94,
  gpu50: 0.94,
  gpu25: 0.94,
  gpu25x4: 0.92,
  lanes8: 0.94,
}
const minOfOverload: Readonly<Record<string, number>> = { tiny: 0.92, gpu50: 0.95, gpu25: 0.95, gpu25x4: 0.95 }
const maxP50Ratio = 1.05

async function measure({ quick, say }: BenchOptions): Promise<Report> {
  const { seeds, requests } = quick ? quickPace : fullPace
  say(`  ${quick ? 'seeds for tuning' : 'seeds'} ${seeds[0]}..${seeds.at(-1)}, ${requests} requests each`)
  const scores = new Scores(await runGrid({ seeds, requests, say }))
  const names = contenders.map(({ name }) => name)
  const tables = tablesOf(scores, names)
  for (const { title, table } of tables) say(showTable(title, table))
  const verdict =
    ours &&
    verdictOn(
      ours.name,
      rivals.map(({ name }) => name),
      scores,
    )
  if (verdict) for (const lost of verdict.comparisons.filter(isLost)) say(`  lost: ${showComparison(lost)}`)
  const { figures, targets, pass } = verdict ? judge(verdict) : { figures: {}, targets: {}, pass: true }
  return {
    figures: { ...figures, goodputs: goodputsOf(scores, [...names, bound]) },
    targets,
    pass,
    table: setupTable(),
    tables,
    notes: [...notes(seeds.length, requests), ...(verdict ? [lostNote(verdict)] : [])],
  }
}

function judge({ ofLimit, ofOverload, p50Ratio, comparisons }: Verdict): Pick<Report, 'figures' | 'targets' | 'pass'> {
  const burstsLost = comparisons.filter((each) => each.arrivals === 'gamma4' && isLost(each)).length
  const reaches = (figures: Readonly<Record<string, number>>, least: Readonly<Record<string, number>>) =>
    Object.entries(least).every(([setup, share]) => figures[setup]! >= share)
  return {
    figures: { ofLimit, ofOverload, p50Ratio, burstsLost, comparisons },
    targets: {
      'ofLimit (Poisson at 0.9)': showLeast(minOfLimit),
      'ofOverload (Poisson at 2)': showLeast(minOfOverload),
      'p50Ratio (Poisson at 0.3)': `<= ${maxP50Ratio}`,
      'burstsLost (of 25 cells, the best rival better beyond its 95 % interval)': '= 0',
    },
    pass:
      reaches(ofLimit, minOfLimit) &&
      reaches(ofOverload, minOfOverload) &&
      Object.values(p50Ratio).every((ratio) => ratio <= maxP50Ratio) &&
      burstsLost === 0,
  }
}

function setupTable(): Table {
  return {
    head: ['setup', 'batch of b, ms', 'noise', 'most rows', 'deadline, ms', 'executors', 'lanes', 'limit, requests/s'],
    rows: setups.map((setup) => {
      const { name, baseMs, rowMs, sigma, maxRows, deadlineMs, executors, lanes } = setup
      const counts = [maxRows, deadlineMs, executors, lanes, round(1_000 * limitPerMs(setup), 0)]
      return [name, `${baseMs} + ${rowMs} b`, String(sigma), ...counts.map(String)]
    }),
  }
}

function notes(seeds: number, requests: number): string[] {
  return [
    `Mean over ${seeds} seeds with its 95 % confidence interval; by seed ${requests} requests, of which the first 15 % are not` +
      ' scored, or more where that would be less than 10 deadlines for warming up and 20 scored. Load is what is offered over the limit. Goodput is what is on time, over the smaller of the limit and what was' +
      ' offered, so that in overload, where requests can be chosen, it may exceed 100. Medians are of what was on time.',
    'Every contender has the same traces and the same noise, and learns from its own batches how long they take. Event loops,' +
      ' networks and decoding cost nothing here, for anybody. The rivals are written anew from papers and sources, at their' +
      ' best documented settings; where they want a profile, they have the fit of this gateway.',
    'The last line of a table is for a scheduler that knows all arrivals, if batches took their mean time: exact for one' +
      ' executor and one lane, an upper bound by capacity otherwise.',
  ]
}

function lostNote({ comparisons }: Verdict): string {
  const lost = comparisons.filter(isLost)
  if (lost.length === 0)
    return `In none of ${comparisons.length} cells is the best rival better beyond the interval of the paired difference.`
  return `Lost beyond the interval of the paired difference, ${lost.length} of ${comparisons.length} cells: ${lost.map(showComparison).join('; ')}.`
}

function showComparison({ setup, arrivals, load, rival, difference, margin }: Comparison): string {
  return `${setup} ${arrivals} at ${load}: ${difference} ± ${margin} points against ${rival}`
}

function showLeast(least: Readonly<Record<string, number>>): string {
  return Object.entries(least)
    .map(([setup, share]) => `${setup} >= ${share}`)
    .join(', ')
}

function showTable(title: string, { head, rows }: Table): string {
  const [first, ...others] = head
  const line = ([name, ...cells]: readonly string[]) =>
    `  ${name!.padEnd(50)}${cells.map((cell) => cell.padStart(13)).join('')}`
  return [`  ${title}`, line([first!, ...others.slice(0, -2), 'p50 at 0.3', 'rows at 0.9']), ...rows.map(line)].join(
    '\n',
  )
}
