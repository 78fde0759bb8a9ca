/**
 * SPIFFE ids, as certificates and proxies name workloads: `spiffe://TRUST-DOMAIN/PATH`. Stricter than the standard where
 * the standard leaves room, because an id that two readers understand differently is somebody else's.
 */
import { refuse, type Refusal } from './refusal.ts'

/** Longer ones need not be supported (SPIFFE-ID section 2.3). */
const mostBytes = 2_048
const idPattern = /^spiffe:\/\/[a-z0-9._-]{1,255}(\/[A-Za-z0-9._-]+)+$/
/** Parts of a path that would mean another path to whoever resolves it (section 2.2). */
const dots = /\.\.|\/\.(\/|$)/

export function isSpiffeId(text: string): boolean {
  return text.length <= mostBytes && idPattern.test(text) && !dots.test(text)
}

/** Whether a name could be taken for a SPIFFE id, good or not. */
export function looksLikeSpiffe(name: string): boolean {
  return /^\s*spiffe:/i.test(name)
}

/** The trust domain of a good id. */
export function trustDomainOf(id: string): string {
  const start = 'spiffe://'.length
  return id.slice(start, id.indexOf('/', start))
}

/** The one SPIFFE id among URIs that belong to one certificate, if any of them is one. */
export function spiffeIdAmong(uris: readonly string[]): string | undefined | Refusal {
  const [id, another] = uris.filter(looksLikeSpiffe)
  if (id === undefined) return undefined
  if (another !== undefined) return severalIds
  return isSpiffeId(id) ? id : badId
}

const severalIds = refuse('unauthenticated', 'the certificate holds several SPIFFE ids: issue it with one')
const badId = refuse(
  'unauthenticated',
  'the certificate holds a SPIFFE id that is not as it should be: issue it with spiffe://TRUST-DOMAIN/PATH',
)
