/**
 * Shadows: other versions that are sent what a version has just answered, so that their answers can be compared. Nobody
 * waits for them, so they give way to everything, and nothing that becomes of them reaches a caller.
 */
import type { InferRequest } from '../core/call.ts'
import type { Clock } from '../core/clock.ts'
import type { Priority } from '../core/priority.ts'
import { isRefusal, refuse, type Refusal, type RefusalCode } from '../core/refusal.ts'
import type { Work } from '../core/run.ts'
import { isStrings, type Tensor, type TensorData } from '../core/tensor.ts'

/** The request behind a shadow's work, as far as a lane cares. */
export interface ShadowClaim {
  readonly requestId: string
  readonly caller: string
  readonly deadline: number
  readonly priority: Priority
  readonly gone: boolean
  onGone(callback: () => void): void
  begin(): void
}

export interface Outcome {
  readonly outputs: readonly Tensor[]
}

/** What can be a shadow. */
export interface ShadowTarget {
  readonly model: string
  readonly version: string
  readonly lane: { run(work: Work, claim: ShadowClaim): Promise<Outcome | Refusal> }
}

/** Too many are in flight; their inputs hold too much memory; the lane turned it away, or never got to it. */
export type DropReason = 'busy' | 'memory' | 'refused'

export interface ShadowFacts {
  readonly requestId: string
  /** Between whom lanes are fair. */
  readonly caller: string
  /** Milliseconds that shadows have from now on. */
  readonly budgetMs: number
  readonly slices: readonly string[]
}

/** Two outcomes of one request. */
export interface ShadowPair<T extends ShadowTarget = ShadowTarget> {
  readonly target: T
  readonly request: { readonly rows: number; readonly requestId: string; readonly slices: readonly string[] }
  readonly primary: readonly Tensor[] | Refusal
  /** As the lane gave it, with all that it says besides the outputs. */
  readonly shadow: Awaited<ReturnType<T['lane']['run']>>
}

export interface ShadowsOptions<T extends ShadowTarget> {
  readonly clock: Pick<Clock, 'now' | 'after' | 'soon'>
  readonly mostInFlight?: number
  /** Of inputs that are copied. Outputs of primaries, which are held besides, are not counted. */
  readonly mostBytes?: number
  /** Milliseconds after its deadline in which a lane has to settle. */
  readonly graceMs?: number
  /** Called once for each shadow that was run, or after it had to be. */
  readonly onPair: (pair: ShadowPair<T>) => void
  readonly onDropped: (target: T, why: DropReason) => void
  /** From 0 up to 1: which of several shadows is first, so that when not all find room it is not always the same. */
  readonly random: () => number
}

const defaults = { mostInFlight: 32, mostBytes: 64 * 2 ** 20, graceMs: 1_000 }

/** What says nothing about the version, because it was not run. */
const turnedAway: ReadonlySet<RefusalCode> = new Set(['overloaded', 'not_ready', 'draining', 'abandoned'])

/** In the place of what a lane owes. */
const unsettled = refuse('expired', 'it was not answered, nor refused, by its deadline')

/** The inputs of one request, copied once for all of its shadows. */
interface Copy {
  readonly work: Work
  readonly bytes: number
  users: number
}

interface Progress extends ShadowClaim {
  hasBegun: boolean
}

interface Shadow<T extends ShadowTarget> {
  readonly target: T
  readonly copy: Copy
  readonly claim: Progress
  readonly pair: Pick<ShadowPair<T>, 'target' | 'request' | 'primary'>
  isOver: boolean
  cancelTimer: (() => void) | undefined
}

export class Shadows<T extends ShadowTarget> {
  readonly #options: ShadowsOptions<T> & typeof defaults
  #inFlight = 0
  #bytes = 0
  #defects = 0

  constructor(options: ShadowsOptions<T>) {
    this.#options = { ...defaults, ...options }
  }

  get inFlight(): number {
    return this.#inFlight
  }

  /** Of copied inputs. */
  get bytes(): number {
    return this.#bytes
  }

  /** How often something was thrown that should not have been, by a lane or by a callback. */
  get defects(): number {
    return this.#defects
  }

