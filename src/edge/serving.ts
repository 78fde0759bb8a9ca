/** What the edges need of a gateway. */
import type { Refusal } from '../core/refusal.ts'
import type { Signature } from '../core/signature.ts'
import type { Steps } from '../pipeline.ts'
import type { EdgeCounts } from '../telemetry/edge-counts.ts'
import type { VersionCounts } from '../telemetry/instruments.ts'
import type { Journal } from '../telemetry/journal.ts'

export interface ServedVersion {
  readonly version: string
  readonly digest: string
  readonly batched: boolean
  readonly maxRows: number
  readonly counts: VersionCounts
  /** What runs it, and how long that takes as far as it is known. */
  runsOn(): RunsOn
  /** Why it cannot be run, if it will not be soon either. */
  refused(): Refusal | undefined
}

export interface RunsOn {
  readonly provider: string
  readonly device: string
  readonly runMs: { readonly baseMs: number; readonly rowMs: number } | undefined
}

export interface ServedModel {
  readonly name: string
  readonly contract: Signature
  /** The version of requests that name none. */
  readonly version: string
  readonly versions: ReadonlyMap<string, ServedVersion>
}

export interface Serving {
  readonly steps: Steps
  /** Everything a client can address, default routes included. */
  readonly routes: readonly { readonly path: string }[]
  readonly counts: EdgeCounts
  readonly models: ReadonlyMap<string, ServedModel>
  /** Opens the journal of a request that has just arrived. */
  open(): Journal
  /** Why nothing can be run at the moment, if that is so. */
  refused(): Refusal | undefined
}

/** What the admin listener shows. */
export interface Administration {
  status(): unknown
  config(): unknown
}
