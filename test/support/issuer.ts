/** Issuers of tokens for tests: keys of every algorithm, tokens of any shape, and servers of keys that misbehave on demand. */
import { createHmac, generateKeyPairSync, sign, type KeyObject } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { TestContext } from 'node:test'
import type { Fault } from '../../src/auth/jwt/faults.ts'
import { jwtOptions } from '../../src/auth/jwt/options.ts'
import { Tokens, type TokenTools } from '../../src/auth/jwt/tokens.ts'
import type { Caller } from '../../src/core/caller.ts'
import type { Clock } from '../../src/core/clock.ts'
import { isRefusal, type Refusal } from '../../src/core/refusal.ts'
import { until } from './client.ts'
import { showMistake } from '../../src/core/document.ts'

export const issuer = 'https://login.example.com'
export const audience = 'penstock'

/** Two clocks that stand still until they are moved; the wall clock can be moved alone. */
export class StepClock implements Clock {
  #now = 1_000_000
  #epoch = 1_800_000_000_000
  #timers: { readonly at: number; readonly callback: () => void }[] = []
  now = () => this.#now
  epoch = () => this.#epoch
  idle = () => 0
  soon = (callback: () => void) => void setImmediate(callback)
  after = (ms: number, callback: () => void) => {
    const timer = { at: this.#now + ms, callback }
    this.#timers.push(timer)
    return () => void (this.#timers = this.#timers.filter((each) => each !== timer))
  }

  /** Time passes. What is due by then happens. */
  pass(ms: number): void {
    this.#now += ms
    this.#epoch += ms
    const due = this.#timers.filter(({ at }) => at <= this.#now)
    this.#timers = this.#timers.filter(({ at }) => at > this.#now)
    for (const { callback } of due) callback()
  }

  /** Somebody sets the wall clock. */
  step(ms: number): void {
    this.#epoch += ms
  }

  /** How long until something is due. */
  get nextMs(): number {
    return Math.min(...this.#timers.map(({ at }) => at - this.#now))
  }

  /** Seconds since 1970, as claims have them. */
  get seconds(): number {
    return this.#epoch / 1_000
  }
}

export interface SigningKey {
  readonly alg: string
  readonly kid: string
  readonly privateKey: KeyObject
  readonly publicKey: KeyObject
  /** The public half. */
  readonly jwk: Record<string, unknown>
}

export function signingKey(alg: string, kid: string, modulusLength = 2_048): SigningKey {
  const { privateKey, publicKey } = pairFor(alg, modulusLength)
  return { alg, kid, privateKey, publicKey, jwk: { ...publicKey.export({ format: 'jwk' }), kid, alg, use: 'sig' } }
}

function pairFor(alg: string, modulusLength: number) {
  if (alg.startsWith('ES')) {
    const namedCurve = { ES256: 'P-256', ES384: 'P-384', ES512: 'P-521' }[alg]!
    return generateKeyPairSync('ec', { namedCurve })
  }
  return alg.startsWith('Ed') ? generateKeyPairSync('ed25519') : generateKeyPairSync('rsa', { modulusLength })
}

export function encode(value: unknown): string {
  return Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url')
}

/** A token with this head and these claims, objects or text, signed as `alg` says whatever the head says. */
export function tokenOf(
  head: unknown,
  claims: unknown,
  { alg, key }: { alg: string; key: KeyObject | Buffer },
): string {
  const input = `${encode(head)}.${encode(claims)}`
  return `${input}.${signatureOf(Buffer.from(input), alg, key).toString('base64url')}`
}

/** By node:crypto, so that what verifies is tried on what others have signed. */
function signatureOf(input: Buffer, alg: string, key: KeyObject | Buffer): Buffer {
  const digest = `sha${alg.slice(2)}`
  if (alg.startsWith('HS')) return createHmac(digest, key).update(input).digest()
  const own = key as KeyObject
  if (alg.startsWith('Ed')) return sign(null, input, own)
  if (alg.startsWith('ES')) return sign(digest, input, { key: own, dsaEncoding: 'ieee-p1363' })
  return alg.startsWith('PS') ? sign(digest, input, { key: own, padding: 6, saltLength: -1 }) : sign(digest, input, own)
}

/** Claims that are good at a time, and what is to be different about them. */
export function claimsAt(clock: Pick<StepClock, 'seconds'>, changes: Record<string, unknown> = {}) {
  const { seconds: iat } = clock
  return { iss: issuer, aud: audience, sub: 'alice', iat, exp: iat + 600, ...changes }
}

export function goodToken({ alg, kid, privateKey: key }: SigningKey, claims: Record<string, unknown>): string {
  return tokenOf({ alg, kid, typ: 'JWT' }, claims, { alg, key })
}

/** Serves a JWK set over HTTP on this machine. */
export class KeyServer {
  /** What is in the set. */
  keys: readonly unknown[]
  requests = 0
  /** Instead of the set. */
  answer: ((response: ServerResponse) => void) | undefined
  #server: Server | undefined
  #port = 0

  private constructor(keys: readonly unknown[]) {
    this.keys = keys
  }

  static async start(t: TestContext, keys: readonly unknown[]): Promise<KeyServer> {
    const server = new KeyServer(keys)
    await server.up()
    t.after(() => server.down())
    return server
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}/jwks.json`
  }

  async up(): Promise<void> {
    this.#server = createServer((_request, response) => {
      this.requests++
      if (this.answer) this.answer(response)
      // Some servers say text/plain.
      else response.writeHead(200, { 'content-type': 'text/plain' }).end(JSON.stringify({ keys: this.keys }))
    }).listen(this.#port, '127.0.0.1')
    await once(this.#server, 'listening')
    this.#port = (this.#server.address() as AddressInfo).port
  }

  async down(): Promise<void> {
    const server = this.#server
    this.#server = undefined
    if (!server) return
    server.close()
    server.closeAllConnections()
    await once(server, 'close')
  }
}

export interface TestTokens {
  readonly tokens: Tokens
  readonly clock: StepClock
  /** Why tokens were refused, in turn. */
  readonly faults: Fault[]
  /** What was reported. */
  readonly problems: string[]
  /** The caller, or the fault. */
  readonly show: (token: string, peer?: string) => Promise<Caller | Fault>
}

export interface Setting {
  readonly clock?: StepClock
  readonly random?: () => number
  readonly readRevoked?: TokenTools['readRevoked']
}

/** Tokens with options as people write them. */
export async function startTokens(t: TestContext, written: object, setting: Setting = {}): Promise<TestTokens> {
  const { clock = new StepClock(), random = () => 1, readRevoked } = setting
  const faults: Fault[] = []
  const problems: string[] = []
  const tools = {
    clock,
    random,
    readRevoked,
    onProblem: ({ message }: { message: string }) => void problems.push(message),
    onRefused: (fault: Fault) => void faults.push(fault),
  }
  const tokens = await Tokens.create(jwtOptions.parse(written), tools)
  if (!(tokens instanceof Tokens)) throw new Error(tokens.mistakes.map(showMistake).join('\n'))
  t.after(() => tokens.close())
  const show = async (token: string, peer = 'a peer') => {
    const found: Caller | Refusal = await tokens.identify(`Bearer ${token}`, peer)
    return isRefusal(found) ? faults.at(-1)! : found
  }
  return { tokens, clock, faults, problems, show }
}

/** Settles once the keys of all issuers have just been seen, as the clock that stands still has it. */
export function keysSeen({ tokens }: Pick<TestTokens, 'tokens'>): Promise<void> {
  return until('the keys were seen', () => Promise.resolve(tokens.state.issuers.every(({ ageS }) => ageS === 0)))
}

/** One issuer whose keys are at a server, with settings on top. */
export function fromServer({ url }: KeyServer, settings: object = {}, common: object = {}) {
  return { issuers: [{ kind: 'jwks', issuer, audiences: [audience], url, ...settings }], ...common }
}

/** One issuer whose keys are at a server, and what makes tokens of it. */
export async function startFrom(t: TestContext, server: KeyServer, settings: object = {}, common: object = {}) {
  const started = await startTokens(t, fromServer(server, settings, common))
  const mint = (key: SigningKey, changes: object = {}) => goodToken(key, claimsAt(started.clock, { ...changes }))
  return { ...started, mint, showNew: (key: SigningKey) => started.show(mint(key, { jti: String(Math.random()) })) }
}

/** Settles once the keys of the only issuer could not be fetched so often. */
export function fetchFailed({ tokens }: Pick<TestTokens, 'tokens'>, times: number): Promise<void> {
  return until('the fetch failed', () => Promise.resolve(tokens.state.issuers[0]!.failures === times))
}

export function nameOf(found: Caller | Fault): string {
  return typeof found === 'string' ? found : found.name
}
