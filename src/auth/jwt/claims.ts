/** Whether what a token claims is acceptable at a time (RFC 7519 section 4.1, RFC 8725), and the caller that it names. */
import type { Caller } from '../../core/caller.ts'
import { isFault, type Fault } from './faults.ts'
import type { Claims, Header } from './parse.ts'
import { plainType, type ClaimPath, type Terms } from './terms.ts'

/** What is acceptable of a token, if its signature is good. */
export interface Accepted {
  readonly caller: Caller
  /** Milliseconds since 1970 from and until which it is valid, the skew of clocks included. */
  readonly fromMs: number
  readonly untilMs: number
  readonly id: string | undefined
}

const maxScopes = 100
const maxTextLength = 256
const maxIdLength = 1_024
/** They have no place in logs, nor in names. */
// oxlint-disable-next-line no-control-regex
const controls = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/

export function checkHeader({ algorithm, type }: Header, { algorithms, types }: Terms): Fault | undefined {
  if (!algorithms.includes(algorithm)) return 'algorithm'
  const wanted = type === undefined ? 'none' : plainType(type)
  // A token that says `none` is not one that says nothing.
  const isWanted = types.includes(wanted) && !(type !== undefined && wanted === 'none')
  return isWanted ? undefined : 'type'
}

export function accept(claims: Claims, terms: Terms, epochMs: number): Accepted | Fault {
  const { audiences, requiredClaims } = terms
  const times = timesOf(claims, terms, epochMs)
  if (isFault(times)) return times
  if (!isFor(own(claims, 'aud'), audiences)) return 'audience'
  if (requiredClaims.some((name) => (own(claims, name) ?? null) === null)) return 'claims'
  const id = own(claims, 'jti')
  if (id !== undefined && !(typeof id === 'string' && id.length <= maxIdLength)) return 'claims'
  const caller = callerOf(claims, terms)
  return caller ? { ...times, caller, id } : 'claims'
}

type Times = Pick<Accepted, 'fromMs' | 'untilMs'>

function timesOf(claims: Claims, { skewS, maxLifetimeS }: Terms, epochMs: number): Times | Fault {
  const expires = own(claims, 'exp')
  const starts = own(claims, 'nbf')
  const issued = own(claims, 'iat')
  if (expires === undefined) return 'lifetime'
  if (!isSeconds(expires) || !isSecondsOrNothing(starts) || !isSecondsOrNothing(issued)) return 'claims'
  const untilMs = (expires + skewS) * 1_000
  // One that is from the future could be as long as it likes.
  const fromMs = (Math.max(starts ?? 0, issued ?? 0) - skewS) * 1_000
  if (epochMs >= untilMs) return 'expired'
  if (epochMs < fromMs) return 'early'
  return expires - (issued ?? epochMs / 1_000) > maxLifetimeS ? 'lifetime' : { fromMs, untilMs }
}

function isSeconds(value: unknown): value is number {
  return Number.isFinite(value)
}

function isSecondsOrNothing(value: unknown): value is number | undefined {
  return value === undefined || isSeconds(value)
}

function isFor(audience: unknown, audiences: readonly string[]): boolean {
  const named: readonly unknown[] = Array.isArray(audience) ? audience : [audience]
  return named.some((each) => typeof each === 'string' && audiences.includes(each))
}

function callerOf(claims: Claims, { issuer, claims: paths }: Terms): Caller | undefined {
  const subject = at(claims, paths.subject)
  const tenant = at(claims, paths.tenant, '')
  const profile = at(claims, paths.profile)
  const scopes = scopesOf(at(claims, paths.scopes, []))
  if (!isText(subject) || subject === '' || !isText(tenant) || !scopes) return undefined
  if (profile !== undefined && !isText(profile)) return undefined
  const name = `${issuer}/${subject}`
  return { name, method: 'jwt', tenant, subject, scopes, claims: plainClaims(claims), spiffe: undefined, profile }
}

/** Of the token itself, not of whom it is about. */
const ofToken: ReadonlySet<string> = new Set(['exp', 'iat', 'nbf', 'jti'])
const maxPlainClaims = 32

/** Those by which requests can be told apart. */
function plainClaims(claims: Claims): Readonly<Record<string, string>> {
  const plain = Object.entries(claims).flatMap(([name, value]): [string, string][] => {
    if (ofToken.has(name) || name.length > maxTextLength) return []
    if (isText(value)) return [[name, value]]
    return typeof value === 'boolean' || Number.isFinite(value) ? [[name, String(value)]] : []
  })
  return Object.fromEntries(plain.slice(0, maxPlainClaims))
}

/** As text with spaces between (RFC 8693 section 4.2), or as a list. */
function scopesOf(value: unknown): readonly string[] | undefined {
  const scopes: unknown = typeof value === 'string' ? value.split(' ').filter((each) => each !== '') : value
  return Array.isArray(scopes) && scopes.length <= maxScopes && scopes.every(isText) ? scopes : undefined
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value.length <= maxTextLength && !controls.test(value)
}

/** What is not there is `missing`; null is there, and is not text. */
function at(claims: Claims, path: ClaimPath, missing?: unknown): unknown {
  const found = typeof path === 'string' ? own(claims, path) : path.reduce<unknown>(own, claims)
  return found === undefined ? missing : found
}

/** Not what every object inherits. */
function own(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, name)
    ? (value as Record<string, unknown>)[name]
    : undefined
}
