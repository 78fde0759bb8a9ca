/**
 * Callers by their bearer tokens. A token is proved once; after that its hash finds the caller, for as long as all that was
 * found then holds. What is cheap is looked at before what is dear, and what is dear is bounded.
 */
import { hash } from 'node:crypto'
import type { Caller } from '../../core/caller.ts'
import type { Mistake } from '../../core/document.ts'
import type { Origin } from '../../core/origin.ts'
import { Refusal } from '../../core/refusal.ts'
import { accept, checkHeader, type Accepted } from './claims.ts'
import { Failures } from './failures.ts'
import { faults, isFault, lasting, ours, type Fault } from './faults.ts'
import type { Issuer, IssuerTools, Mint } from './issuer.ts'
import { issuers } from './issuers.ts'
import type { Key } from './keys.ts'
import type { JwtOptions } from './options.ts'
import { bearerOf, parsePayload, parseToken, type Claims, type Header } from './parse.ts'
import { Revocations, type ReadRevoked } from './revocations.ts'
import { Verified } from './verified.ts'
import { verify } from './verify.ts'

export interface TokenTools extends IssuerTools {
  /** Told why a token was refused. */
  readonly onRefused: (fault: Fault) => void
  /** Needed where the options have `revocation`. */
  readonly readRevoked?: ReadRevoked | undefined
}

/** A token that is fine but for its signature, which nobody has looked at. */
interface Suspect {
  readonly token: string
  readonly id: string
  readonly peer: string
  readonly header: Header
  readonly issuer: Issuer
  readonly accepted: Accepted
  /** When it was looked at, by both clocks. */
  readonly epoch: number
  readonly now: number
}

export class Tokens {
  /** Makes tokens, if there is an issuer for development. */
  readonly mint: Mint | undefined
  readonly #options: JwtOptions
  readonly #tools: TokenTools
  readonly #issuers: ReadonlyMap<string, Issuer>
  readonly #revocations: Revocations | undefined
  readonly #tokens: Verified
  readonly #payloads: Verified | undefined
  readonly #failures: Failures
  /** What was shown last on a connection, if it was good: to compare is ten times cheaper than to hash. */
  readonly #last = new WeakMap<
    Origin,
    { readonly authorization: string; readonly token: string; readonly id: string }
  >()
  /** Tokens that are being verified, or whose keys are being looked for. */
  readonly #flights = new Map<string, Promise<Caller | Refusal>>()
  #searching = 0
  #verifying = 0
  #hits = 0
  #misses = 0

  private constructor(options: JwtOptions, tools: TokenTools, opened: readonly Issuer[], revocations?: Revocations) {
    const { maxCached, maxFailuresPerMinute, payloadHeader } = options
    const { clock } = tools
    this.#options = options
    this.#tools = tools
    this.#issuers = new Map(opened.map((issuer) => [issuer.terms.issuer, issuer]))
    this.#revocations = revocations
    this.#tokens = new Verified(maxCached, clock, revocations)
    this.#payloads = payloadHeader === undefined ? undefined : new Verified(maxCached, clock, revocations)
    this.#failures = new Failures(maxFailuresPerMinute, clock)
    this.mint = opened.find(({ mint }) => mint)?.mint
  }

  /** Starts to fetch what is to be fetched, and does not wait for it; or says what is wrong with files. */
  static async create(options: JwtOptions, tools: TokenTools): Promise<Tokens | { readonly mistakes: Mistake[] }> {
    const all = await Promise.all(options.issuers.map((each) => issuers.create(each)(tools)))
    const opened = all.filter((each) => 'keys' in each)
    const mistakes = all.filter((each) => 'message' in each)
    if (mistakes.length > 0) {
      for (const { keys } of opened) keys.close()
      return { mistakes }
    }
    const { readRevoked: read = noList, clock, onProblem } = tools
    const revocations = options.revocation && (await Revocations.open(options.revocation, { read, clock, onProblem }))
    return new Tokens(options, tools, opened, revocations)
  }

  /**
   * Who shows a token. `authorization` is the value of the field, `peer` is who pays for bad tokens, `origin` the connection,
   * if it may bring the same again. At once for a token that was seen before.
   */
  identify(authorization: string, peer: string, origin?: Origin): Caller | Refusal | Promise<Caller | Refusal> {
    const last = origin && this.#last.get(origin)
    const isSame = last?.authorization === authorization
    const token = isSame ? last.token : bearerOf(authorization)
    if (token === undefined) return this.#settle('scheme')
    const id = isSame ? last.id : hash('sha256', token, 'base64url')
    const found = this.#tokens.find(id)
    if (found !== undefined) {
      this.#hits++
      if (origin && !isSame) this.#last.set(origin, { authorization, token, id })
      return this.#settle(found)
    }
    this.#misses++
    return this.#flights.get(id) ?? this.#examine(token, id, peer)
  }

  /** Who is meant by claims that a trusted proxy has verified: base64url of JSON, padded or not. */
  identifyPayload(payload: string): Caller | Refusal {
    const { clock } = this.#tools
    const id = hash('sha256', payload, 'base64url')
    const found = this.#payloads?.find(id)
    if (found !== undefined) return this.#settle(found)
    const claims = payload.length > this.#options.maxTokenBytes ? 'malformed' : parsePayload(payload)
    const epoch = clock.epoch()
    const known = isFault(claims) ? claims : this.#accept(claims, epoch)
    if (isFault(known)) return this.#settle(known)
    const until = clock.now() + known.accepted.untilMs - epoch
    this.#payloads?.add(id, { ...known, key: undefined, until })
    return this.#settle(this.#payloads?.find(id) ?? 'revocations_unavailable')
  }

