/** Shadows of what is in service: who runs a request too, and what becomes of the pair of answers. */
import { randomInt } from 'node:crypto'
import type { InferRequest } from '../core/call.ts'
import type { Clock } from '../core/clock.ts'
import { isRefusal } from '../core/refusal.ts'
import { isStrings, stringAt, type Tensor } from '../core/tensor.ts'
import { Agreement, type Failed } from '../experiments/agreement.ts'
import { comparePair } from '../experiments/comparison.ts'
import { comparisonOptions } from '../experiments/comparison-options.ts'
import type { Experiment } from '../experiments/experiment.ts'
import { proportionInterval } from '../experiments/intervals.ts'
import type { LiveModel } from './model.ts'
import type { Mirrored } from '../routing/router.ts'
import { Shadows, type DropReason, type ShadowPair } from '../routing/shadows.ts'
import type { Served } from './served.ts'
import type { ShadowVersions } from './shadow-versions.ts'

/** Nobody waits for a shadow; one that takes as long as this is not waited for either. */
const budgetMs = 10_000
/** Between whom lanes are fair: shadows are one caller, and cost no real one anything. */
const shadowCaller = 'shadow'
const defaults = comparisonOptions.parse({})
/** Confidence of what is said of shadows. */
const reportAlpha = 0.05
/** Bytes of a text that say which slice it is. */
const mostSliceBytes = 256

/** A version that is to run what another has answered, or failed on. */
interface Shadow {
  readonly model: string
  readonly version: string
  /** The other. */
  readonly primary: string
  readonly lane: Served['lane']
}

type Names = Pick<Shadow, 'model' | 'version'>

export class Mirror {
  /** By model and version, what became of shadows: `compared`, `failed`, or why they were dropped. */
  readonly counts = new Map<string, Map<string, number>>()
  readonly #models: ReadonlyMap<string, LiveModel>
  readonly #versions: Pick<ShadowVersions, 'of'>
  /** Requests that could have been sent to a shadow. */
  #seen = 0
  readonly #shadows: Shadows<Shadow>
  /** Of shadows that are nobody's treatment, by model and version. */
  readonly #agreements = new Map<string, Agreement>()

