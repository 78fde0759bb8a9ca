/** What Node does not tell of a certificate, or only in a text that leaves questions open (RFC 5280 section 4.1). */
import { readDer, tags, type DerReader } from './der.ts'

export interface CertificateFields {
  /** Content of the integer, one character for each byte. */
  readonly serial: string
  readonly subject: readonly NamePart[]
  /** By object identifier; no two have the same. */
  readonly extensions: ReadonlyMap<string, Extension>
}

export interface NamePart {
  readonly type: string
  /** Undefined if it is no text. */
  readonly value: string | undefined
}

export interface Extension {
  readonly isCritical: boolean
  readonly value: Buffer
}

/** Object identifiers, as `DerReader` gives them. */
export const objectIds = {
  commonName: '550403',
  organization: '55040a',
  subjectAltName: '551d11',
  basicConstraints: '551d13',
  nameConstraints: '551d1e',
} as const

/** Undefined if it cannot be read to its end. */
export function fieldsOf(certificate: Buffer): CertificateFields | undefined {
  return readDer(certificate, (reader) => {
    const body = reader.inside(tags.sequence).inside(tags.sequence)
    body.optional(0xa0)
    const serial = latin1(body, tags.integer)
    // The algorithm, the issuer and the validity.
    for (let i = 0; i < 3; i++) body.next(tags.sequence)
    const subject = readName(body)
    body.next(tags.sequence)
    body.optional(0x81)
    body.optional(0x82)
    const extensions = body.sees(0xa3) ? readExtensions(body.inside(0xa3)) : new Map()
    return extensions && body.isDone ? { serial, subject, extensions } : undefined
  })
}

/** One character for each byte of the content. */
export function latin1(reader: DerReader, tag: number): string {
  const { start, end } = reader.next(tag)
  return reader.bytes.toString('latin1', start, end)
}

/** Undefined if one is there twice (RFC 5280 section 4.2). */
export function readExtensions(reader: DerReader): Map<string, Extension> | undefined {
  const found = new Map<string, Extension>()
  const list = reader.inside(tags.sequence)
  while (!list.isDone) {
    const extension = list.inside(tags.sequence)
    const id = extension.objectId()
    const critical = extension.optional(tags.boolean)
    const isCritical = critical !== undefined && list.bytes[critical.start] !== 0
    const value = extension.content(extension.next(tags.octetString))
    if (found.has(id)) return undefined
    found.set(id, { isCritical, value })
  }
  return found
}

/** Of a name, the parts in their order, also those that stand side by side. */
export function readName(reader: DerReader): NamePart[] {
  const parts: NamePart[] = []
  const name = reader.inside(tags.sequence)
  while (!name.isDone) {
    const set = name.inside(tags.set)
    while (!set.isDone) {
      const part = set.inside(tags.sequence)
      const type = part.objectId()
      const value = part.next()
      parts.push({ type, value: textOf(value.tag, part.content(value)) })
    }
  }
  return parts
}

const utf16 = new TextDecoder('utf-16be', { ignoreBOM: true })

/** Of the kinds of strings that names may have (RFC 5280 section 4.1.2.4), and IA5String; OpenSSL takes well-formed ones only. */
function textOf(tag: number, bytes: Buffer): string | undefined {
  if (tag === 0x0c) return bytes.toString('utf8')
  if (tag === 0x1e) return utf16.decode(bytes)
  return tag === 0x13 || tag === 0x14 || tag === 0x16 ? bytes.toString('latin1') : undefined
}
