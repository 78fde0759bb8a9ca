/** Certificates and revocation lists for tests, made when they are needed. */
import { createPrivateKey, createPublicKey, generateKeyPairSync, sign, X509Certificate } from 'node:crypto'
import { ecdsaWithSha256, issue, nameOf, signedPem, toPem, type Issued } from '../../src/cli/certificate.ts'
import { bitString, der, integer, sequence, utcTime } from '../../src/cli/der.ts'
import { folderWith } from './gateway.ts'

const now = Date.now()
const msPerDay = 86_400_000

export function authority(name = 'test authority'): Issued {
  return issue({ subject: name, days: 30 }, now)
}

/** An authority that another has signed. */
export function intermediate(by: Issued, name: string): Issued {
  return issue({ subject: name, days: 30, issued: { by, as: 'authority', names: [] } }, now)
}

export function serverCertificate(by: Issued, ...names: readonly string[]): Issued {
  const own = names.length > 0 ? names : ['localhost', '127.0.0.1']
  return issue({ subject: own[0]!, days: 30, issued: { by, as: 'server', names: own } }, now)
}

export function clientCertificate(by: Issued, subject: string, ...names: readonly string[]): Issued {
  return issue({ subject, days: 30, issued: { by, as: 'client', names } }, now)
}

/** A certificate with those of the authorities between it and the root, as clients send it. */
export function behind(leaf: Issued, ...intermediates: readonly Issued[]): Issued {
  return { ...leaf, cert: [leaf, ...intermediates].map(({ cert }) => cert).join('') }
}

export interface ListOptions {
  /** Milliseconds since 1970. */
  readonly from?: number
  readonly until?: number | undefined
  /** In DER, behind each entry and at the end. */
  readonly entryExtensions?: readonly Buffer[]
  readonly extensions?: readonly Buffer[]
  /** By default ECDSA over P-256 with the key of the authority. The algorithm is in DER. */
  readonly signature?: { readonly algorithm: Buffer; readonly signer: (tbs: Buffer) => Buffer }
}

/** A revocation list, in PEM. */
export function revocationList(by: Issued, revoked: readonly Issued[], options: ListOptions = {}): string {
  const { from = now - msPerDay, entryExtensions = [], extensions = [] } = options
  const { algorithm, signer } = options.signature ?? {
    algorithm: ecdsaWithSha256,
    signer: (bytes: Buffer) => sign('sha256', bytes, by.key),
  }
  const until = 'until' in options ? options.until : now + msPerDay
  const entries = revoked.map(({ cert }) => {
    const { serialNumber } = new X509Certificate(cert)
    const about = entryExtensions.length > 0 ? [sequence(...entryExtensions)] : []
    return sequence(integer(Buffer.from(serialNumber, 'hex')), utcTime(now - msPerDay), ...about)
  })
  const tbs = sequence(
    // Version 2.
    integer(Buffer.of(1)),
    algorithm,
    nameOf(by.subject),
    utcTime(from),
    ...(until === undefined ? [] : [utcTime(until)]),
    // An empty list must not be there (RFC 5280 section 5.1.2.6).
    ...(entries.length > 0 ? [sequence(...entries)] : []),
    ...(extensions.length > 0 ? [der(0xa0, sequence(...extensions))] : []),
  )
  return toPem('X509 CRL', sequence(tbs, algorithm, bitString(signer(tbs))))
}

export interface ForgedOptions {
  readonly by: Issued
  /** In DER. */
  readonly subject: Buffer
  readonly extensions: readonly Buffer[]
  /** Of another key that it is for; else it has one of its own. */
  readonly keyOf?: Issued
}

/** A certificate of whatever content. */
export function forged({ by, subject, extensions, keyOf }: ForgedOptions): Issued {
  const privateKey = keyOf ? createPrivateKey(keyOf.key) : generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
  const tbs = sequence(
    der(0xa0, integer(Buffer.of(2))),
    integer(Buffer.of(0x51)),
    ecdsaWithSha256,
    nameOf(by.subject),
    sequence(utcTime(now - msPerDay), utcTime(now + msPerDay)),
    subject,
    createPublicKey(privateKey).export({ type: 'spki', format: 'der' }),
    der(0xa3, sequence(...extensions)),
  )
  const key = privateKey.export({ type: 'pkcs8', format: 'pem' })
  return { ...by, cert: signedPem(tbs, createPrivateKey(by.key)), key }
}

/** A folder with `NAME.pem` and `NAME-key.pem` for each certificate. */
export function certificateFolder(certificates: Readonly<Record<string, Issued>>): Promise<string> {
  const files = Object.entries(certificates).flatMap(([name, { cert, key }]) => [
    [`${name}.pem`, cert],
    [`${name}-key.pem`, key],
  ])
  return folderWith(Object.fromEntries(files))
}

/** What `edge.tls` has to say about certificates in such a folder. */
export function pairsIn(folder: string, ...names: readonly string[]) {
  return names.map((name) => ({ cert: `${folder}/${name}.pem`, key: `${folder}/${name}-key.pem` }))
}
