/** Where the body of a request ends (RFC 9112 section 6). */
import type { IncomingHttpHeaders } from 'node:http'
import type { Refusal } from '../../../core/refusal.ts'
import type { EdgeOptions } from '../../options.ts'
import { extensionsTooLarge, notHttp, trailersTooLarge } from '../by-hand.ts'
import type { Parser } from './parser.ts'

/**
 * What the sizes, extensions and line ends of chunks may take, beyond so many bytes a piece of data: extensions mean
 * nothing here, and a server ought to limit them (RFC 9112 section 7.1.1).
 */
const mostFramingBytes = 16_384
const framingOfPiece = 24

export interface Body {
  /** Whether all of it has been taken. */
  readonly isWhole: boolean
  /** How much of it is still to come; Infinity if only its end will tell. */
  readonly left: number
  /** Passes on what belongs to the body. Says how many of the bytes did, or what is wrong with them. */
  take(bytes: Buffer, pass: (data: Uint8Array) => void): number | Refusal
  /** Lets go of what it was read with. */
  end(): void
}

/** Of trailers as of a head, each for itself. */
type TrailerLimits = Pick<EdgeOptions['head'], 'maxBytes' | 'maxFields'>

/** What follows a head; takes over the parser that read it. */
export function bodyOf(headers: IncomingHttpHeaders, parser: Parser, limits: TrailerLimits): Body {
  if (headers['transfer-encoding'] !== undefined) return new ChunkedBody(parser, limits)
  parser.giveBack()
  const length = Number(headers['content-length'] ?? 0)
  return length === 0 ? noBody : new SizedBody(length)
}

const noBody: Body = { isWhole: true, left: 0, take: () => 0, end: () => undefined }

class SizedBody implements Body {
  left: number

  constructor(length: number) {
    this.left = length
  }

  get isWhole(): boolean {
    return this.left === 0
  }

  take(bytes: Buffer, pass: (data: Uint8Array) => void): number {
    const taken = Math.min(bytes.length, this.left)
    this.left -= taken
    pass(taken === bytes.length ? bytes : bytes.subarray(0, taken))
    return taken
  }

  end(): void {
    this.left = 0
  }
}

class ChunkedBody implements Body {
  isWhole = false
  readonly left = Infinity
  readonly #limits: TrailerLimits
  #parser: Parser | undefined
  /** Bytes that were no data, and how many may be. */
  #framingBytes = 0
  #allowed = mostFramingBytes

  constructor(parser: Parser, limits: TrailerLimits) {
    this.#parser = parser
    this.#limits = limits
  }

  take(bytes: Buffer, pass: (data: Uint8Array) => void): number | Refusal {
    const parser = this.#parser!
    const outcome = parser.readChunks(bytes)
    const { taken, data, trailers } = parser
    this.#framingBytes += taken
    this.#allowed += framingOfPiece * data.length
    for (const piece of data) this.#framingBytes -= piece.length
    if (outcome === 'broken') return notHttp()
    const { maxBytes, maxFields } = this.#limits
    if (trailers.bytes > maxBytes || trailers.fields > maxFields) return trailersTooLarge()
    if (this.#framingBytes - trailers.bytes > this.#allowed) return extensionsTooLarge()
    if (outcome === 'whole') {
      this.isWhole = true
      this.end()
    }
    for (const piece of data) pass(piece)
    return taken
  }

  end(): void {
    this.#parser?.giveBack()
    this.#parser = undefined
  }
}
