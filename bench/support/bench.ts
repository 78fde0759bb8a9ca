/** What a bench is, and what it has to say in the end. */
export interface Bench {
  readonly name: string
  readonly question: string
  measure(options: BenchOptions): Promise<Report>
}

export interface BenchOptions {
  /** Fewer and shorter slices: shows that it works, and roughly where the figures are. */
  readonly quick: boolean
  readonly say: (line: string) => void
}

export interface Table {
  readonly head: readonly string[]
  readonly rows: readonly (readonly string[])[]
}

export interface TitledTable {
  readonly title: string
  readonly table: Table
}

export interface Report {
  readonly figures: Readonly<Record<string, unknown>>
  readonly targets: Readonly<Record<string, string>>
  readonly pass: boolean
  /** For RESULTS.md. */
  readonly table: Table
  /** More of them, after the first. */
  readonly tables?: readonly TitledTable[]
  readonly notes: readonly string[]
}
