/**
 * The part of a body that is being scanned: the newest chunk, behind what the last one left over because it was not
 * whole. A chunk is scanned where it lies if nothing was left over, and is not looked at again after `keep`.
 */
import { GrowingBytes, type Lease } from '../../core/arena.ts'
import { bufferOf } from './numbers.ts'

const nothing = Buffer.alloc(0)

export class Window {
  /** Always of one class, because code that has seen two is slower. */
  bytes: Buffer = nothing
  /** The next byte to be read. */
  at = 0
  /** Whether no more bytes will come. */
  closed = false
  /** How many bytes came before these. */
  #before: number
  readonly #lease: Lease
  /** What was left over, with the newest chunk behind it. */
  #joined: GrowingBytes | undefined

  /** `before` is the place in the body at which it begins. */
  constructor(lease: Lease, before: number = 0) {
    this.#before = before
    this.#lease = lease
  }

  /** Where a byte of the window is in the whole body. */
  placeOf(at: number): number {
    return this.#before + at
  }

  /** Adds a chunk; says whether there was memory to join it to the rest. */
  push(chunk: Uint8Array): boolean {
    const joined = this.#joined
    if (!joined || joined.length === 0) {
      this.bytes = bufferOf(chunk)
      return true
    }
    const isRoom = joined.append(chunk)
    this.bytes = bufferOf(joined.bytes)
    return isRoom
  }

  /** Lets go of the chunk, and keeps what has not been read; says whether there was memory for it. */
  keep(): boolean {
    const { bytes, at } = this
    const left = bytes.length - at
    this.#before += at
    this.at = 0
    const joined = this.#joined
    if (joined && joined.length > 0) joined.shift(at)
    else if (left > 0) {
      this.#joined ??= new GrowingBytes(this.#lease)
      if (!this.#joined.append(bytes.subarray(at))) return false
    }
    this.bytes = left > 0 ? bufferOf(this.#joined!.bytes) : nothing
    return true
  }
}
