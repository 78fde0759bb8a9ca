/**
 * Who is calling, by what the proxy in front has verified. What of the header may not be believed was removed before, so
 * what is still there counts.
 */
import { LRUCache } from 'lru-cache'
import type { Caller } from '../core/caller.ts'
import type { Headers } from '../core/origin.ts'
import { isRefusal, refuse, type Refusal } from '../core/refusal.ts'
import { createWorkloads, type WorkloadOptions } from './workload.ts'
import { identityFrom, parseXfcc } from './xfcc.ts'

/** Who stands in front. */
export interface Front {
  /** SPIFFE ids of proxies whose word is taken for who was at their other end. */
  readonly trustedProxies: readonly string[]
  /** The SPIFFE id for which the nearest proxy must have spoken. */
  readonly self?: string | undefined
  /** The longest header that is read. */
  readonly maxBytes: number
}

export interface MeshCaller extends Caller {
  /** The SPIFFE id of the workload whose connection the nearest proxy took: the last trusted one, if there are some. */
  readonly peer: string | undefined
}

/** Of headers that name a caller: they repeat until a certificate is renewed. */
const mostKnown = 10_000
const mostKnownBytes = 16 * 1_024 * 1_024
/** What a header takes beside its text, roughly. */
const besideBytes = 512

/** Makes the function that tells whom the mesh says a request is from; undefined if it says nothing. */
export function createMeshIdentity(options: WorkloadOptions, front: Front) {
  const callerOf = createWorkloads(options, 'mesh')
  const trust = { trustedProxies: new Set(front.trustedProxies), self: front.self }
  const identify = (text: string): MeshCaller | Refusal | undefined => {
    const elements = parseXfcc(text, front.maxBytes)
    if (typeof elements === 'string') {
      return refuse('unauthenticated', `\`x-forwarded-client-cert\` cannot be read: ${elements}`)
    }
    const identity = identityFrom(elements, trust)
    if (identity === undefined || isRefusal(identity)) return identity
    const caller = callerOf(identity.client)
    return isRefusal(caller) ? caller : { ...caller, peer: identity.peer }
  }
  const known = new LRUCache<string, MeshCaller>({
    max: mostKnown,
    maxSize: mostKnownBytes,
    sizeCalculation: (_caller, { length }) => length + besideBytes,
  })
  return (headers: Headers): MeshCaller | Refusal | undefined => {
    const shown = headers['x-forwarded-client-cert']
    if (shown === undefined) return undefined
    const text = typeof shown === 'string' ? shown : shown.join(', ')
    const before = known.get(text)
    if (before) return before
    const found = identify(text)
    // Refusals are cheap, and as many as a client likes.
    if (found && !isRefusal(found)) known.set(text, found)
    return found
  }
}
