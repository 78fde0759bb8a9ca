/** What answers when a version cannot in time, and how the answer is told apart: see `Answer.fallback`. */
import * as z from 'zod'
import type { FallbackKind, InferRequest } from '../core/call.ts'
import type { Claim } from '../core/claim.ts'
import { isRefusal, type Refusal, type RefusalCode } from '../core/refusal.ts'
import type { Work } from '../core/run.ts'
import type { Tensor } from '../core/tensor.ts'

/** One element of a constant answer. */
const element = z.union([z.number(), z.boolean(), z.string()])

export const fallbackOptions = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('refuse') }),
  z.strictObject({
    kind: z.literal('version'),
    version: z.string({ error: 'expected a version in quotes' }).describe('The version that answers instead.'),
    keepMs: z
      .number()
      .positive()
      .max(24 * 3_600_000)
      .describe('Time before the deadline that is kept for it: the first version has that much less.'),
  }),
  z.strictObject({
    kind: z.literal('constant'),
    outputs: z
      .record(z.string(), z.array(element).min(1))
      .describe("Each output's elements for one row, flat. An answer for several rows repeats them."),
  }),
])

export type FallbackOptions = z.output<typeof fallbackOptions>
export type Elements = readonly z.output<typeof element>[]

export interface Substitute {
  readonly kind: FallbackKind
  /** Undefined if it stands for the version that was asked. */
  readonly version: string | undefined
  readonly outputs: readonly Tensor[]
}

export interface Fallback {
  /** Time before the deadline that it needs. */
  readonly keepMs: number
  /** Undefined if it does not cover this refusal, or has no answer either. */
  answer(request: InferRequest, claim: Claim, because: Refusal): Promise<Substitute | undefined>
}

/** A model that fails on an input is no reason to make an answer up. */
const covered: ReadonlySet<RefusalCode> = new Set(['expired', 'overloaded', 'not_ready'])

/** Whether something else may answer in the place of this refusal. */
export function covers({ code }: Refusal): boolean {
  return covered.has(code)
}

/** What another version may make good of what one failed on: also that it fails, which may be its own fault. */
const rescued: ReadonlySet<RefusalCode> = new Set([...covered, 'model_failed'])

interface Runner {
  run(work: Work, claim: Claim): Promise<{ readonly outputs: readonly Tensor[] } | Refusal>
}

/** Another version answers, with what is left of the time. */
export function versionFallback(version: string, keepMs: number, lane: Runner): Fallback {
  return runAgain({ kind: 'version', version, keepMs }, lane, covered)
}

/** The stable version answers once what one that is on trial could not. */
export function rescueFallback(version: string, lane: Runner): Fallback {
  return runAgain({ kind: 'rescue', version, keepMs: 0 }, lane, rescued)
}

/** The first that has an answer. */
export function inTurn(first: Fallback, second: Fallback): Fallback {
  return {
    keepMs: Math.max(first.keepMs, second.keepMs),
    async answer(request, claim, because) {
      return (await first.answer(request, claim, because)) ?? second.answer(request, claim, because)
    },
  }
}

interface Stand {
  readonly kind: FallbackKind
  readonly version: string
  readonly keepMs: number
}

function runAgain({ kind, version, keepMs }: Stand, lane: Runner, codes: ReadonlySet<RefusalCode>): Fallback {
  return {
    keepMs,
    async answer(request, claim, because) {
      if (!codes.has(because.code)) return undefined
      const done = await lane.run(request, claim)
      return isRefusal(done) ? undefined : { kind, version, outputs: done.outputs }
    },
  }
}
