/**
 * Which model and which version. A route is what a client addresses: a host and a path. Each model has one of its own at
 * `/v2/models/NAME` on any host; the configuration may add others. The version is the one that the client names, or that
 * of the arm to which the model's split assigns the request, or the one that the configuration names, or the newest.
 */
import type { Answer, Call, InferRequest } from '../core/call.ts'
import type { Caller } from '../core/caller.ts'
import type { Claim, Terms } from '../core/claim.ts'
import type { Clock } from '../core/clock.ts'
import { isRefusal, refuse, type Refusal } from '../core/refusal.ts'
import type { Work } from '../core/run.ts'
import { armField, predictionField, versionField } from '../core/split-fields.ts'
import type { Tensor } from '../core/tensor.ts'
import { inTurn, rescueFallback, type Fallback } from './fallback.ts'
import type { Live, Snapshot } from './snapshot.ts'
import type { Choice } from './split.ts'

export interface Route<T> {
  readonly name: string
  /** A host name, or `*.` and what its end must be; undefined for any host. */
  readonly host: string | undefined
  readonly path: string
  readonly model: string
  readonly live: Live<T>
  readonly terms: Terms
  /** What answers when the chosen version cannot in time. */
  readonly fallback: Fallback | undefined
}

type Called = Pick<Call, 'host' | 'path'> & { readonly version?: string | undefined }

/** What the router needs of a version. */
export interface Routable {
  readonly version: string
  readonly lane: {
    run(work: Work, claim: Claim): Promise<{ readonly outputs: readonly Tensor[] } | Refusal>
  }
  /** Whether a request that it failed on may be run by another. */
  readonly isRepeatable: boolean
}

/** What a request addresses, on the one snapshot that it goes by. */
export class Addressed<T> {
  readonly route: Route<T>
  readonly snapshot: Snapshot<T>
  /** The version that the client names, by its own name; undefined if it names none. */
  readonly named: string | undefined

  constructor(route: Route<T>, named: string | undefined) {
    this.route = route
    this.snapshot = route.live.current
    this.named = named === undefined ? undefined : (own(this.snapshot.aliases, named) ?? named)
  }

  get name(): string {
    return this.route.name
  }

  get model(): string {
    return this.route.model
  }

  get terms(): Terms {
    return this.route.terms
  }

  /** The version that it is about as far as access goes. */
  get version(): string {
    return this.named ?? this.snapshot.version
  }

  get targets(): ReadonlyMap<string, T> {
    return this.snapshot.targets
  }
}

/** What a request is run by, and what else becomes of it. */
export interface Chosen<T> {
  readonly target: T
  /** What an answer calls it. */
  readonly names: Pick<Answer, 'model' | 'version' | 'arm'>
  /** Undefined where the model has no split. */
  readonly choice: Choice | undefined
  /** What may answer in the place of the target. */
  readonly fallback: Fallback | undefined
  /** Names and values, in turn, of what the head of the answer says about it. */
  readonly head: readonly string[]
}

export interface RouterTools<T> {
  readonly clock: Clock
  /** A number of each request's own, which no client can choose. */
  readonly draw: () => string
  readonly may: (caller: Caller, model: string, version: string) => boolean
  /** Whether a caller may ask for an arm. */
  readonly mayForce: (caller: Caller) => boolean
  /** Takes what shadows may run too, once the outcome is known. */
  readonly mirror: (mirrored: Mirrored<T>) => void
  /** What a prediction is called in feedback about it, if any is wanted. */
  readonly predictionOf: (model: string, choice: Choice, caller: Caller) => string | undefined
}

/** A request that was run, for those who look at it from the side. */
export interface Mirrored<T> {
  readonly chosen: Chosen<T>
  readonly to: Addressed<T>
  readonly call: Pick<Call, 'headers'>
  readonly request: InferRequest
  readonly claim: Claim
  readonly done: { readonly outputs: readonly Tensor[] } | Refusal
}

export class Router<T extends Routable> {
  /** Routes by path, those with the narrowest host first. */
  #byPath: ReadonlyMap<string, readonly Route<T>[]> = new Map()
  readonly #tools: RouterTools<T>

  constructor(routes: readonly Route<T>[], tools: RouterTools<T>) {
    this.#tools = tools
    this.lead(routes)
  }

