/**
 * What of a model's routing changes while requests flow: which versions there are, and how requests are split between
 * them. It changes as a whole: a request looks once, and goes by what it saw to its end.
 */
import type { Split } from './split.ts'

export interface Snapshot<Target> {
  /** Goes up with each change. */
  readonly generation: number
  /** The version of requests that name none, if there is no split; with one, that of its default arm. */
  readonly version: string
  readonly targets: ReadonlyMap<string, Target>
  /** Other names of versions. */
  readonly aliases: Readonly<Record<string, string>>
  readonly split: Split | undefined
  /** An arm whose failures another version makes good, and which one. */
  readonly rescue: { readonly arm: string; readonly version: string } | undefined
}

/** The snapshot in force. */
export interface Live<Target> {
  readonly current: Snapshot<Target>
}