  constructor(models: ReadonlyMap<string, LiveModel>, shadows: Pick<ShadowVersions, 'of'>, clock: Clock) {
    this.#models = models
    this.#versions = shadows
    this.#shadows = new Shadows<Shadow>({
      clock,
      random: () => randomInt(2 ** 32) / 2 ** 32,
      onPair: (pair) => this.#compare(pair),
      onDropped: (target, why) => this.#dropped(target, why),
    })
  }

  get inFlight(): number {
    return this.#shadows.inFlight
  }

  mirror({ chosen, to, call, request, claim, done }: Mirrored<Served>): void {
    const { choice } = chosen
    const { split } = to.snapshot
    if (!split || !choice) return
    // What was turned away needs no second look, and what came too late says more of the load than of the version.
    if (isRefusal(done) && done.code !== 'model_failed') return
    // By a number of its own: the request's a client may choose, and so whether it is looked at.
    const versions = split.shadowsFor(choice, String(this.#seen++))
    if (versions.length === 0) return
    const found = versions.flatMap((version) => this.#shadowOf(to.model, version, choice.version) ?? [])
    const slices = this.#slicesOf(to.model, request, call.headers)
    const { requestId } = claim
    this.#shadows.tee(request, { requestId, caller: shadowCaller, budgetMs, slices }, found, done)
  }

  /** What became of a shadow, and how its answers agree where it is nobody's treatment. */
  viewOf(model: string, version: string) {
    const outcomes = Object.fromEntries(this.counts.get(keyOf({ model, version })) ?? [])
    const agreement = this.#agreements.get(keyOf({ model, version }))
    return { outcomes, agreement: agreement?.summary(proportionInterval, reportAlpha) ?? null }
  }

  #shadowOf(model: string, version: string, primary: string): Shadow | undefined {
    // It was found to be bad: there is nothing more to learn of it.
    if (this.#trialOf({ model, version })?.state.phase === 'rolled-back') return undefined
    const served = this.#versions.of(model, version)
    if (!served) this.#dropped({ model, version }, 'refused')
    return served && { model, version, primary, lane: served.lane }
  }

  #compare({ target, request, primary, shadow }: ShadowPair<Shadow>): void {
    const trial = this.#trialOf(target)
    const isPaired = trial !== undefined && this.#versionOf(target.model, trial.setup.control) === target.primary
    const agreement = isPaired ? trial.agreement : this.#agreementOf(target)
    const hasFailed = isRefusal(shadow)
    this.#count(target, hasFailed ? 'failed' : 'compared')
    if (!isRefusal(primary) && !isRefusal(shadow)) {
      const options = trial?.setup.options.comparison ?? defaults
      agreement.add(comparePair(options, primary, shadow.outputs), request)
    } else {
      const which: Failed = isRefusal(primary) ? (hasFailed ? 'both' : 'primary') : 'shadow'
      agreement.failed(which)
      if (isPaired && which !== 'both') trial.shadowDiffered(which === 'shadow')
    }
  }

  #dropped(target: Names, why: DropReason): void {
    this.#count(target, why)
    const agreement = this.#trialOf(target)?.agreement ?? this.#agreementOf(target)
    agreement.dropped()
  }

  /** The experiment whose treatment a version is. */
  #trialOf({ model, version }: Names): Experiment | undefined {
    const { experiment } = this.#models.get(model) ?? {}
    return experiment && this.#versionOf(model, experiment.setup.treatment) === version ? experiment : undefined
  }

  #versionOf(model: string, arm: string): string | undefined {
    return this.#models.get(model)?.intent.split?.arms[arm]?.version
  }

  #agreementOf(target: Names): Agreement {
    const key = keyOf(target)
    const agreement = this.#agreements.get(key) ?? new Agreement()
    if (!this.#agreements.has(key)) this.#forget()
    this.#agreements.set(key, agreement)
    return agreement
  }

  #count(target: Names, what: string): void {
    const key = keyOf(target)
    const counts = this.counts.get(key) ?? new Map<string, number>()
    if (!this.counts.has(key)) this.#forget()
    counts.set(what, (counts.get(what) ?? 0) + 1)
    this.counts.set(key, counts)
  }

  /** When there is another one, those go that are no shadows any more: versions come and go without end. */
  #forget(): void {
    for (const key of [...this.counts.keys(), ...this.#agreements.keys()]) {
      const [model = '', version] = key.split(' ')
      const shadows = this.#models.get(model)?.intent.split?.shadows ?? []
      if (shadows.some((shadow) => shadow.version === version)) continue
      this.counts.delete(key)
      this.#agreements.delete(key)
    }
  }

  #slicesOf(model: string, request: InferRequest, headers: Mirrored<Served>['call']['headers']): string[] {
    const slices = this.#models.get(model)?.experiment?.setup.options.comparison.slices ?? []
    return slices.flatMap((name) => {
      const value = name.startsWith('header:') ? headers[name.slice('header:'.length)] : firstOf(request.inputs, name)
      return typeof value === 'string' ? [`${name}=${value}`] : []
    })
  }
}

/** Names of models and versions hold no space. */
function keyOf({ model, version }: Names): string {
  return `${model} ${version}`
}

/** Of the first row, what an input says. */
function firstOf(inputs: readonly Tensor[], name: string): string | undefined {
  const data = inputs.find((input) => input.name === name)?.data
  if (!data) return undefined
  if (isStrings(data))
    return data.offsets.length > 1 ? Buffer.from(stringAt(data, 0).subarray(0, mostSliceBytes)).toString() : undefined
  return data.length > 0 ? String(data[0]) : undefined
}
