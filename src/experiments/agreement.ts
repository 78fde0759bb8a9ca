/** How well a shadow agrees with the primary, over all pairs of their answers. */
import type { PairVerdict } from './comparison.ts'
import { OutputAgreement, type OutputSummary, type Sample, type SavedOutput } from './output-agreement.ts'

const mostOutputs = 64
const mostSlices = 64
const mostSliceLength = 64
const mostSamples = 10
const otherSlices = '_other'

/**
 * An interval of a proportion that holds at every time at once. Successes need not be whole: a likelihood of Bernoulli
 * draws is convex in the draw, so what bounds the mean of draws of 0 and 1 bounds that of shares between them too.
 */
export type ProportionInterval = (successes: number, trials: number, alpha: number) => { readonly low: number }

/** Which side had no answer to compare. */
export type Failed = 'primary' | 'shadow' | 'both'

interface Counts {
  /** That were compared. */
  pairs: number
  agreeingPairs: number
  /** Sum over the pairs of the share of rows that agree, in the output that agrees least. */
  shares: number
  /** Shadows that were not run, or not to an end that says something about them. */
  dropped: number
  readonly failures: Record<Failed, number>
}

type SliceCounts = Pick<Counts, 'pairs' | 'shares'>

export interface SavedAgreement {
  readonly counts: Readonly<Counts>
  readonly outputs: readonly SavedOutput[]
  readonly slices: readonly (readonly [slice: string, counts: Readonly<SliceCounts>])[]
}

export interface SliceSummary {
  readonly slice: string
  readonly pairs: number
  readonly agreement: number
}

export interface AgreementSummary {
  readonly pairs: number
  /** Pairs in which all rows of all outputs agree. */
  readonly agreeingPairs: number
  /** Mean over the pairs of the share of rows that agree, in the output that agrees least; undefined before any. */
  readonly agreement: number | undefined
  /** A lower bound of it that holds at every time at once, but for a probability of alpha. */
  readonly low: number
  readonly dropped: number
  readonly failures: Readonly<Record<Failed, number>>
  readonly outputs: readonly OutputSummary[]
  readonly slices: readonly SliceSummary[]
  /** Of each output its worst, then of each its second worst, and so on: 10 in all. */
  readonly samples: readonly Sample[]
}

export interface PairFacts {
  readonly requestId: string
  /** Which slices the request belongs to, such as `country=CH`. */
  readonly slices: readonly string[]
}

export class Agreement {
  readonly #counts: Counts
  readonly #outputs: Map<string, OutputAgreement>
  readonly #slices: Map<string, SliceCounts>

  constructor(saved?: SavedAgreement) {
    const { failures = { primary: 0, shadow: 0, both: 0 }, ...counts } = saved?.counts ?? {}
    this.#counts = { pairs: 0, agreeingPairs: 0, shares: 0, dropped: 0, ...counts, failures: { ...failures } }
    this.#outputs = new Map(saved?.outputs.map((output) => [output.totals.name, new OutputAgreement(output)]))
    this.#slices = new Map(saved?.slices.map(([slice, each]) => [slice, { ...each }]))
  }

  add({ outputs, share }: PairVerdict, { requestId, slices }: PairFacts): void {
    const counts = this.#counts
    addShare(counts, share)
    if (share === 1) counts.agreeingPairs++
    for (const slice of new Set(slices.map((each) => this.#sliceOf(each)))) addShare(slice, share)
    for (const output of outputs) {
      const known = this.#outputs.get(output.name)
      if (!known && this.#outputs.size === mostOutputs) continue
      const agreement = known ?? OutputAgreement.of(output)
      this.#outputs.set(output.name, agreement)
      agreement.add(output, requestId)
    }
  }

  /** Clients choose the values, so there is room for so many. */
  #sliceOf(slice: string): SliceCounts {
    const name = slice.slice(0, mostSliceLength)
    const place = this.#slices.has(name) || this.#slices.size < mostSlices ? name : otherSlices
    const counts = this.#slices.get(place) ?? { pairs: 0, shares: 0 }
    this.#slices.set(place, counts)
    return counts
  }

  /** A side had no answer, for a reason that says something about it. */
  failed(which: Failed): void {
    this.#counts.failures[which]++
  }

  dropped(): void {
    this.#counts.dropped++
  }

  /** Mean over the pairs of the share of rows that agree; undefined before any. */
  get mean(): number | undefined {
    const { pairs, shares } = this.#counts
    return pairs > 0 ? shares / pairs : undefined
  }

  summary(interval: ProportionInterval, alpha: number): AgreementSummary {
    const { shares, failures, ...counts } = this.#counts
    const lowOf = (successes: number, trials: number) => interval(successes, trials, alpha).low
    const slices = [...this.#slices].map(([slice, each]) => {
      return { slice, pairs: each.pairs, agreement: each.shares / each.pairs }
    })
    return {
      ...counts,
      agreement: this.mean,
      low: lowOf(shares, counts.pairs),
      failures: { ...failures },
      outputs: [...this.#outputs.values()].map((output) => output.summary(lowOf)),
      slices,
      samples: this.#samples(),
    }
  }

  #samples(): Sample[] {
    const lists = [...this.#outputs.values()].map(({ samples }) => samples)
    const samples: Sample[] = []
    for (let rank = 0; rank < mostSamples; rank++) samples.push(...lists.flatMap((list) => list[rank] ?? []))
    return samples.slice(0, mostSamples)
  }

  /** Fit for JSON; the constructor takes it back. */
  saved(): SavedAgreement {
    const { failures, ...counts } = this.#counts
    return {
      counts: { ...counts, failures: { ...failures } },
      outputs: [...this.#outputs.values()].map((output) => output.saved()),
      slices: [...this.#slices].map(([slice, each]) => [slice, { ...each }]),
    }
  }
}

function addShare(counts: SliceCounts, share: number): void {
  counts.pairs++
  counts.shares += share
}
