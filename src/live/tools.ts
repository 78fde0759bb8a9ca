/** What a live model needs of what is around it. */
import type { Clock } from '../core/clock.ts'
import type { SharedCounts } from '../experiments/experiment.ts'
import type { Alarm, RolloutState } from '../experiments/rollout.ts'
import type { Runner } from '../models/fleet.ts'
import type { Security } from '../security.ts'
import type { States } from '../state/states.ts'
import type { HttpRoutes } from './http-routes.ts'
import type { LiveModel } from './model.ts'
import type { Wiring } from './served.ts'

export interface LiveTools {
  readonly clock: Clock
  readonly states: States
  /** Counts that gateways add up, under a name; undefined where this one is alone. */
  readonly countsOf: (name: string) => SharedCounts | undefined
  readonly onChange: (model: LiveModel, what: string, why: string) => void
  /** Told of what an experiment has led to by itself. */
  readonly onMoved: (model: LiveModel, before: RolloutState, after: RolloutState) => void
  readonly onAlert: (model: LiveModel, alarm: Alarm) => void
  readonly onProblem: (model: LiveModel, problem: string) => void
}

export interface LiveModelsTools {
  readonly wiring: Wiring
  readonly security: Security
  readonly states: States
  readonly live: LiveTools
  readonly runner: Runner
  /** For shadows. */
  readonly shadowRunner: Runner
  readonly httpRoutes: HttpRoutes
}
