/**
 * Units to arms by weighted rendezvous hashing (Thaler and Ravishankar 1998; weights as in Schindelhauer and Schomaker
 * 2005): for each arm the hash of unit and arm gives an exponential variate with the arm's weight as its rate, and the
 * smallest wins. An arm wins with probability weight by sum of weights, and when weights change, only units move that
 * must. Nothing is kept: every process, at any time, assigns alike.
 */
import { createHmac } from 'node:crypto'
import xxhash from 'xxhash-wasm'
import { separator } from './unit.ts'

export interface AssignedArm {
  /** Immutable: another name is another arm, to which units move. */
  readonly id: string
  readonly weight: number
}

export interface AssignmentOptions {
  readonly salt: string
  readonly hash: 'xxh64' | 'hmac-sha256'
  /** At least one with a weight above 0. */
  readonly arms: readonly AssignedArm[]
}

/** What is drawn: arms, or something else for which the arm must tell nothing. */
type Kind = 'A' | 'S'

/** Takes what all draws for a unit have in common, so that it is written once; then draws. */
interface Hash {
  take(kind: Kind, unit: string): void
  /** Above 0 and at most 1, in steps of 2^-53. The tail is 0x1F and what is drawn, in UTF-8. */
  draw(tail: Uint8Array): number
}

interface Rival {
  readonly index: number
  readonly tail: Uint8Array
  readonly weight: number
}

export class Assignment {
  readonly #weights: readonly number[]
  /** Arms that can win, with weights up to 1. */
  readonly #rivals: readonly Rival[]
  readonly #total: number
  readonly #hash: Hash

  constructor({ salt, hash, arms }: AssignmentOptions) {
    this.#weights = arms.map(({ weight }) => weight)
    this.#total = this.#weights.reduce((sum, weight) => sum + weight, 0)
    // By the largest, since the smallest numbers that there are would make infinite scores.
    const largest = Math.max(...this.#weights)
    const scaled = arms.map(({ id, weight }, index) => ({ index, tail: tailOf(id), weight: weight / largest }))
    this.#rivals = scaled.filter(({ weight }) => weight > 0)
    this.#hash = hash === 'xxh64' ? xxh64(salt) : hmacSha256(salt)
  }

  /** The index of a unit's arm; the first one if none has a weight. */
  pick(unit: string): number {
    let winner = this.#rivals[0]?.index ?? 0
    if (this.#rivals.length <= 1) return winner
    this.#hash.take('A', unit)
    let best = Infinity
    for (const { index, tail, weight } of this.#rivals) {
      const score = -Math.log(this.#hash.draw(tail)) / weight
      if (score >= best) continue
      winner = index
      best = score
    }
    return winner
  }

  /** A draw from 0 to 1 for something other than arms, independent of them and of those for other purposes. */
  uniform(purpose: string, unit: string): number {
    this.#hash.take('S', unit)
    return this.#hash.draw(tailOf(purpose))
  }

  /** The probability that a unit's arm is this one, or one of these: 1 if they are all, in order. */
  share(...indexes: readonly number[]): number {
    if (this.#total <= 0) return 0
    return indexes.reduce((sum, index) => sum + (this.#weights[index] ?? 0), 0) / this.#total
  }
}

const utf8 = new TextEncoder()

function tailOf(text: string): Uint8Array {
  return utf8.encode(separator + text)
}

const xxhashes = await xxhash()
/** Most names are shorter, of units with what goes before and after them: bytes. */
const usualLength = 1_024

/**
 * XXH64, seed 0, of kind, salt, unit and what is drawn, in UTF-8 with 0x1F between them. The bytes are kept from arm to arm
 * and from unit to unit, and so are views of them by length: making them would take longer than the hash.
 */
function xxh64(salt: string): Hash {
  const head = utf8.encode(`A${separator}${salt}${separator}`)
  let bytes = head
  let room = head.subarray(head.length)
  let views: Uint8Array[] = []
  let end = head.length
  const grow = (length: number) => {
    const old = bytes.subarray(0, end)
    bytes = new Uint8Array(Math.max(length, usualLength))
    bytes.set(old)
    room = bytes.subarray(head.length)
    views = []
  }
  return {
    take(kind, unit) {
      if (room.length < unit.length * 3) grow(head.length + unit.length * 3)
      bytes[0] = kind.charCodeAt(0)
      end = head.length + utf8.encodeInto(unit, room).written
    },
    draw(tail) {
      const length = end + tail.length
      if (length > bytes.length) grow(length)
      for (let i = 0; i < tail.length; i++) bytes[end + i] = tail[i]!
      const view = length <= usualLength ? (views[length] ??= bytes.subarray(0, length)) : bytes.subarray(0, length)
      word.setBigUint64(0, xxhashes.h64Raw(view))
      return toUniform(word)
    },
  }
}

/** The first 64 bits of HMAC-SHA-256 (RFC 2104) of kind, unit and what is drawn, likewise, with the salt as the key. */
function hmacSha256(salt: string): Hash {
  let head = ''
  return {
    take(kind, unit) {
      head = kind + separator + unit
    },
    draw(tail) {
      const digest = createHmac('sha256', salt).update(head).update(tail).digest()
      return toUniform(new DataView(digest.buffer, digest.byteOffset))
    },
  }
}

const word = new DataView(new ArrayBuffer(8))

/** The upper 53 of 64 bits, without the arithmetic of big integers, which takes longer than the hash. */
function toUniform(bits: DataView): number {
  return (bits.getUint32(0) * 2 ** 21 + (bits.getUint32(4) >>> 11) + 0.5) / 2 ** 53
}
