/** What is known of the other end of a connection: its address, and what it proved to be. */
import type { X509Certificate } from 'node:crypto'
import type { ClientCertificate, Origin } from '../../core/origin.ts'

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

  get certificate(): ClientCertificate | undefined {
    if (!this.#shown) return undefined
    return (this.#certificate ??= read(this.#shown))
  }
}

function read({ subject, subjectAltName, validToDate }: X509Certificate): ClientCertificate {
  const fields = (subject ?? '').split('\n')
  const valuesOf = (name: string) =>
    fields.filter((field) => field.startsWith(`${name}=`)).map((field) => field.slice(name.length + 1))
  return {
    commonName: valuesOf('CN').at(-1) ?? '',
    organizations: valuesOf('O'),
    uris: urisOf(subjectAltName ?? ''),
    expiresAt: validToDate.getTime(),
  }
}

/** Node puts names with anything unusual in them into quotes, as JSON has them. */
function urisOf(names: string): string[] {
  const found = names.matchAll(/(?:^|, )(\w[\w ]*):("(?:[^"\\]|\\.)*"|[^,]*)/g)
  return [...found].flatMap(([, kind, value = '']) => {
    if (kind !== 'URI') return []
    return [value.startsWith('"') ? (JSON.parse(value) as string) : value]
  })
}
