/**
 * Which arm of a split a request goes to. A split never changes: an edit makes a new one, of the next generation, and
 * since arms are drawn by their own names, no more units move than the new weights ask for.
 */
import type { Call } from '../core/call.ts'
import { matcherOf, type Matches } from '../core/glob.ts'
import { Assignment } from './assignment.ts'
import type { SplitOptions } from './split-options.ts'
import { unitOf, type ClaimingCaller, type UnitKind, type UnitTerms } from './unit.ts'

/**
 * Why a request goes where it goes. Only `weight` was drawn and may be tested. `kept`: it would have gone to an arm that
 * was rolled back, or whose version the caller may not use. `default`: there is no arm left that the caller may use, and
 * what is named is to be refused. `pinned`: the client named a version, and no split was asked.
 */
export type Decision = 'weight' | 'rule' | 'forced' | 'pinned' | 'default' | 'kept'

export interface Choice {
  readonly arm: string
  readonly version: string
  readonly decision: Decision
  /** Probability with which this unit, of this caller, goes to this arm; 1 where nothing was drawn. */
  readonly share: number
  readonly generation: number
  /** The unit's key. */
  readonly unit: string
  readonly unitKind: UnitKind
}

export interface ChoiceTerms extends UnitTerms {
  /** Whether the caller may use a version. */
  readonly may: (version: string) => boolean
  /** An arm, from who has the right to ask for one. */
  readonly force: string | undefined
}

export interface SplitSetup {
  /** With versions in the place of aliases. */
  readonly options: SplitOptions
  readonly salt: string
  readonly generation: number
  /** Arms whose share goes to the default arm, also what rules and clients send to them. */
  readonly rolledBack?: ReadonlySet<string>
}

interface Arm {
  readonly id: string
  readonly version: string
  readonly weight: number
}

interface Rule {
  readonly arm: Arm
  readonly headers: Fields
  readonly claims: Fields
  readonly callers: Matches
  readonly routes: Matches
}

type Fields = readonly (readonly [name: string, value: string])[]

/** The arm, why, and with which probability. */
type Drawn = readonly [arm: Arm, decision: Decision, share: number]

export class Split {
  readonly #setup: SplitSetup
  readonly #arms: readonly Arm[]
  readonly #rules: readonly Rule[]
  readonly #assignment: Assignment
  readonly #rolledBack: ReadonlySet<string>
  /** Arms that may take the place of another, the best first. */
  readonly #standIns: readonly Arm[]
  readonly #default: Arm

  constructor(setup: SplitSetup) {
    const { options, salt, rolledBack = new Set() } = setup
    this.#setup = setup
    // Sorted, so that the order in the file is never of any matter.
    this.#arms = Object.entries(options.arms)
      .map(([id, { version, weight }]) => ({ id, version, weight }))
      .toSorted((a, b) => (a.id < b.id ? -1 : 1))
    this.#rules = options.rules.map((rule) => ruleOf(rule, this.#arms))
    this.#assignment = new Assignment({ salt, hash: options.hash, arms: this.#arms })
    this.#rolledBack = rolledBack
    const byWeight = this.#arms.toSorted((a, b) => b.weight - a.weight)
    this.#default = byWeight.find(({ id }) => id === options.default) ?? byWeight[0]!
    this.#standIns = [this.#default, ...byWeight.filter((arm) => arm !== this.#default)].filter(
      ({ id }) => !rolledBack.has(id),
    )
  }

  /** The arm of a request; or, if one is forced that there is not, which there are. */
  choose(call: Pick<Call, 'headers'>, caller: ClaimingCaller, route: string, terms: ChoiceTerms): Choice | string {
    const { options, generation } = this.#setup
    const unit = unitOf(options.unit, call, caller, terms)
    const drawn = this.#draw({ call, caller, route }, unit.key, terms)
    if (typeof drawn === 'string') return drawn
    const [{ id, version }, decision, share] = drawn
    return { arm: id, version, decision, share, generation, unit: unit.key, unitKind: unit.kind }
  }

  /** The probability of each arm for who may use them all, those of arms that were rolled back with the default arm. */
  shares(): ReadonlyMap<string, number> {
    const where = this.#landings(() => true)
    return new Map(this.#arms.map((arm) => [arm.id, this.#shareOf(arm, where)]))
  }

  /**
   * Versions that run the request too, each drawn by itself, never the one that answers. With the request's own number as
   * `draw` a shadow gets its share of requests, whatever the unit; without it, of units.
   */
  shadowsFor({ version, unit }: Pick<Choice, 'version' | 'unit'>, draw: string = unit): readonly string[] {
    const { shadows } = this.#setup.options
    if (shadows.length === 0) return []
    return shadows
      .filter((each) => each.version !== version && this.#isShadowed(each, draw))
      .map((each) => each.version)
  }

  #isShadowed({ version, share }: SplitOptions['shadows'][number], draw: string): boolean {
    return this.#assignment.uniform(`shadow ${version}`, draw) < share
  }

  #draw(asker: Asker, unit: string, { force, may }: ChoiceTerms): Drawn | string {
    const where = this.#landings(may)
    if (force !== undefined) {
      const open = this.#arms.filter((arm) => may(arm.version))
      const forced = open.find(({ id }) => id === force)
      return forced ? this.#send(forced, 'forced', where) : armsThereAre(open)
    }
    const rule = this.#rules.find((each) => fits(each, asker))
    if (rule) return this.#send(rule.arm, 'rule', where)
    const [arm, decision] = this.#send(this.#arms[this.#assignment.pick(unit)]!, 'weight', where)
    return [arm, decision, this.#shareOf(arm, where)]
  }

  #send(arm: Arm, decision: Decision, where: Landings): Drawn {
    const landing = where(arm)
    if (landing === undefined) return [this.#default, 'default', 1]
    return [landing, landing === arm ? decision : 'kept', 1]
  }

  /** Where requests for each arm end up; undefined if there is no arm that the caller may use. */
  #landings(may: ChoiceTerms['may']): Landings {
    const standIn = this.#standIns.find(({ version }) => may(version))
    return (arm) => (!this.#rolledBack.has(arm.id) && may(arm.version) ? arm : standIn)
  }

  #shareOf(landing: Arm, where: Landings): number {
    const all = this.#arms.keys().filter((i) => (where(this.#arms[i]!) ?? this.#default) === landing)
    return this.#assignment.share(...all)
  }
}

type Landings = (arm: Arm) => Arm | undefined

interface Asker {
  readonly call: Pick<Call, 'headers'>
  readonly caller: ClaimingCaller
  readonly route: string
}

function ruleOf({ match, arm }: SplitOptions['rules'][number], arms: readonly Arm[]): Rule {
  return {
    arm: arms.find(({ id }) => id === arm)!,
    headers: Object.entries(match.headers ?? {}),
    claims: Object.entries(match.claims ?? {}),
    callers: matcherOf(match.callers),
    routes: matcherOf(match.routes),
  }
}

function fits({ headers, claims, callers, routes }: Rule, { call, caller, route }: Asker): boolean {
  return (
    routes(route) &&
    callers(caller.name) &&
    headers.every(([name, value]) => call.headers[name] === value) &&
    claims.every(([name, value]) => caller.claims[name] === value)
  )
}

function armsThereAre(arms: readonly Arm[]): string {
  return arms.length === 0
    ? 'there is no such arm'
    : `there is no such arm; there are ${arms.map(({ id }) => id).join(', ')}`
}
