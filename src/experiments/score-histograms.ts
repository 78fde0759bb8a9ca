/** Where the scores of a primary and of its shadow lie, and how far these distributions are from each other. */
import type { Sides } from './comparers.ts'

const bins = 20
/** Scores of the primary from which bins are made, where it is not known beforehand between what scores lie. */
const firstScores = 256
/** Of probabilities. */
const evenEdges = Array.from({ length: bins - 1 }, (_, i) => (i + 1) / bins)

export interface ScoreCounts {
  /** Inner edges; the first and the last bin are open. An edge belongs to the bin above. */
  readonly edges: readonly number[]
  readonly primary: readonly number[]
  readonly shadow: readonly number[]
  /**
   * Jensen-Shannon distance, the square root of the divergence in bits: 0 for equal distributions, 1 for disjoint ones.
   * Of n rows from equal ones it is about sqrt(19 / (8 n ln 2)).
   */
  readonly distance: number
}

export interface SavedScores {
  readonly edges: readonly number[] | null
  readonly primary: readonly number[]
  readonly shadow: readonly number[]
}

export class ScoreHistograms {
  /** Undefined while scores are collected, which then lie in `#primary` and `#shadow`. */
  #edges: readonly number[] | undefined
  #primary: number[] = []
  #shadow: number[] = []

  /** For probabilities the bins are even; else each holds a twentieth of the primary's first scores. */
  constructor(isProbability: boolean, saved?: SavedScores) {
    this.#edges = saved ? (saved.edges ?? undefined) : isProbability ? evenEdges : undefined
    const counts: readonly number[] = this.#edges ? emptyBins() : []
    this.#primary = [...(saved?.primary ?? counts)]
    this.#shadow = [...(saved?.shadow ?? counts)]
  }

  /** Pairs of scores of which one is no finite number count nowhere. */
  add({ primary, shadow }: Sides): void {
    for (let row = 0; row < primary.length; row++)
      if (Number.isFinite(primary[row]) && Number.isFinite(shadow[row])) this.#take(primary[row]!, shadow[row]!)
  }

  #take(primary: number, shadow: number): void {
    if (this.#edges) {
      this.#primary[binOf(this.#edges, primary)]!++
      this.#shadow[binOf(this.#edges, shadow)]!++
      return
    }
    this.#primary.push(primary)
    this.#shadow.push(shadow)
    if (this.#primary.length < firstScores) return
    const edges = edgesFor(this.#primary)
    this.#edges = edges
    this.#primary = histogramOf(edges, this.#primary)
    this.#shadow = histogramOf(edges, this.#shadow)
  }

  /** Undefined while there are too few scores. */
  summary(): ScoreCounts | undefined {
    const [edges, primary, shadow] = [this.#edges, [...this.#primary], [...this.#shadow]]
    if (!edges || sum(primary) === 0) return undefined
    return { edges, primary, shadow, distance: jensenShannon(primary, shadow) }
  }

  saved(): SavedScores {
    return { edges: this.#edges ?? null, primary: [...this.#primary], shadow: [...this.#shadow] }
  }
}

function emptyBins(): number[] {
  return Array.from({ length: bins }, () => 0)
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0)
}

function edgesFor(scores: readonly number[]): number[] {
  const sorted = scores.toSorted((a, b) => a - b)
  return evenEdges.map((share) => sorted[Math.floor(share * sorted.length)]!)
}

function histogramOf(edges: readonly number[], scores: readonly number[]): number[] {
  const counts = emptyBins()
  for (const score of scores) counts[binOf(edges, score)]!++
  return counts
}

/** How many edges lie at or below. */
function binOf(edges: readonly number[], score: number): number {
  let low = 0
  let high = edges.length
  while (low < high) {
    const middle = (low + high) >> 1
    if (edges[middle]! <= score) low = middle + 1
    else high = middle
  }
  return low
}

/** Of two histograms with the same bins and equally many rows. */
function jensenShannon(one: readonly number[], other: readonly number[]): number {
  const total = sum(one)
  let bits = 0
  for (const [i, count] of one.entries()) {
    const middle = (count + other[i]!) / 2
    for (const each of [count, other[i]!]) if (each > 0) bits += ((each / total) * Math.log2(each / middle)) / 2
  }
  return Math.sqrt(Math.max(0, bits))
}
