/**
 * What is known of the other end of a connection: its address, and what it proved to be. A certificate is read from its
 * bytes, because a text of names can be made to look like one with other names in it.
 */
import type { X509Certificate } from 'node:crypto'
import type { ClientCertificate, Origin } from '../../core/origin.ts'
import { fieldsOf, objectIds, type CertificateFields } from './certificate-fields.ts'
import { readDer, tags } from './der.ts'

export class ConnectionOrigin implements Origin {
  readonly address: string
  #shown: X509Certificate | undefined
  #certificate: ClientCertificate | undefined

  constructor(address: string) {
    this.address = address
  }

  /** Takes up the certificate of a handshake that has succeeded. */
  proved(shown: X509Certificate | undefined): void {
    this.#shown = shown
    this.#certificate = undefined
  }

  /** Read when it is first asked for. Undefined also for one that is not as it should be. */
  get certificate(): ClientCertificate | undefined {
    if (!this.#certificate && this.#shown) {
      this.#certificate = readCertificate(this.#shown)
      this.#shown = undefined
    }
    return this.#certificate
  }
}

/** Longer names are nobody's: those of RFC 5280 have 64 characters at most. */
const longestName = 256
/** SPIFFE-ID section 2.3. */
const longestUri = 2_048

/**
 * Of names that leave a doubt, none is told: of several common names, of texts with control characters, and of all URIs if
 * one of them is none.
 */
export function readCertificate({ raw, validToDate }: X509Certificate): ClientCertificate | undefined {
  const fields = fieldsOf(raw)
  const uris = fields && urisOf(fields)
  if (!fields || !uris) return undefined
  const commonNames = fields.subject.filter(({ type }) => type === objectIds.commonName)
  const organizations = fields.subject.filter(({ type }) => type === objectIds.organization)
  return {
    commonName: (commonNames.length === 1 && plain(commonNames[0]!.value)) || '',
    organizations: organizations.flatMap(({ value }) => plain(value) ?? []),
    uris: uris.every(isUri) ? uris : [],
    expiresAt: validToDate.getTime(),
  }
}

function plain(value: string | undefined): string | undefined {
  const isPlain = value !== undefined && value.length <= longestName && !/\p{C}/u.test(value)
  return isPlain ? value : undefined
}

/** As they stand; undefined if the list cannot be read to its end. */
function urisOf({ extensions }: CertificateFields): string[] | undefined {
  const names = extensions.get(objectIds.subjectAltName)
  if (!names) return []
  return readDer(names.value, (reader) => {
    const uris: string[] = []
    const list = reader.inside(tags.sequence)
    while (!list.isDone) {
      const name = list.next()
      // [6] uniformResourceIdentifier (RFC 5280 section 4.2.1.6).
      if (name.tag === 0x86) uris.push(list.content(name).toString('latin1'))
    }
    return uris
  })
}

/** Of the characters of RFC 3986 only, and after a scheme. */
function isUri(text: string): boolean {
  return text.length <= longestUri && /^[a-z][a-z0-9+.-]*:[\w\-.~:/?#[\]@!$&'()*+,;=%]+$/i.test(text)
}