  /** For metrics; plain numbers. Of an issuer, the age is that of its keys: Infinity if they never were seen. */
  get state() {
    return {
      hits: this.#hits,
      misses: this.#misses,
      verifying: this.#verifying,
      issuers: [...this.#issuers].map(([issuer, { keys }]) => {
        return { issuer, ageS: keys.ageS, failures: keys.failures, brokenKeys: keys.current?.broken ?? 0 }
      }),
      revocationsAgeS: this.#revocations?.ageS,
    }
  }

  /** Fetches and reads no more. */
  close(): void {
    for (const { keys } of this.#issuers.values()) keys.close()
    this.#revocations?.close()
  }

  #examine(token: string, id: string, peer: string): Caller | Refusal | Promise<Caller | Refusal> {
    const waitMs = this.#failures.waitMs(peer)
    if (waitMs > 0) {
      this.#tools.onRefused('failures')
      return new Refusal('rate_limited', faults.failures.message, Math.ceil(waitMs / 1_000))
    }
    const recent = this.#failures.recent(id)
    if (recent) return this.#settle(recent)
    const suspect = this.#suspect(token, id, peer)
    if (isFault(suspect)) return this.#judge(suspect, id, peer)
    const key = keyFor(suspect)
    const search = key ? undefined : this.#search(suspect)
    if (!key && !search) return this.#judge(withoutKey(suspect.issuer), id, peer)
    if (key && this.#isBusy) return this.#judge('busy', id, peer)
    const flight = key ? this.#prove(suspect, key) : this.#proveAfter(search!, suspect)
    this.#flights.set(id, flight)
    return flight
  }

  /** Those that wait for keys must not take the places of those that have them. */
  #search({ issuer }: Suspect): Promise<void> | undefined {
    return this.#searching < this.#options.maxVerifications ? issuer.keys.search() : undefined
  }

  #suspect(token: string, id: string, peer: string): Suspect | Fault {
    if (token.length > this.#options.maxTokenBytes) return 'malformed'
    const parsed = parseToken(token)
    if (isFault(parsed)) return parsed
    const { header, claims } = parsed
    const epoch = this.#tools.clock.epoch()
    const known = this.#accept(claims, epoch, header)
    if (isFault(known)) return known
    const { issuer, accepted } = known
    return { token, id, peer, header, issuer, accepted, epoch, now: this.#tools.clock.now() }
  }

  /** Whose token it would be. Without a header it is claims that somebody else has verified. */
  #accept(claims: Claims, epoch: number, header?: Header): Pick<Suspect, 'issuer' | 'accepted'> | Fault {
    const { iss } = claims
    const issuer = typeof iss === 'string' ? this.#issuers.get(iss) : undefined
    if (!issuer) return 'issuer'
    const { terms } = issuer
    const accepted = (header && checkHeader(header, terms)) ?? accept(claims, terms, epoch)
    if (isFault(accepted)) return accepted
    return this.#isAmbiguous(accepted.caller.name, terms.issuer) ? 'claims' : { issuer, accepted }
  }

  /** Whether a name could be that of another issuer's subject: `https://a` may not make `https://a/b/c` of `https://a/b`. */
  #isAmbiguous(name: string, issuer: string): boolean {
    return [...this.#issuers.keys()].some((other) => other.length > issuer.length && name.startsWith(`${other}/`))
  }

  async #proveAfter(search: Promise<void>, suspect: Suspect): Promise<Caller | Refusal> {
    this.#searching++
    await search
    this.#searching--
    const key = keyFor(suspect)
    if (key && !this.#isBusy) return this.#prove(suspect, key)
    const { id, peer, issuer } = suspect
    this.#flights.delete(id)
    return this.#judge(key ? 'busy' : withoutKey(issuer), id, peer)
  }

  get #isBusy(): boolean {
    return this.#verifying >= this.#options.maxVerifications
  }

  async #prove(
    { token, id, peer, header, issuer, accepted, epoch, now }: Suspect,
    key: Key,
  ): Promise<Caller | Refusal> {
    this.#verifying++
    const fault = await verify(token, key, header.algorithm)
    this.#verifying--
    this.#flights.delete(id)
    if (fault) return this.#judge(fault, id, peer)
    this.#tokens.add(id, { accepted, issuer, key, until: now + accepted.untilMs - epoch })
    // The key may be gone by now.
    return this.#judge(this.#tokens.find(id) ?? withoutKey(issuer), id, peer)
  }

  /** What became of a token that cost something. */
  #judge(found: Caller | Fault, id: string, peer: string): Caller | Refusal {
    if (isFault(found)) {
      if (!ours.has(found)) this.#failures.charge(peer)
      if (lasting.has(found)) this.#failures.remember(id, found)
    }
    return this.#settle(found)
  }

  #settle(found: Caller | Fault): Caller | Refusal {
    if (!isFault(found)) return found
    this.#tools.onRefused(found)
    return faults[found]
  }
}

function keyFor({ issuer, header }: Suspect) {
  return issuer.keys.current?.find(header.kid, header.algorithm)
}

function withoutKey({ keys }: Issuer): Fault {
  return keys.current ? 'key' : 'keys_unavailable'
}

function noList(): Promise<never> {
  return Promise.reject(new Error('nothing to read the list from'))
}
