/**
 * The id of a prediction, which is a signed token: all that feedback has to be joined with is in it, so that no log is
 * needed and any gateway with the key can join. It is signed, not secret: a client can read its own tenant, the arm and
 * the share out of it, so what is in it must be fit to be seen (a unit only as a keyed hash).
 */
import { createHmac, timingSafeEqual } from 'node:crypto'

/** What is known of a prediction when it is made. */
export interface PredictionFacts {
  readonly model: string
  readonly version: string
  readonly arm: string
  /**
   * Probability with which the unit was given the treatment rather than the control: the same number for both arms, as
   * the attribution of events takes it. 0 or 1 where nothing was drawn, and then it is no evidence.
   */
  readonly share: number
  /** Of the split that chose the arm. */
  readonly generation: number
  /** When it was made, in whole milliseconds since 1970. */
  readonly epochMs: number
  /** Empty if the caller has none. */
  readonly tenant: string
  /** Hash of what was randomised: 16 hexadecimal digits in lower case. */
  readonly unit: string
  /** Makes the prediction one of a kind, over all gateways: 16 hexadecimal digits in lower case. */
  readonly nonce: string
}

/** The unit of a request that was assigned by itself. */
export const noUnit = '0'.repeat(16)

/** The first byte; another layout takes another number. */
const layout = 1
/** Characters; three bytes are four of them. */
const mostText = 512
const mostBytes = (mostText / 4) * 3
const macBytes = 16
const wordBytes = 8
/** In the order in which they are written: the lengths of the texts, the numbers, the words of 64 bits, the texts. */
const texts = ['model', 'version', 'arm', 'tenant'] as const
const numbers = ['share', 'generation', 'epochMs'] as const
const words = ['unit', 'nonce'] as const
const numbersAt = 1 + texts.length
const wordsAt = numbersAt + 8 * numbers.length
const textsAt = wordsAt + wordBytes * words.length

export class PredictionTokens {
  #keys: readonly Buffer[]
  readonly #bytes = Buffer.alloc(mostBytes)

  /** The first key signs, all verify, so that keys can be changed; each at least 16 bytes long. */
  constructor(keys: readonly Buffer[]) {
    if (keys.length === 0 || keys.some(({ length }) => length < 16)) throw new RangeError('keys of 16 bytes or more')
    this.#keys = keys
  }

  /** Signs with another key from now on; those before go on being taken. */
  prefer(key: Buffer): void {
    if (!this.#keys[0]!.equals(key)) this.#keys = [key, ...this.#keys]
  }

  /** What a unit is called in tokens: only who has the key could find out who it is, by trial. */
  hash(unit: string): string {
    return createHmac('sha256', this.#keys[0]!).update(unit).digest().toString('hex', 0, wordBytes)
  }

  /** Undefined for facts that do not fit a token: texts of more than 323 bytes together, or of more than 255 each. */
  sign(facts: PredictionFacts): string | undefined {
    const end = isSound(facts) ? write(this.#bytes, facts) : undefined
    if (end === undefined) return undefined
    macOf(this.#keys[0]!, this.#bytes.subarray(0, end)).copy(this.#bytes, end)
    return this.#bytes.toString('base64url', 0, end + macBytes)
  }

  /** What was signed; undefined for whatever was not, without telling in what it differs. */
  verify(token: string): PredictionFacts | undefined {
    if (token.length > mostText) return undefined
    const bytes = Buffer.from(token, 'base64url')
    const end = bytes.length - macBytes
    // Decoding is lenient, and every other spelling of a token would be another name of the same prediction.
    if (end < textsAt || bytes[0] !== layout || bytes.toString('base64url') !== token) return undefined
    const [signed, mac] = [bytes.subarray(0, end), bytes.subarray(end)]
    const isGenuine = this.#keys.some((key) => timingSafeEqual(macOf(key, signed), mac))
    return isGenuine ? read(signed) : undefined
  }
}

/** HMAC-SHA-256, truncated to 128 bits (RFC 2104 section 5). */
function macOf(key: Buffer, signed: Buffer): Buffer {
  return createHmac('sha256', key).update(signed).digest().subarray(0, macBytes)
}

/** Whether they can be written so that the same is read. */
function isSound(facts: PredictionFacts): boolean {
  return (
    facts.share >= 0 &&
    facts.share <= 1 &&
    isCount(facts.generation) &&
    isCount(facts.epochMs) &&
    words.every((name) => /^[0-9a-f]{16}$/.test(facts[name])) &&
    texts.every((name) => facts[name].isWellFormed())
  )
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0
}

/** Where it ends; undefined if there is no room. */
function write(bytes: Buffer, facts: PredictionFacts): number | undefined {
  bytes[0] = layout
  for (const [i, name] of numbers.entries()) bytes.writeDoubleBE(facts[name], numbersAt + 8 * i)
  for (const [i, name] of words.entries()) bytes.write(facts[name], wordsAt + wordBytes * i, 'hex')
  let at = textsAt
  for (const [i, name] of texts.entries()) {
    const length = Buffer.byteLength(facts[name])
    if (length > 255 || at + length > mostBytes - macBytes) return undefined
    bytes[1 + i] = length
    at += bytes.write(facts[name], at)
  }
  return at
}

/** Only of bytes that were signed; strict all the same, because whoever has the key may have another program. */
function read(bytes: Buffer): PredictionFacts | undefined {
  let at = textsAt
  const [model, version, arm, tenant] = texts.map((_name, i) => bytes.toString('utf8', at, (at += bytes[1 + i]!)))
  const [share, generation, epochMs] = numbers.map((_name, i) => bytes.readDoubleBE(numbersAt + 8 * i))
  const [unit, nonce] = words.map((_name, i) => bytes.toString('hex', wordsAt + 8 * i, wordsAt + 8 * (i + 1)))
  const facts = { model, version, arm, share, generation, epochMs, tenant, unit, nonce } as PredictionFacts
  return at === bytes.length && isSound(facts) ? facts : undefined
}
