/** A request's share of a run, and what becomes of a run: the words that lanes and executors have in common. */
import type { Program } from './signature.ts'
import type { Tensor } from './tensor.ts'

export interface Work {
  /** In the order of the contract. */
  readonly inputs: readonly Tensor[]
  readonly rows: number
  /** Only work under equal keys may share a run. */
  readonly key: string
}

export type Ran =
  /** One list of tensors for each work, in the order they were given. */
  | { readonly kind: 'done'; readonly outputs: readonly (readonly Tensor[])[]; readonly computeMs: number }
  /** The model refused the input, or its outputs made no sense. */
  | { readonly kind: 'failed'; readonly reason: string }
  /** The worker died, or never came back, while it ran this: the input may be the cause. To run it again may cost another. */
  | { readonly kind: 'lost'; readonly reason: string; readonly mayRepeat: boolean }
  /** The worker died before it began with this. */
  | { readonly kind: 'unstarted' }

/** Runs works together. `expectedMs` is what nearly all such runs keep to; undefined while nothing is known of them. */
export type Run = (program: Program, works: readonly Work[], expectedMs?: number) => Promise<Ran>
