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

export interface Report {
  readonly figures: Readonly<Record<string, unknown>>
  readonly targets: Readonly<Record<string, string>>
  readonly pass: boolean
  /** For RESULTS.md. */
  readonly table: Table
  readonly notes: readonly string[]
}
