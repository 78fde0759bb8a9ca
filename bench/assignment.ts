/** What assigning requests to arms costs, how true it is to weights, and how many units move when weights change. */
import { Assignment } from '../src/routing/assignment.ts'
import type { Bench, BenchOptions, Report } from './support/bench.ts'
import { round, roundSpread, showSpread, spreadOf, type Spread } from './support/interleave.ts'

const maxDeviations = 4
const maxMovesRatio = 1.01
const maxTwoArmsUs = 1

export const assignment: Bench = {
  name: 'assignment',
  question: 'time to assign a unit to an arm, how far shares are from weights, and moves when weights change',
  measure,
}

const two = [95, 5]
const five = [60, 20, 10, 7, 3]

const changes: readonly (readonly [before: readonly number[], after: readonly number[]])[] = [
  [
    [0.34, 0.33, 0.33],
    [0.5, 0.25, 0.25],
  ],
  [
    [0.9, 0.05, 0.05],
    [0.8, 0.1, 0.1],
  ],
  [
    [95, 5],
    [90, 10],
  ],
]

interface Moves {
  readonly change: string
  /** Parts of all units. */
  readonly moved: number
  readonly least: number
}

function assignmentOf(weights: readonly number[]): Assignment {
  const arms = weights.map((weight, i) => ({ id: `arm-${i}`, weight }))
  return new Assignment({ salt: 'digits-7f3c91', hash: 'xxh64', arms })
}

function unitOf(number: number): string {
  return `https://login.example.com/user-${number}`
}

async function measure({ quick, say }: BenchOptions): Promise<Report> {
  const count = quick ? 100_000 : 1_000_000
  const deviations = new Map([two, five, [0.34, 0.33, 0.33]].map((weights) => [show(weights), largest(weights, count)]))
  for (const [weights, found] of deviations) say(`  ${weights}: ${found.toFixed(2)} standard deviations at the most`)
  const moves = changes.map(([before, after]) => movesOf(before, after, count))
  for (const { change, moved, least } of moves) say(`  ${change}: ${moved.toFixed(4)} move, ${least.toFixed(4)} must`)
  const [twoArmsUs, fiveArmsUs] = timesOf(quick ? 5 : 25)
  say(`  two arms ${showSpread(twoArmsUs)} µs, five ${showSpread(fiveArmsUs)} µs`)
  return report({ count, deviations, moves, twoArmsUs, fiveArmsUs })
}

function show(weights: readonly number[]): string {
  return weights.join(':')
}

/** The largest distance of an arm's share from its weight, in standard deviations of the binomial. */
function largest(weights: readonly number[], count: number): number {
  const made = assignmentOf(weights)
  const counts = weights.map(() => 0)
  for (let i = 0; i < count; i++) counts[made.pick(unitOf(i))]!++
  const distances = counts.map((found, i) => {
    const p = made.share(i)
    return Math.abs(found - count * p) / Math.sqrt(count * p * (1 - p))
  })
  return Math.max(...distances)
}

/** Against the least that must move for shares as those that were found before to become those after. */
function movesOf(before: readonly number[], after: readonly number[], count: number): Moves {
  const [old, renewed] = [assignmentOf(before), assignmentOf(after)]
  const gained = before.map(() => 0)
  let moved = 0
  for (let i = 0; i < count; i++) {
    const unit = unitOf(i)
    const [from, to] = [old.pick(unit), renewed.pick(unit)]
    if (from !== to) moved++
    gained[from]!--
    gained[to]!++
  }
  const least = gained.reduce((sum, each) => sum + Math.max(0, each), 0)
  return { change: `${show(before)} to ${show(after)}`, moved: moved / count, least: least / count }
}

/** Microseconds for a unit, with two arms and with five, in turn. */
function timesOf(slices: number): [Spread, Spread] {
  const units = Array.from({ length: 100_000 }, (_, i) => unitOf(i * 7_919))
  const run = (made: Assignment) => {
    const begin = performance.now()
    for (const unit of units) made.pick(unit)
    return ((performance.now() - begin) * 1_000) / units.length
  }
  const [withTwo, withFive] = [assignmentOf(two), assignmentOf(five)]
  const found: [number, number][] = []
  for (let i = -5; i < slices; i++) {
    const pair: [number, number] = [run(withTwo), run(withFive)]
    if (i >= 0) found.push(pair)
  }
  return [spreadOf(found.map(([first]) => first)), spreadOf(found.map(([, second]) => second))]
}

interface Figures {
  readonly count: number
  readonly deviations: ReadonlyMap<string, number>
  readonly moves: readonly Moves[]
  readonly twoArmsUs: Spread
  readonly fiveArmsUs: Spread
}

function report({ count, deviations, moves, twoArmsUs, fiveArmsUs }: Figures): Report {
  const mostDeviations = Math.max(...deviations.values())
  const movesRatio = Math.max(...moves.map(({ moved, least }) => moved / least))
  return {
    figures: {
      units: count,
      deviations: round(mostDeviations, 2),
      movesRatio: round(movesRatio, 4),
      twoArmsUs: roundSpread(twoArmsUs),
      fiveArmsUs: roundSpread(fiveArmsUs),
    },
    targets: {
      deviations: `<= ${maxDeviations}`,
      movesRatio: `<= ${maxMovesRatio}`,
      twoArmsUs: `<= ${maxTwoArmsUs}`,
    },
    pass: mostDeviations <= maxDeviations && movesRatio <= maxMovesRatio && twoArmsUs.median <= maxTwoArmsUs,
    table: {
      head: [`${count} units`, 'measured'],
      rows: [
        ...Array.from(deviations, ([weights, found]) => [
          `weights ${weights}: largest deviation of a share, binomial standard deviations`,
          found.toFixed(2),
        ]),
        ...moves.map(({ change, moved, least }) => [
          `${change}: units that move, and the least that must`,
          `${(moved * 100).toFixed(2)} %, ${(least * 100).toFixed(2)} %`,
        ]),
        ['a unit with two arms: µs', showSpread(twoArmsUs)],
        ['a unit with five arms: µs', showSpread(fiveArmsUs)],
      ],
    },
    notes: ['Hashed with xxh64; a unit is a name of 30 to 40 characters.'],
  }
}
