/**
 * X.509 certificates (RFC 5280) for development: of one kind, signed with ECDSA over P-256. There are libraries for it,
 * with twenty packages behind them; what a certificate for a laptop needs of ASN.1 is this page and the next.
 */
import { createHash, createPrivateKey, generateKeyPairSync, randomBytes, sign, type KeyObject } from 'node:crypto'
import { isIPv4, isIPv6 } from 'node:net'
import { groupsOf } from '../edge/transport/addresses.ts'
import { bits, bitString, boolean, der, integer, objectId, octets, sequence, utcTime } from './der.ts'

export interface CertificateOptions {
  /** Common name of the subject. */
  readonly subject: string
  readonly days: number
  /** Who signs it, and what it is good for; without one it signs itself, and is an authority. */
  readonly issued?: {
    readonly by: Issued
    readonly as: 'server' | 'client' | 'authority'
    /** Host names, addresses and URIs that it stands for. */
    readonly names: readonly string[]
  }
}

/** In PEM, with what is needed to sign others. */
export interface Issued {
  readonly cert: string
  readonly key: string
  readonly subject: string
  readonly keyId: Buffer
}

const msPerDay = 86_400_000
const serialBytes = 16

/** Makes a key and a certificate for it that holds from `now` on, milliseconds since 1970. */
export function issue({ subject, days, issued }: CertificateOptions, now: number): Issued {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const spki = publicKey.export({ type: 'spki', format: 'der' })
  const keyId = createHash('sha1').update(spki).digest()
  const extensions =
    issued && issued.as !== 'authority' ? leafExtensions(issued.names, issued.as) : authorityExtensions()
  const tbs = sequence(
    // Version 3.
    der(0xa0, integer(Buffer.of(2))),
    integer(positive(randomBytes(serialBytes))),
    ecdsaWithSha256,
    nameOf(issued?.by.subject ?? subject),
    // From a day before, because clocks differ.
    sequence(utcTime(now - msPerDay), utcTime(now + days * msPerDay)),
    nameOf(subject),
    spki,
    der(
      0xa3,
      sequence(...extensions, extension(14, octets(keyId)), extension(35, authorityId(issued?.by.keyId ?? keyId))),
    ),
  )
  const signer = issued ? createPrivateKey(issued.by.key) : privateKey
  return {
    cert: signedPem(tbs, signer),
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }),
    subject,
    keyId,
  }
}

export function authorityExtensions(): Buffer[] {
  // Signs certificates and revocation lists.
  return [extension(19, sequence(boolean(true)), true), extension(15, bits(0x06, 1), true)]
}

function leafExtensions(names: readonly string[], use: 'server' | 'client'): Buffer[] {
  return [
    extension(19, sequence(), true),
    // Digital signature.
    extension(15, bits(0x80, 7), true),
    extension(37, sequence(objectId(1, 3, 6, 1, 5, 5, 7, 3, use === 'server' ? 1 : 2))),
    // An empty list must not be there (RFC 5280 section 4.2.1.6).
    ...(names.length > 0 ? [extension(17, sequence(...names.map(generalName)))] : []),
  ]
}

/** One of those under 2.5.29 (RFC 5280 section 4.2.1). */
export function extension(id: number, value: Buffer, isCritical = false): Buffer {
  return sequence(objectId(2, 5, 29, id), ...(isCritical ? [boolean(true)] : []), octets(value))
}

function authorityId(keyId: Buffer): Buffer {
  return sequence(der(0x80, keyId))
}

function generalName(name: string): Buffer {
  if (isIPv4(name)) return der(0x87, Buffer.from(name.split('.').map(Number)))
  if (isIPv6(name)) return der(0x87, Buffer.from(groupsOf(name).flatMap((group) => [group >> 8, group & 0xff])))
  return der(name.includes('://') ? 0x86 : 0x82, Buffer.from(name, 'latin1'))
}

/** A distinguished name of nothing but a common name. */
export function nameOf(commonName: string): Buffer {
  return sequence(der(0x31, sequence(objectId(2, 5, 4, 3), der(0x0c, Buffer.from(commonName)))))
}

/** Neither negative nor with a leading zero. */
function positive(bytes: Buffer): Buffer {
  bytes[0] = (bytes[0]! & 0x3f) | 0x40
  return bytes
}

export const ecdsaWithSha256 = sequence(objectId(1, 2, 840, 10045, 4, 3, 2))

/** What was to be signed with ECDSA over P-256, with its signature. */
export function signedPem(tbs: Buffer, signer: KeyObject): string {
  return toPem('CERTIFICATE', sequence(tbs, ecdsaWithSha256, bitString(sign('sha256', tbs, signer))))
}

export function toPem(label: string, bytes: Buffer): string {
  const lines = bytes.toString('base64').match(/.{1,64}/g)!
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`
}
