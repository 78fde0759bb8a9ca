/** Who makes tokens: what theirs must be like, and where the keys come from that prove it. */
import type { Clock } from '../../core/clock.ts'
import type { Mistake } from '../../core/document.ts'
import type { Key, Keys, KeySource } from './keys.ts'
import type { Terms } from './terms.ts'

export interface IssuerTools {
  readonly clock: Clock
  /** Draws from 0 up to 1. */
  readonly random: () => number
  /** Told of keys that cannot be had; `file` may be an address. */
  readonly onProblem: (problem: Mistake) => void
}

export interface Issuer {
  readonly terms: Terms
  readonly keys: KeySource
  /** Makes tokens, where they are made here. */
  readonly mint?: Mint
}

/** What a token is to say, and for how long it is to be valid. */
export interface Minting {
  readonly subject: string
  readonly tenant?: string | undefined
  readonly scopes?: readonly string[] | undefined
  readonly profile?: string | undefined
  /** Seconds; without it the issuer's own. */
  readonly lifetimeS?: number | undefined
}

export type Mint = (minting: Minting) => Promise<string>

/** Starts what an issuer needs; or says what is wrong with a file. */
export type OpenIssuer = (tools: IssuerTools) => Promise<Issuer | Mistake>

/** The only key of an issuer, whatever a token calls it. */
export class SingleKey implements Keys {
  readonly broken = 0
  readonly #key: Key

  constructor(key: Key) {
    this.#key = key
  }

  find(_kid: string | undefined, algorithm: string): Key | undefined {
    return this.#key.verifiers.has(algorithm) ? this.#key : undefined
  }

  has(key: Key): boolean {
    return key === this.#key
  }
}
