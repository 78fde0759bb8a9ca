/**
 * Chains from a client's certificate to an authority (RFC 5280 section 6), for connections that are open already: Node lets
 * OpenSSL look at certificates in handshakes only.
 */
import type { X509Certificate } from 'node:crypto'
import { fieldsOf, objectIds, type CertificateFields } from './certificate-fields.ts'
import { readDer, tags } from './der.ts'

/** A certificate with what is asked of it again and again. */
export interface Link {
  readonly certificate: X509Certificate
  readonly id: string
  readonly fields: CertificateFields
  /** Milliseconds since 1970. */
  readonly from: number
  readonly until: number
  readonly isSelfSigned: boolean
  readonly isAuthority: boolean
  /** Of an authority, how many others may be between it and the client's. */
  readonly maxBelow: number
  /** Of an authority, whether it may not sign for everybody. */
  readonly isLimited: boolean
}

/** The client's certificate first, and the authority that is trusted last. */
export type Chain = readonly Link[]

/** Undefined if it cannot be read. */
export function linkOf(certificate: X509Certificate): Link | undefined {
  const fields = fieldsOf(certificate.raw)
  if (!fields) return undefined
  const constraints = fields.extensions.get(objectIds.basicConstraints)
  const isSelfSigned = certificate.checkIssued(certificate)
  return {
    certificate,
    id: certificate.fingerprint256,
    fields,
    from: certificate.validFromDate.getTime(),
    until: certificate.validToDate.getTime(),
    isSelfSigned,
    // Those of version 1 say nothing of it.
    isAuthority: certificate.ca || (isSelfSigned && fields.extensions.size === 0),
    maxBelow: (constraints && maxBelow(constraints.value)) ?? Infinity,
    isLimited: isLimited(certificate, fields),
  }
}

/** `pathLenConstraint`; undefined if there is none. */
function maxBelow(basicConstraints: Buffer): number | undefined {
  return readDer(basicConstraints, (reader) => {
    const fields = reader.inside(tags.sequence)
    fields.optional(tags.boolean)
    const length = fields.optional(tags.integer)
    return length && Number(`0x${fields.content(length).toString('hex')}`)
  })
}

/** Extensions that may be critical without a limit in them: key usage, constraints that are read here, policies. */
const understood = new Set<string>(['551d0f', objectIds.basicConstraints, '551d25', '551d20'])
const clientUses = new Set(['1.3.6.1.5.5.7.3.2', '2.5.29.37.0'])

function isLimited({ keyUsage }: X509Certificate, { extensions }: CertificateFields): boolean {
  // What Node calls so are the extended ones.
  const uses = keyUsage as readonly string[] | undefined
  if (uses && !uses.some((use) => clientUses.has(use))) return true
  if (extensions.has(objectIds.nameConstraints)) return true
  return [...extensions].some(([id, { isCritical }]) => isCritical && !understood.has(id))
}

const longest = 10
/** A client may send many certificates that could be each other's. */
const mostSignatures = 64

/** All chains, up to so many signatures. */
export function chainsOf(leaf: Link, authorities: readonly Link[], sent: readonly Link[]): Chain[] {
  const trusted = new Set(authorities.map(({ id }) => id))
  const found: Chain[] = []
  let signatures = 0
  const extend = (chain: Chain): void => {
    const last = chain.at(-1)!
    if (last.isSelfSigned) {
      if (trusted.has(last.id)) found.push(chain)
      return
    }
    if (chain.length === longest) return
    for (const issuer of [...authorities, ...sent]) {
      if (signatures === mostSignatures) return
      if (!mayFollow(chain, issuer)) continue
      signatures++
      if (last.certificate.verify(issuer.certificate.publicKey)) extend([...chain, issuer])
    }
  }
  extend([leaf])
  return found
}

function mayFollow(chain: Chain, issuer: Link): boolean {
  const { certificate } = chain.at(-1)!
  if (!issuer.isAuthority || chain.some(({ id }) => id === issuer.id)) return false
  const below = chain.slice(1).filter(({ isSelfSigned }) => !isSelfSigned).length
  return below <= issuer.maxBelow && certificate.checkIssued(issuer.certificate)
}
