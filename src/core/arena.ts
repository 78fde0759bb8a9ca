/**
 * Memory for the bodies and tensors of requests in flight: bounded over all of them, and used again. A request has a
 * lease, takes from it as its bytes arrive, and gives everything back at once when it needs its inputs no more. What is
 * promised and has not arrived takes nothing, so a client that only announces much holds nobody up.
 *
 * Sizes are powers of two: a few lists of free buffers then serve every request, at the price of up to half of each.
 */
const smallest = 4_096

export class Arena {
  readonly #maxBytes: number
  readonly #maxIdleBytes: number
  readonly #idle = new Map<number, ArrayBuffer[]>()
  #idleBytes = 0
  #heldBytes = 0

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
    this.#maxIdleBytes = maxBytes / 8
  }

  /** Bytes that leases hold. */
  get heldBytes(): number {
    return this.#heldBytes
  }

  /** At least so many bytes, with whatever was in them before; undefined if that is more than there is. */
  take(bytes: number): ArrayBuffer | undefined {
    const size = sizeFor(bytes)
    if (this.#heldBytes + size > this.#maxBytes) return undefined
    this.#heldBytes += size
    const used = this.#idle.get(size)?.pop()
    if (!used) return new ArrayBuffer(size)
    this.#idleBytes -= size
    return used
  }

  giveBack(buffer: ArrayBuffer): void {
    const size = buffer.byteLength
    this.#heldBytes -= size
    if (this.#idleBytes + size > this.#maxIdleBytes) return
    this.#idleBytes += size
    const list = this.#idle.get(size)
    if (list) list.push(buffer)
    else this.#idle.set(size, [buffer])
  }
}

function sizeFor(bytes: number): number {
  let size = smallest
  while (size < bytes) size *= 2
  return size
}

/** What one request holds. */
export class Lease {
  readonly #arena: Arena
  #buffers: ArrayBuffer[] = []

  constructor(arena: Arena) {
    this.#arena = arena
  }

  /** At least so many bytes; undefined if there is no memory for them. */
  take(bytes: number): ArrayBuffer | undefined {
    const buffer = this.#arena.take(bytes)
    if (buffer) this.#buffers.push(buffer)
    return buffer
  }

  /** Gives one back early. */
  drop(buffer: ArrayBuffer): void {
    this.#buffers = this.#buffers.filter((each) => each !== buffer)
    this.#arena.giveBack(buffer)
  }

  /** Gives everything back. Nothing that lies in it may be looked at afterwards. */
  release(): void {
    for (const buffer of this.#buffers.splice(0)) this.#arena.giveBack(buffer)
  }
}

const none = new Uint8Array(0)

/** Bytes one behind the other, in as much of a lease's memory as they need. */
export class GrowingBytes {
  readonly #lease: Lease
  #memory = none
  length = 0

  constructor(lease: Lease) {
    this.#lease = lease
  }

  /** What has been appended, where it lies: moved by the next `reserve` or `append`. */
  get bytes(): Uint8Array {
    return this.#memory.subarray(0, this.length)
  }

  /** Makes room for so many bytes in all; says whether there is the memory for it. */
  reserve(bytes: number): boolean {
    const before = this.#memory
    if (bytes <= before.length) return true
    const buffer = this.#lease.take(bytes)
    if (!buffer) return false
    this.#memory = new Uint8Array(buffer)
    this.#memory.set(before.subarray(0, this.length))
    if (before !== none) this.#lease.drop(before.buffer)
    return true
  }

  append(bytes: Uint8Array): boolean {
    if (!this.reserve(this.length + bytes.length)) return false
    this.#memory.set(bytes, this.length)
    this.length += bytes.length
    return true
  }

  /** Forgets the first bytes. */
  shift(bytes: number): void {
    if (bytes > 0) this.#memory.copyWithin(0, bytes, this.length)
    this.length -= bytes
  }
}