  /** These are the routes from now on. */
  lead(routes: readonly Route<T>[]): void {
    const byPath = Map.groupBy(routes, ({ path }) => path)
    for (const [path, same] of byPath)
      byPath.set(
        path,
        same.toSorted((a, b) => narrowness(b.host) - narrowness(a.host)),
      )
    this.#byPath = byPath
  }

  route({ host, path, version }: Called): Addressed<T> | Refusal {
    const route = this.#byPath.get(path)?.find((each) => takes(each.host, host))
    return route ? new Addressed(route, version) : noSuchModel(path)
  }

  /** The version that questions are about. */
  standard({ targets, version }: Addressed<T>): T | Refusal {
    return targets.get(version) ?? noSuchVersion()
  }

  /** What runs a request. */
  choose(to: Addressed<T>, call: Pick<Call, 'headers'>, caller: Caller): Chosen<T> | Refusal {
    const { split } = to.snapshot
    if (to.named !== undefined || !split) return this.#standing(to)
    const force = call.headers[armField]
    if (force !== undefined && !this.#tools.mayForce(caller)) return mayNotForce()
    const { clock, draw, may } = this.#tools
    const choice = split.choose(call, caller, to.name, {
      epochMs: clock.epoch(),
      draw: draw(),
      may: (version) => may(caller, to.model, version),
      force: force === undefined ? undefined : String(force),
    })
    return typeof choice === 'string' ? refuse('invalid', `"${armField}": ${choice}`) : this.#chosen(to, choice, caller)
  }

  /** Lets shadows have a request whose outcome is known. */
  mirror(mirrored: Mirrored<T>): void {
    if (mirrored.chosen.choice) this.#tools.mirror(mirrored)
  }

  #standing(to: Addressed<T>): Chosen<T> | Refusal {
    const target = this.standard(to)
    if (isRefusal(target)) return target
    // Whoever names a version wants that one or none.
    const fallback = to.named === undefined ? to.route.fallback : undefined
    const names = { model: to.model, version: target.version, arm: undefined }
    return { target, names, choice: undefined, fallback, head: none }
  }

  #chosen(to: Addressed<T>, choice: Choice, caller: Caller): Chosen<T> | Refusal {
    const { arm, version } = choice
    const { targets, rescue } = to.snapshot
    const target = targets.get(version)
    if (!target) return noSuchVersion()
    const prediction = this.#tools.predictionOf(to.model, choice, caller)
    const head = [armField, arm, versionField, version]
    if (prediction !== undefined) head.push(predictionField, prediction)
    const stable = rescue?.arm === arm && target.isRepeatable ? targets.get(rescue.version) : undefined
    const rescued = stable && rescueFallback(stable.version, stable.lane)
    const fallback = rescued && to.route.fallback ? inTurn(rescued, to.route.fallback) : (rescued ?? to.route.fallback)
    return { target, names: { model: to.model, version, arm }, choice, fallback, head }
  }
}

const none: readonly string[] = []

function own(names: Readonly<Record<string, string>>, name: string): string | undefined {
  return Object.hasOwn(names, name) ? names[name] : undefined
}

function mayNotForce(): Refusal {
  return refuse('forbidden', `"${armField}" needs the scope \`experiment:force\``)
}

/** Whether requests to `host` are for a route's host pattern. A wildcard stands for one label or more (RFC 9110, 4.2.3). */
function takes(pattern: string | undefined, host: string): boolean {
  if (pattern === undefined) return true
  return pattern.startsWith('*.')
    ? host.length > pattern.length - 1 && host.endsWith(pattern.slice(1))
    : host === pattern
}

/** An exact name before any wildcard, and the longer of two wildcards first. */
function narrowness(pattern: string | undefined): number {
  if (pattern === undefined) return 0
  return pattern.startsWith('*.') ? pattern.length : 1_000
}

/** Also for what a caller may not see, which must not read differently. */
export function noSuchModel(path: string): Refusal {
  const message = path.startsWith('/v2/models/')
    ? 'no such model; GET /v2/models lists those that are served'
    : 'no such path; models are under /v2/models'
  return refuse('not_found', message)
}

/** Likewise. */
export function noSuchVersion(): Refusal {
  return refuse('not_found', 'no such version of this model; GET /v2/models/NAME lists those that are served')
}
