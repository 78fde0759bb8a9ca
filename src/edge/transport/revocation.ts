/**
 * Lists of revoked certificates (RFC 5280 section 5), for connections that are open already: about those that are being
 * opened OpenSSL decides, and Node hands it nothing else. The libraries for this take a millisecond for ten entries.
 */
import { constants, verify, type KeyObject, type X509Certificate } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import { latin1, objectIds, readExtensions, readName } from './certificate-fields.ts'
import { BrokenDer, DerReader, readDer, tags } from './der.ts'

interface RevocationList {
  readonly issuer: string
  /** Milliseconds since 1970. */
  readonly from: number
  readonly until: number
  /** As in `CertificateFields`. */
  readonly serials: ReadonlySet<string>
  isSignedWith(key: KeyObject): boolean
}

/** Of so many authorities it is remembered which lists are theirs. */
const mostIssuers = 1_000

export class RevocationLists {
  readonly #lists: readonly RevocationList[]
  readonly #byIssuer = new LRUCache<string, readonly RevocationList[]>({ max: mostIssuers })

  private constructor(lists: readonly RevocationList[]) {
    this.#lists = lists
  }

  /** Returns what is wrong with one of them. */
  static read(lists: readonly Buffer[]): RevocationLists | string {
    const read: RevocationList[] = []
    for (const each of lists) {
      const list = readDer(each, readList) ?? 'holds a list that cannot be read (-----BEGIN X509 CRL-----)'
      if (typeof list === 'string') return list
      read.push(list)
    }
    return new RevocationLists(read)
  }

  /** The latest of an authority that holds now, milliseconds since 1970. */
  of(authority: X509Certificate, now: number): RevocationList | undefined {
    const id = authority.fingerprint256
    const known = this.#byIssuer.get(id)
    const own = known ?? this.#lists.filter((list) => list.isSignedWith(authority.publicKey))
    if (!known) this.#byIssuer.set(id, own)
    return latest(own.filter((list) => list.from <= now && now < list.until))
  }

  /** Whose certificates cannot be good for want of a list that holds now. */
  lapsed(now: number): string | undefined {
    const issuers = new Set(this.#lists.map(({ issuer }) => issuer))
    return [...issuers].find((issuer) =>
      this.#lists.every((list) => list.issuer !== issuer || now < list.from || list.until <= now),
    )
  }
}

function latest(lists: readonly RevocationList[]): RevocationList | undefined {
  return lists.toSorted((a, b) => b.from - a.from)[0]
}

function readList(reader: DerReader): RevocationList | string {
  const list = reader.inside(tags.sequence)
  const signed = list.next(tags.sequence)
  const algorithm = list.whole(list.next(tags.sequence))
  const [unusedBits, ...signature] = list.content(list.next(tags.bitString))
  if (unusedBits !== 0 || !list.isDone || !reader.isDone) throw new BrokenDer()
  const body = new DerReader(list.bytes, signed)
  body.optional(tags.integer)
  if (!body.whole(body.next(tags.sequence)).equals(algorithm)) throw new BrokenDer()
  const issuer = readName(body).flatMap(({ type, value }) => (type === objectIds.commonName ? [value] : []))
  const from = body.time()
  if (!body.sees(tags.utcTime) && !body.sees(tags.generalizedTime)) return 'holds a list that names no next update'
  const until = body.time()
  const serials = body.sees(tags.sequence) ? readSerials(body.inside(tags.sequence)) : new Set<string>()
  if (!serials || (body.sees(0xa0) && hasCritical(body.inside(0xa0)))) return notWhole
  const check = checkOf(algorithm)
  if (!check) return 'holds a list with a signature of a kind that is not known here'
  const bytes = list.whole(signed)
  const isSignedWith = (key: KeyObject) => check(bytes, key, Buffer.from(signature))
  return { issuer: issuer.join(' '), from, until, serials, isSignedWith }
}

const notWhole = 'holds a list of changes, of a part or for others: whole lists of one authority each are taken'

/** Undefined if an entry says more than is understood, such as that it is of another authority. */
function readSerials(entries: DerReader): Set<string> | undefined {
  const serials = new Set<string>()
  while (!entries.isDone) {
    const entry = entries.inside(tags.sequence)
    serials.add(latin1(entry, tags.integer))
    entry.next()
    if (!entry.isDone && hasCritical(entry)) return undefined
  }
  return serials
}

/** Those that are critical change what a list means, and none is understood. */
function hasCritical(reader: DerReader): boolean {
  const extensions = readExtensions(reader)
  return !extensions || [...extensions.values()].some(({ isCritical }) => isCritical)
}

type Check = (bytes: Buffer, key: KeyObject, signature: Buffer) => boolean

/** Of signatures: for RSA with PKCS #1 1.5 and ECDSA (RFC 4055, 5758), and EdDSA, which hashes by itself (RFC 8410). */
const hashes: Readonly<Record<string, string | null>> = {
  '2a864886f70d01010b': 'sha256',
  '2a864886f70d01010c': 'sha384',
  '2a864886f70d01010d': 'sha512',
  '2a8648ce3d040302': 'sha256',
  '2a8648ce3d040303': 'sha384',
  '2a8648ce3d040304': 'sha512',
  '2b6570': null,
  '2b6571': null,
}
const pss = '2a864886f70d01010a'
const pssHashes: Readonly<Record<string, string>> = {
  '608648016503040201': 'sha256',
  '608648016503040202': 'sha384',
  '608648016503040203': 'sha512',
}

function checkOf(algorithm: Buffer): Check | undefined {
  const reader = new DerReader(algorithm).inside(tags.sequence)
  const id = reader.objectId()
  const hash =
    id === pss ? pssHashes[reader.inside(tags.sequence).inside(0xa0).inside(tags.sequence).objectId()] : hashes[id]
  if (hash === undefined) return undefined
  const { RSA_PKCS1_PSS_PADDING: padding, RSA_PSS_SALTLEN_AUTO: saltLength } = constants
  return (bytes, key, signature) => {
    try {
      return verify(hash, bytes, id === pss ? { key, padding, saltLength } : key, signature)
    } catch {
      // A key of another kind.
      return false
    }
  }
}
