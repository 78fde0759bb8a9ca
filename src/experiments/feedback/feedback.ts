/**
 * Takes what clients tell of predictions afterwards. What a prediction was comes from its signed token alone, never from
 * the feedback: whoever tells can add to the counts of predictions it was given, and to nothing else.
 */
import * as z from 'zod'
import type { Caller } from '../../core/caller.ts'
import type { Clock } from '../../core/clock.ts'
import { isRefusal, refuse, type Refusal } from '../../core/refusal.ts'
import type { Ledger } from './ledger.ts'
import type { Metrics } from './metrics.ts'
import { noUnit, type PredictionFacts, type PredictionTokens } from './token.ts'

export interface FeedbackTools {
  readonly tokens: PredictionTokens
  /** Its window has to be as long as the longest time to join and what clocks may differ together. */
  readonly ledger: Ledger
  readonly clock: Clock
  /** Undefined for a model without an experiment. */
  readonly metricsOf: (model: string) => Metrics | undefined
  /** Whether the caller may tell of predictions such as this; it is of the same tenant already. */
  readonly mayTell: (caller: Caller, facts: PredictionFacts) => boolean
}

/** `past`: of an experiment that is over. `ignored`: nothing happened, or the arm was not drawn. */
export interface Taken {
  readonly status: 'counted' | 'duplicate' | 'past' | 'ignored'
}

export interface TakenAll {
  readonly counts: Readonly<Record<Taken['status'], number>>
  /** Entries that were refused, by their place from 0. */
  readonly mistakes: readonly { readonly index: number; readonly message: string }[]
}

/**
 * What becomes of an entry: `late` and `early` are outside the time to join, `unknown` is no token of this gateway,
 * `forbidden` one of somebody else, and `invalid` any other mistake.
 */
type Outcome = Taken['status'] | 'late' | 'early' | 'unknown' | 'forbidden' | 'invalid'

const mostEntries = 1_000

const entrySchema = z.strictObject({
  prediction: z.string({ error: 'expected the id of a prediction as `prediction`' }),
  metric: z.string({ error: 'expected the name of a metric as `metric`' }),
  value: z.number({ error: 'expected a finite number as `value`' }).optional(),
  id: z
    .string({ error: 'expected a text as `id`' })
    .min(1, { error: 'expected an `id` that is not empty' })
    .max(128, { error: 'expected an `id` of 128 characters at most' })
    .optional(),
})
type Entry = z.output<typeof entrySchema>

export class Feedback {
  /** Entries by what became of them; the list of outcomes is closed. */
  readonly counts: ReadonlyMap<string, number>
  readonly #counts = new Map<Outcome, number>()
  readonly #tools: FeedbackTools

  constructor(tools: FeedbackTools) {
    this.#tools = tools
    this.counts = this.#counts
  }

  /** Takes one entry, of whatever form. */
  take(entry: unknown, caller: Caller): Taken | Refusal {
    const read = entrySchema.safeParse(entry)
    if (!read.success) return this.#refuse('invalid', mistakeIn(read.error))
    const facts = this.#factsOf(read.data, caller)
    if (isRefusal(facts)) return facts
    const metrics = this.#tools.metricsOf(facts.model)
    if (!metrics || metrics.names.length === 0)
      return this.#refuse('invalid', 'no metrics are declared for the model of this prediction')
    return this.#untimely(facts, metrics) ?? this.#count(read.data, facts, metrics)
  }

  /** Takes up to 1000 entries, each for itself: a mistake in one does not touch the others. */
  takeAll(entries: readonly unknown[], caller: Caller): TakenAll | Refusal {
    if (entries.length > mostEntries) return this.#refuse('invalid', `expected ${mostEntries} entries at most`)
    const counts = { counted: 0, duplicate: 0, past: 0, ignored: 0 }
    const mistakes: { index: number; message: string }[] = []
    for (const [index, entry] of entries.entries()) {
      const taken = this.take(entry, caller)
      if (isRefusal(taken)) mistakes.push({ index, message: taken.message })
      else counts[taken.status]++
    }
    return { counts, mistakes }
  }

  /** Whose prediction it is must not be told apart from whether it is one. */
  #factsOf({ prediction }: Entry, caller: Caller): PredictionFacts | Refusal {
    const facts = this.#tools.tokens.verify(prediction)
    const mayTell = facts?.tenant === caller.tenant && this.#tools.mayTell(caller, facts)
    if (facts && mayTell) return facts
    return this.#refuse(facts ? 'forbidden' : 'unknown', 'this is not the id of a prediction of this gateway')
  }

  #untimely({ epochMs, generation }: PredictionFacts, { options, since }: Metrics): Taken | Refusal | undefined {
    const { joinWindowS, maxSkewS } = options
    const ageMs = this.#tools.clock.epoch() - epochMs
    if (ageMs > 1_000 * joinWindowS)
      return this.#refuse('late', `feedback is taken for ${joinWindowS} s after a prediction`)
    if (-ageMs > 1_000 * maxSkewS)
      return this.#refuse('early', `the prediction is more than ${maxSkewS} s ahead: clocks of gateways differ`)
    return generation < since ? this.#note('past') : undefined
  }

  #count({ metric, value, id = '' }: Entry, facts: PredictionFacts, metrics: Metrics): Taken | Refusal {
    const kind = metrics.kindOf(metric)
    if (!kind) return this.#refuse('invalid', `no such metric: expected one of ${metrics.names.join(', ')}`)
    const mistake = metrics.mistake(metric, value)
    if (mistake !== undefined) return this.#refuse('invalid', mistake)
    if (!metrics.isEvidence(metric, facts, value)) return this.#note('ignored')
    // An event is one for each prediction: several of one would all be of one arm, and no evidence of their own.
    // And where more than a request is assigned, one for each unit: see `Units`.
    const who = facts.unit === noUnit ? facts.nonce : `${metrics.since} ${facts.model} ${facts.unit}`
    const key = kind === 'event' ? `${who} ${metric}` : `${facts.nonce} ${metric} ${id}`
    if (!this.#tools.ledger.take(key)) return this.#note('duplicate')
    metrics.add(metric, facts, value)
    return this.#note('counted')
  }

  #note(status: Taken['status']): Taken {
    this.#tally(status)
    return { status }
  }

  #refuse(outcome: Outcome, message: string): Refusal {
    this.#tally(outcome)
    return refuse('invalid', message)
  }

  #tally(outcome: Outcome): void {
    this.#counts.set(outcome, (this.#counts.get(outcome) ?? 0) + 1)
  }
}

/** The first one, in words that hold nothing of what was sent. */
function mistakeIn({ issues: [first] }: z.ZodError): string {
  if (first?.code === 'unrecognized_keys') return 'unknown key: expected `prediction`, `metric`, `value` and `id` alone'
  return first?.path.length ? first.message : 'expected an object with `prediction` and `metric`'
}
