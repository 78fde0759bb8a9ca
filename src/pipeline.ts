/**
 * The life of a request, from top to bottom. Each step's value is the next step's argument; a step that turns the
 * request down returns a Refusal, and nothing after it is paid for. Up to `reserve` only the head has been read.
 */
import type { Access } from './auth/access.ts'
import type { Identify } from './auth/auth.ts'
import type { Done } from './batching/job.ts'
import { answerTo, type Answer, type Call } from './core/call.ts'
import { Claim } from './core/claim.ts'
import { isRefusal, type Refusal } from './core/refusal.ts'
import type { Work } from './core/run.ts'
import type { Signature } from './core/signature.ts'
import type { Limits } from './limits/limits.ts'
import type { Router } from './routing/router.ts'
import type { Journal } from './telemetry/journal.ts'

/** A version that can be run: what it takes and gives, and where its requests wait. */
export interface Target {
  readonly model: string
  readonly version: string
  readonly contract: Signature
  readonly isRepeatable: boolean
  readonly lane: {
    reserve(claim: Claim): Refusal | undefined
    run(work: Work, claim: Claim): Promise<Done | Refusal>
    predict(work: Work, claim: Claim): number | undefined
  }
}

/** What one request needs, as the configuration in force when it arrived would have it. */
export interface Steps {
  readonly identify: Identify
  readonly access: Pick<Access, 'bars' | 'sees'>
  readonly limits: Pick<Limits, 'admit'>
  readonly router: Pick<Router<Target>, 'route' | 'standard' | 'choose' | 'mirror'>
}

export async function infer(call: Call, steps: Steps, journal: Journal): Promise<Answer | Refusal> {
  const caller = await steps.identify(call)
  if (isRefusal(caller)) return caller

  const route = steps.router.route(call)
  if (isRefusal(route)) return route

  const barred = steps.access.bars(caller, 'infer', route, call)
  if (barred) return barred
  journal.routed(route.name, route.model)

  const claim = new Claim(call, caller.name, route.terms)
  const permit = await steps.limits.admit({ caller, route: route.name, model: route.model, priority: claim.priority })
  if (isRefusal(permit)) return permit
  claim.onRan((computeMs) => permit.settle(computeMs))
  try {
    const chosen = steps.router.choose(route, call, caller)
    if (isRefusal(chosen)) return chosen
    journal.chose(chosen)
    const { target, fallback } = chosen
    const hopeless = target.lane.reserve(claim.early(fallback?.keepMs))
    if (hopeless && !fallback) return hopeless
    const request = await call.read(target.contract, claim.deadline)
    if (isRefusal(request)) return request
    journal.rows = request.rows
    claim.tighten(request)
    const over = await permit.charge(request.rows, () => target.lane.predict(request, claim))
    if (over) return over
    const done = hopeless ?? (await target.lane.run(request, claim.early(fallback?.keepMs)))
    steps.router.mirror({ chosen, to: route, call, request, claim, done })
    const head = [...permit.fields(), ...chosen.head]
    journal.ran(done)
    if (!isRefusal(done)) return answerTo(request, chosen.names, { head, outputs: done.outputs })
    const instead = await fallback?.answer(request, claim, done)
    if (!instead) return done
    journal.fell(instead.kind, done.code)
    const { kind, outputs, version = chosen.names.version } = instead
    return answerTo(request, { ...chosen.names, version }, { head, outputs, fallback: kind })
  } finally {
    if (claim.hasBegun) permit.leave()
    else permit.release()
  }
}
