/** What has been seen of one output over all pairs of answers. */
import type { OutputVerdict } from './comparison.ts'
import { shareOf } from './comparison.ts'
import { LabelMatrix, type LabelCounts, type SavedLabels } from './label-matrix.ts'
import { ScoreHistograms, type SavedScores, type ScoreCounts } from './score-histograms.ts'
import type { WorstRow } from './worst-row.ts'

const mostSamples = 10

/** A row that disagreed: values of outputs only, never of inputs. */
export interface Sample extends WorstRow {
  readonly requestId: string
  readonly output: string
}

interface Totals {
  readonly name: string
  readonly kind: OutputVerdict['kind']
  pairs: number
  /** Sum over the pairs of the share of rows that agree. */
  shares: number
  rows: number
  agreeing: number
  /** Pairs of numbers behind the errors. */
  numbers: number
  sumError: number
  sumSquaredError: number
  maxError: number
  flips: number
  nans: number
  /** Pairs in which nothing could be compared, and why in the last of them. */
  problems: number
  lastProblem: string | null
  /** Pairs of which not everything was looked at. */
  partial: number
}

export interface SavedOutput {
  readonly totals: Readonly<Totals>
  readonly labels: SavedLabels | null
  readonly scores: SavedScores | null
  /** A distance of null is infinite, for which JSON has no number. */
  readonly samples: readonly (Omit<Sample, 'distance'> & { readonly distance: number | null })[]
}

export interface OutputSummary extends Omit<Readonly<Totals>, 'shares' | 'sumError' | 'sumSquaredError'> {
  /** Mean over the pairs of the share of rows that agree. */
  readonly agreement: number
  /** A lower bound of it that holds at every time at once. */
  readonly low: number
  /** The shadow's numbers less the primary's; undefined where there were no numbers. */
  readonly meanError: number | undefined
  readonly rmsError: number | undefined
  readonly labels: LabelCounts | undefined
  readonly scores: ScoreCounts | undefined
}

export class OutputAgreement {
  readonly #totals: Totals
  #labels: LabelMatrix | undefined
  #scores: ScoreHistograms | undefined
  /** The worst first. */
  readonly #samples: Sample[]

  constructor({ totals, labels, scores, samples }: SavedOutput) {
    this.#totals = { ...totals }
    this.#labels = labels ? new LabelMatrix(labels) : undefined
    this.#scores = scores ? new ScoreHistograms(totals.kind === 'probabilities', scores) : undefined
    this.#samples = samples.map((sample) => ({ ...sample, distance: sample.distance ?? Infinity }))
  }

  static of({ name, kind }: Pick<OutputVerdict, 'name' | 'kind'>): OutputAgreement {
    const errors = { numbers: 0, sumError: 0, sumSquaredError: 0, maxError: 0 }
    const pairs = { pairs: 0, shares: 0, problems: 0, lastProblem: null, partial: 0 }
    const totals = { name, kind, rows: 0, agreeing: 0, flips: 0, nans: 0, ...pairs, ...errors }
    return new OutputAgreement({ totals, labels: null, scores: null, samples: [] })
  }

  get samples(): readonly Sample[] {
    return this.#samples
  }

  add(verdict: OutputVerdict, requestId: string): void {
    this.#count(verdict)
    const { labels, scores, worst, kind, name } = verdict
    if (labels) (this.#labels ??= new LabelMatrix()).add(labels)
    if (scores) (this.#scores ??= new ScoreHistograms(kind === 'probabilities')).add(scores)
    if (worst) this.#keep({ ...worst, requestId, output: name })
  }

  #count(verdict: OutputVerdict): void {
    const totals = this.#totals
    totals.pairs++
    totals.shares += shareOf(verdict)
    for (const sum of sums) totals[sum] += verdict[sum]
    totals.maxError = Math.max(totals.maxError, verdict.maxError)
    if (verdict.problem !== undefined) {
      totals.problems++
      totals.lastProblem = verdict.problem
    } else if (verdict.elements < verdict.allElements) totals.partial++
  }

  #keep(sample: Sample): void {
    const at = this.#samples.findIndex(({ distance }) => distance < sample.distance)
    this.#samples.splice(at < 0 ? this.#samples.length : at, 0, sample)
    this.#samples.splice(mostSamples)
  }

  summary(lowOf: (successes: number, trials: number) => number): OutputSummary {
    const { shares, sumError, sumSquaredError, ...rest } = this.#totals
    const { pairs, numbers } = rest
    return {
      ...rest,
      agreement: shares / pairs,
      low: lowOf(shares, pairs),
      meanError: numbers > 0 ? sumError / numbers : undefined,
      rmsError: numbers > 0 ? Math.sqrt(sumSquaredError / numbers) : undefined,
      labels: this.#labels?.summary(),
      scores: this.#scores?.summary(),
    }
  }

  saved(): SavedOutput {
    return {
      totals: { ...this.#totals },
      labels: this.#labels?.saved() ?? null,
      scores: this.#scores?.saved() ?? null,
      samples: this.#samples.map((sample) => ({
        ...sample,
        distance: sample.distance === Infinity ? null : sample.distance,
      })),
    }
  }
}

const sums = ['rows', 'agreeing', 'numbers', 'sumError', 'sumSquaredError', 'flips', 'nans'] as const
