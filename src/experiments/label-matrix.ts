/** How often a shadow gave one label where the primary gave another. */
import type { Sides } from './comparers.ts'

/** The last place is for all labels that came when the others were taken. */
const places = 32

export interface LabelCounts {
  readonly labels: readonly (number | 'other')[]
  /** Rows by the primary's label, then by the shadow's, in the order of `labels`. */
  readonly counts: readonly (readonly number[])[]
}

export interface SavedLabels {
  readonly labels: readonly number[]
  readonly counts: readonly number[]
}

export class LabelMatrix {
  /** Of each label, its place: in the order in which they came. */
  readonly #places = new Map<number, number>()
  readonly #counts = new Float64Array(places * places)

  constructor(saved?: SavedLabels) {
    for (const label of saved?.labels ?? []) this.#placeOf(label)
    if (saved) this.#counts.set(saved.counts)
  }

  add({ primary, shadow }: Sides): void {
    for (let row = 0; row < primary.length; row++)
      this.#counts[this.#placeOf(primary[row]!) * places + this.#placeOf(shadow[row]!)]!++
  }

  #placeOf(label: number): number {
    const known = this.#places.get(label)
    if (known !== undefined) return known
    const place = this.#places.size
    if (place === places - 1) return place
    this.#places.set(label, place)
    return place
  }

  summary(): LabelCounts {
    const known: [number | 'other', number][] = [...this.#places].toSorted(([a], [b]) => a - b)
    const other = places - 1
    const hasOthers = this.#counts.some((count, i) => count > 0 && (i % places === other || i >= other * places))
    const order = hasOthers ? [...known, ['other', other] as const] : known
    return {
      labels: order.map(([label]) => label),
      counts: order.map(([, i]) => order.map(([, j]) => this.#counts[i * places + j]!)),
    }
  }

  saved(): SavedLabels {
    return { labels: [...this.#places.keys()], counts: [...this.#counts] }
  }
}
