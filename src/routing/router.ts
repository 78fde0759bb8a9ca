/**
 * Which model and which version. A route is what a client addresses; each model has one of its own. The version is the
 * one that the client names, or else the one that the configuration names, or else the newest.
 */
import type { Call } from '../core/call.ts'
import { refuse, type Refusal } from '../core/refusal.ts'

export interface Route<Target> {
  readonly model: string
  /** The version of requests that name none. */
  readonly version: string
  readonly targets: ReadonlyMap<string, Target>
}

export class Router<Target> {
  readonly #routes: ReadonlyMap<string, Route<Target>>

  constructor(routes: readonly Route<Target>[]) {
    this.#routes = new Map(routes.map((route) => [route.model, route]))
  }

  route({ model }: Pick<Call, 'model'>): Route<Target> | Refusal {
    return this.#routes.get(model) ?? refuse('not_found', 'no such model; GET /v2/models lists those that are served')
  }

  choose(route: Route<Target>, { version }: Pick<Call, 'version'>): Target | Refusal {
    const target = route.targets.get(version ?? route.version)
    return (
      target ?? refuse('not_found', 'no such version of this model; GET /v2/models/NAME lists those that are served')
    )
  }
}
