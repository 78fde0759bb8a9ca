/**
 * The life of a request, from top to bottom. Each step's value is the next step's argument; a step that turns the
 * request down returns a Refusal, and nothing after it is paid for. Up to `reserve` only the head has been read.
 */
import type { Identify } from './auth/auth.ts'
import type { Done } from './batching/queue.ts'
import type { Answer, Call } from './core/call.ts'
import { isRefusal, type Refusal } from './core/refusal.ts'
import type { Work } from './core/run.ts'
import type { Signature } from './core/signature.ts'
import type { Router } from './routing/router.ts'
import type { Journal } from './telemetry/journal.ts'

/** A version that can be run: what it takes and gives, and where its requests wait. */
export interface Target {
  readonly model: string
  readonly version: string
  readonly contract: Signature
  readonly lane: {
    reserve(): Refusal | undefined
    run(work: Work, claim: Call): Promise<Done | Refusal>
  }
}

/** What one request needs, as the configuration in force when it arrived would have it. */
export interface Steps {
  readonly identify: Identify
  readonly router: Pick<Router<Target>, 'route' | 'choose'>
}

export async function infer(call: Call, steps: Steps, journal: Journal): Promise<Answer | Refusal> {
  const caller = steps.identify(call)
  if (isRefusal(caller)) return caller

  const route = steps.router.route(call)
  if (isRefusal(route)) return route

  const target = steps.router.choose(route, call)
  if (isRefusal(target)) return target
  journal.routed(route.name, target)

  const full = target.lane.reserve()
  if (full) return full

  const request = await call.read(target.contract)
  if (isRefusal(request)) return request
  journal.rows = request.rows

  const done = await target.lane.run(request, call)
  if (isRefusal(done)) return done
  journal.ran(done)

  const { id, wanted } = request
  return { model: target.model, version: target.version, id, wanted, outputs: done.outputs }
}
