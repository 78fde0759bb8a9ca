/**
 * The public keys of an issuer (JWK set, RFC 7517). A key is pinned to its id, its type and the algorithms that it is for;
 * one that is the same in the next set stays the same object, so that what is known of its tokens stays known.
 */
import type { webcrypto } from 'node:crypto'
import { importJWK, type JWK } from 'jose'
import { asymmetric, suits, type Algorithm } from './algorithms.ts'

export interface Key {
  /** By the algorithm of a token's header. */
  readonly verifiers: ReadonlyMap<string, CryptoKey>
}

export interface Keys {
  /** The one key that can have signed a token with this header; undefined if none can, or several. */
  find(kid: string | undefined, algorithm: string): Key | undefined
  has(key: Key): boolean
  /** Entries of the set that make no sense. */
  readonly broken: number
}

/** Where the keys of an issuer come from. */
export interface KeySource {
  /** Those in force; undefined if there are none that may be relied on. */
  readonly current: Keys | undefined
  /** Settles after a look for newer keys; undefined if there is none for now. */
  search(): Promise<void> | undefined
  /** Seconds since the keys were last seen where they come from. */
  readonly ageS: number
  readonly failures: number
  close(): void
}

interface SetKey extends Key {
  readonly kid: string | undefined
  /** All that makes the key what it is, as text. */
  readonly material: string
}

const maxKeys = 100
const minModulusBits = 2_048
/** Beyond it a verification costs milliseconds. */
const maxModulusBits = 8_192

export class KeySet implements Keys {
  readonly broken: number
  readonly #keys: ReadonlyMap<string, SetKey>
  readonly #byKid: ReadonlyMap<string, readonly SetKey[]>
  readonly #all: readonly SetKey[]
  readonly #set: ReadonlySet<Key>

  private constructor(keys: ReadonlyMap<string, SetKey>, broken: number) {
    this.broken = broken
    this.#keys = keys
    this.#all = [...keys.values()]
    this.#set = new Set(this.#all)
    this.#byKid = Map.groupBy(
      this.#all.filter(({ kid }) => kid !== undefined),
      ({ kid }) => kid!,
    )
  }

  /** Reads a JWK set; returns what is wrong with it if no key of it can be used. */
  static async read(text: string, algorithms: readonly Algorithm[], before?: KeySet): Promise<KeySet | string> {
    const entries = entriesOf(text)
    if (typeof entries === 'string') return entries
    const keys = new Map<string, SetKey>()
    let broken = 0
    for (const entry of entries) {
      const jwk = publicPart(entry)
      if (jwk === 'foreign') continue
      const read = jwk === 'broken' ? undefined : await readKey(jwk, algorithms, before)
      if (read) keys.set(read.material, read)
      else broken++
    }
    for (const [material, { verifiers }] of keys) if (verifiers.size === 0) keys.delete(material)
    return keys.size > 0 ? new KeySet(keys, broken) : `holds no public key for ${algorithms.join(', ')}`
  }

  find(kid: string | undefined, algorithm: string): Key | undefined {
    const named = kid === undefined ? this.#all : (this.#byKid.get(kid) ?? [])
    const fitting = named.filter(({ verifiers }) => verifiers.has(algorithm))
    return fitting.length === 1 ? fitting[0] : undefined
  }

  has(key: Key): boolean {
    return this.#set.has(key)
  }

  /** The same key, if it has been in the set. */
  like(material: string): SetKey | undefined {
    return this.#keys.get(material)
  }
}

function entriesOf(text: string): readonly unknown[] | string {
  let set: unknown
  try {
    set = JSON.parse(text)
  } catch {
    return 'is not JSON'
  }
  const keys = isRecord(set) ? set['keys'] : undefined
  if (!Array.isArray(keys)) return 'is no JWK set: an object with a list "keys"'
  return keys.length > maxKeys ? `holds more than ${maxKeys} keys` : keys
}

/** What a key needs to have, and nothing else: neither a private half nor certificates. Foreign is what is not for signatures. */
function publicPart(entry: unknown): JWK | 'foreign' | 'broken' {
  if (!isRecord(entry)) return 'broken'
  const { kty, kid, alg, use, key_ops: operations, crv, x, y, n, e } = entry
  if (kty === 'oct' || (use !== undefined && use !== 'sig')) return 'foreign'
  if (Array.isArray(operations) && !operations.includes('verify')) return 'foreign'
  const members = { kty, kid, alg, crv, x, y, n, e }
  const given = Object.entries(members).filter(([, value]) => value !== undefined)
  return given.every(([, value]) => typeof value === 'string') ? Object.fromEntries(given) : 'broken'
}

/** Undefined if the key is broken. It may be fine and be for none of the algorithms. */
async function readKey(jwk: JWK, algorithms: readonly Algorithm[], before?: KeySet): Promise<SetKey | undefined> {
  const { kty, crv, kid, alg } = jwk
  const material = JSON.stringify(jwk)
  const known = before?.like(material)
  if (known) return known
  const possible = asymmetric.filter((each) => suits(each, { kty, crv }) && (alg === undefined || alg === each))
  const verifiers = new Map<string, CryptoKey>()
  try {
    for (const algorithm of possible) {
      if (!algorithms.includes(algorithm)) continue
      const verifier = (await importJWK(jwk, algorithm)) as CryptoKey
      if (kty === 'RSA' && !isGoodModulus(verifier)) return undefined
      verifiers.set(algorithm, verifier)
    }
  } catch {
    return undefined
  }
  return { kid, material, verifiers }
}

function isGoodModulus({ algorithm }: CryptoKey): boolean {
  const { modulusLength } = algorithm as webcrypto.RsaHashedKeyAlgorithm
  return modulusLength >= minModulusBits && modulusLength <= maxModulusBits
}

/** Whether it is an object of JSON, neither a list nor null. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
