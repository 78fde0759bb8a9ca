/**
 * Who is calling. Whoever shows several things must be good for each of them: a proof that fails is never made up for by
 * another. A person's or machine's own proof (token, API key, or what a proxy has verified of a token) says who calls;
 * that of the workload at the other end (certificate, mesh) adds its SPIFFE id, or stands alone.
 */
import { strangerCalled, type Caller } from '../core/caller.ts'
import type { Headers, Origin } from '../core/origin.ts'
import { isRefusal, Refusal } from '../core/refusal.ts'

/** What of a request says who sent it. */
export interface Shown {
  readonly headers: Headers
  readonly origin: Origin
  /** An address, or a network that is one client's. */
  readonly peer: string
}

type Found = Caller | Refusal | undefined
export type Identified = Caller | Refusal
/** Ready at once for whoever was seen before. */
export type Identify = (shown: Shown) => Identified | Promise<Identified>

/** The ways of identification that are configured. */
export interface Methods {
  readonly tokens?: TokenMethod | undefined
  /** The field with claims that a trusted proxy has verified. */
  readonly payloadHeader?: string | undefined
  readonly apiKeys?: { readonly header: string; identify(headers: Headers): Found } | undefined
  readonly certificate?: ((origin: Origin) => Found) | undefined
  readonly mesh?: ((headers: Headers) => Found) | undefined
  /** Whether who shows nothing may come in: some rule is about anyone. */
  readonly isOpen: boolean
  readonly counts: { identified(method: string): void; refused(method: string, reason: string): void }
}

/** Counts its refusals itself. */
interface TokenMethod {
  /** Undefined for what is no token. */
  identify(authorization: string, peer: string, origin: Origin): Found | Promise<Identified>
  identifyPayload(payload: string): Identified
}

/** Lets everybody in: nobody is asked. */
export const everybody: Identify = ({ origin, peer }) => strangerOf(origin, peer)

/** Makes the function that tells who is calling. */
export function createIdentify(methods: Methods): Identify {
  const { isOpen, counts } = methods
  const challenge = ['www-authenticate', `${schemeOf(methods)} realm="penstock"`]
  const nobody = new Refusal('unauthenticated', `show who is calling: ${waysOf(methods)}`, undefined, challenge)
  const join = (shown: Shown, own: Found): Identified => {
    if (isRefusal(own)) return challenged(own, challenge)
    const workload = workloadOf(methods, shown)
    if (isRefusal(workload)) {
      counts.refused(methods.mesh ? 'mesh' : 'mtls', 'identity')
      return challenged(workload, challenge)
    }
    const caller = own && workload ? together(own, workload) : (own ?? workload)
    if (!caller && !isOpen) {
      counts.refused('none', 'missing')
      return nobody
    }
    counts.identified(caller?.method ?? 'none')
    return caller ?? strangerOf(shown.origin, shown.peer)
  }
  return (shown) => {
    const own = ownProof(methods, shown)
    return own instanceof Promise ? own.then((found) => join(shown, found)) : join(shown, own)
  }
}

/** Every 401 says what to show (RFC 9110 section 15.5.2). */
function challenged(refusal: Refusal, challenge: readonly string[]): Refusal {
  const { code, message, head } = refusal
  return code !== 'unauthenticated' || head.length > 0 ? refusal : new Refusal(code, message, undefined, challenge)
}

/** Only that of tokens is registered (RFC 6750). */
function schemeOf({ tokens, apiKeys }: Methods): string {
  return tokens ? 'Bearer' : apiKeys ? 'ApiKey' : 'ClientCertificate'
}

function ownProof(methods: Methods, { headers, peer, origin }: Shown): Found | Promise<Found> {
  const { tokens, payloadHeader, apiKeys, counts } = methods
  const { authorization } = headers
  const key = apiKeys?.identify(headers)
  if (isRefusal(key)) counts.refused('api-key', 'key')
  if (authorization !== undefined && !key) {
    const found = tokens?.identify(authorization as string, peer, origin)
    if (!found) counts.refused('none', 'scheme')
    return found ?? unwanted
  }
  if (authorization !== undefined) counts.refused('api-key', 'two_proofs')
  if (key) return authorization === undefined ? key : twoProofs
  const payload = payloadHeader === undefined ? undefined : headers[payloadHeader]
  return payload === undefined ? undefined : tokens!.identifyPayload(String(payload))
}

function workloadOf({ certificate, mesh }: Methods, { headers, origin }: Shown): Found {
  return certificate?.(origin) ?? mesh?.(headers)
}

/** One object for the same two, because much is remembered by caller. */
const pairs = new WeakMap<Caller, { readonly workload: Caller; readonly both: Caller }>()

function together(own: Caller, workload: Caller): Caller {
  const known = pairs.get(own)
  if (known?.workload === workload) return known.both
  const both = { ...own, spiffe: workload.spiffe, peer: workload.peer }
  pairs.set(own, { workload, both })
  return both
}

const strangers = new WeakMap<Origin, Caller>()

/** Who shows nothing is known by its address. One object for a connection, unless a proxy brings several on it. */
function strangerOf(origin: Origin, peer: string): Caller {
  const known = strangers.get(origin)
  if (known?.name === peer) return known
  const caller = strangerCalled(peer)
  strangers.set(origin, caller)
  return caller
}

const twoProofs = new Refusal('unauthenticated', 'send an API key or an "authorization" field, not both')
const unwanted = new Refusal('unauthenticated', 'what "authorization" holds is no proof that is taken here')

function waysOf({ tokens, apiKeys, certificate, mesh }: Methods): string {
  const ways = [
    tokens && 'a token, as `authorization: Bearer TOKEN`',
    apiKeys && `an API key, in \`${apiKeys.header}\``,
    certificate && 'a client certificate',
    mesh && 'the identity of a workload in the mesh',
  ].filter((way) => way !== undefined)
  return ways.length > 0 ? ways.join(', or ') : 'no way to do so is configured'
}