  /**
   * Sends a request on, now that it is answered. Its inputs may be given back when this returns: they are copied, if a
   * shadow is going to be run. The outputs have to stay as they are.
   */
  tee(request: InferRequest, facts: ShadowFacts, targets: readonly T[], primary: Outcome | Refusal): void {
    const { random } = this.#options
    const first = targets.length > 1 ? Math.floor(random() * targets.length) : 0
    let copy: Copy | undefined
    for (let i = 0; i < targets.length; i++) {
      const target = targets[(first + i) % targets.length]!
      const dropped = this.#lacks(request, copy)
      if (dropped) {
        this.#drop(target, dropped)
        continue
      }
      copy ??= this.#copyOf(request)
      this.#enter(this.#shadowOf(target, copy, facts, primary))
    }
  }

  #lacks(request: InferRequest, copy: Copy | undefined): DropReason | undefined {
    const { mostInFlight, mostBytes } = this.#options
    if (this.#inFlight >= mostInFlight) return 'busy'
    if (!copy && this.#bytes + bytesOf(request) > mostBytes) return 'memory'
    return undefined
  }

  #copyOf({ inputs, rows, key }: InferRequest): Copy {
    const copied = inputs.map((input) => ({ ...input, data: copyOf(input.data) }))
    const bytes = bytesOf({ inputs })
    this.#bytes += bytes
    return { work: { inputs: copied, rows, key }, bytes, users: 0 }
  }

  #shadowOf(target: T, copy: Copy, facts: ShadowFacts, primary: Outcome | Refusal): Shadow<T> {
    const { requestId, slices } = facts
    return {
      target,
      copy,
      claim: claimOf(facts, this.#options.clock.now()),
      pair: {
        target,
        request: { rows: copy.work.rows, requestId, slices },
        primary: isRefusal(primary) ? primary : primary.outputs,
      },
      isOver: false,
      cancelTimer: undefined,
    }
  }

  #enter(shadow: Shadow<T>): void {
    const { clock } = this.#options
    this.#inFlight++
    shadow.copy.users++
    // The answer's bytes go first.
    clock.soon(() => void this.#run(shadow))
  }

  /** Never rejects. */
  async #run(shadow: Shadow<T>): Promise<void> {
    const { clock, graceMs } = this.#options
    const { target, claim, copy } = shadow
    shadow.cancelTimer = clock.after(claim.deadline + graceMs - clock.now(), () => this.#end(shadow, unsettled))
    try {
      this.#end(shadow, await target.lane.run(copy.work, claim))
    } catch (error) {
      this.#defects++
      this.#end(shadow, refuse('internal', `a defect: ${String(error)}`))
    }
  }

  /** Only the first end counts. */
  #end(shadow: Shadow<T>, outcome: Outcome | Refusal): void {
    if (shadow.isOver) return
    shadow.isOver = true
    shadow.cancelTimer?.()
    this.#inFlight--
    if (--shadow.copy.users === 0) this.#bytes -= shadow.copy.bytes
    if (isRefusal(outcome) && saysNothing(outcome, shadow.claim)) this.#drop(shadow.target, 'refused')
    else this.#tell(() => this.#options.onPair({ ...shadow.pair, shadow: outcome as ShadowPair<T>['shadow'] }))
  }

  #drop(target: T, why: DropReason): void {
    this.#tell(() => this.#options.onDropped(target, why))
  }

  /** What listens must not harm who is just being answered. */
  #tell(call: () => void): void {
    try {
      call()
    } catch {
      this.#defects++
    }
  }
}

function saysNothing(refusal: Refusal, { hasBegun }: Progress): boolean {
  if (refusal === unsettled) return false
  return turnedAway.has(refusal.code) || (refusal.code === 'expired' && !hasBegun)
}

function claimOf({ requestId, caller, budgetMs }: ShadowFacts, now: number): Progress {
  return {
    requestId,
    caller,
    deadline: now + budgetMs,
    priority: 'shadow',
    gone: false,
    hasBegun: false,
    onGone() {},
    begin() {
      this.hasBegun = true
    },
  }
}

function bytesOf({ inputs }: Pick<Work, 'inputs'>): number {
  let bytes = 0
  for (const { data } of inputs)
    bytes += isStrings(data) ? data.offsets.byteLength + data.bytes.byteLength : data.byteLength
  return bytes
}

function copyOf(data: TensorData): TensorData {
  return isStrings(data) ? { offsets: data.offsets.slice(), bytes: data.bytes.slice() } : data.slice()
}
