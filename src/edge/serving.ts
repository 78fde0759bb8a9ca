/** What the edges need of a gateway. */
import type { Caller } from '../core/caller.ts'
import type { Refusal } from '../core/refusal.ts'
import type { Headers, Origin } from '../core/origin.ts'
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
  /** How callers may say who they are. */
  readonly proofs: Proofs
  /** Takes out of a head what it claims and nobody may believe. Says whose request it is: the peer, or whom a trusted proxy names. */
  screen(headers: HeadFields, origin: Origin, peer: string): string
  /** Takes what is told of predictions: one entry, or a list. */
  tell(entries: unknown, caller: Caller): unknown
  /** Opens the journal of a request that has just arrived. */
  open(): Journal
  /** Why nothing can be run at the moment, if that is so. */
  refused(): Refusal | undefined
}

export type HeadFields = Record<string, string | string[] | undefined>

export interface Proofs {
  readonly token: boolean
  /** The header field of API keys, if they are taken. */
  readonly apiKey: string | undefined
}

/** What the admin listener shows and changes. */
export interface Administration {
  status(): unknown
  config(): unknown
  /** Who asks, if it may do this. On loopback it is whoever is on this machine. */
  admit(request: Asking, operation: 'admin.read' | 'admin.write', isLocal: boolean): Promise<Caller | Refusal>
  /** The split of a model that is in force. */
  split(model: string): SplitState | Refusal
  experiment(model: string): unknown
  /** Changes a split by hand; `generation` is what whoever asks has seen. */
  editSplit(
    model: string,
    edit: SplitWish,
    generation: string | undefined,
    by: Caller,
  ): Promise<{ readonly split: SplitState } | Refusal>
  /** Looks at the store at once. */
  refresh(): Promise<unknown>
  /** Makes a token for development. */
  mint(wish: TokenWish, by: Caller): Promise<string | Refusal>
}

interface SplitState {
  readonly generation: number
}

interface SplitWish {
  readonly weights?: Readonly<Record<string, number>> | undefined
  readonly reset?: boolean | undefined
  readonly action?: 'pause' | 'resume' | 'promote' | 'rollback' | 'release' | undefined
  readonly dryRun?: boolean | undefined
}

interface Asking {
  readonly headers: Headers
  readonly origin: Origin
}

export interface TokenWish {
  readonly subject: string
  readonly tenant?: string | undefined
  readonly scopes: readonly string[]
  readonly profile?: string | undefined
  /** Undefined for as long as the issuer gives. */
  readonly lifetimeS?: number | undefined
}
