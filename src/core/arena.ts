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
    if (!this.hold(size)) return undefined
    const used = this.#idle.get(size)?.pop()
    if (!used) return new ArrayBuffer(size)
    this.#idleBytes -= size
    return used
  }

  /** Counts memory that lies elsewhere; says whether it may be taken. */
  hold(bytes: number): boolean {
    if (this.#heldBytes + bytes > this.#maxBytes) return false
    this.#heldBytes += bytes
    return true
  }

  letGo(bytes: number): void {
    this.#heldBytes -= bytes
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
  /** Bytes that lie elsewhere. */
  #elsewhere = 0

  constructor(arena: Arena) {
    this.#arena = arena
  }

  /** At least so many bytes; undefined if there is no memory for them. */
  take(bytes: number): ArrayBuffer | undefined {
    const buffer = this.#arena.take(bytes)
    if (buffer) this.#buffers.push(buffer)
    return buffer
  }

  /** Counts memory of the request that lies elsewhere; says whether it may be taken. */
  hold(bytes: number): boolean {
    if (!this.#arena.hold(bytes)) return false
    this.#elsewhere += bytes
    return true
  }

  /** Gives one back early. */
  drop(buffer: ArrayBuffer): void {
    this.#buffers = this.#buffers.filter((each) => each !== buffer)
    this.#arena.giveBack(buffer)
  }

  /** Gives everything back. Nothing that lies in it may be looked at afterwards. */
  release(): void {
    for (const buffer of this.#buffers) this.#arena.giveBack(buffer)
    this.#buffers.length = 0
    this.#arena.letGo(this.#elsewhere)
    this.#elsewhere = 0
  }
}

/** So many bytes are moved at once; of more, as many at a time as others add. */
export const movedAtOnce = 65_536

/**
 * What lies in memory that has become too small, on its way to what was taken instead. To copy megabytes takes
 * milliseconds, and where the system has to find the memory first, tens of them.
 */
export class Move {
  readonly #from: Uint8Array
  readonly #to: Uint8Array
  readonly #lease: Lease
  #at = 0

  constructor(from: Uint8Array, to: Uint8Array, lease: Lease) {
    this.#from = from
    this.#to = to
    this.#lease = lease
  }

  /** Moves so many bytes more; says whether that was all, and then the memory that they came from is given back. */
  go(bytes: number): boolean {
    const end = Math.min(this.#from.length, this.#at + bytes)
    this.#to.set(this.#from.subarray(this.#at, end), this.#at)
    this.#at = end
    if (end < this.#from.length) return false
    this.#lease.drop(this.#from.buffer as ArrayBuffer)
    return true
  }
}

const none = new Uint8Array(0)
const shortBytes = 32

/** Bytes one behind the other, in as much of a lease's memory as they need. */
export class GrowingBytes {
  readonly #lease: Lease
  #memory = none
  /** From the memory before, which is held until it is over. */
  #move: Move | undefined
  length = 0

  constructor(lease: Lease) {
    this.#lease = lease
  }

  /** What has been appended, where it lies: moved by the next `append`. If that may be long, let it settle before. */
  get bytes(): Uint8Array {
    this.settle(Infinity)
    return this.#memory.subarray(0, this.length)
  }

  /** Goes on with what growing has left to do, for about so many bytes; says whether that was all. */
  settle(bytes: number): boolean {
    if (this.#move?.go(bytes)) this.#move = undefined
    return !this.#move
  }

  append(bytes: Uint8Array): boolean {
    if (!this.makeRoom(bytes.length)) return false
    this.#memory.set(bytes, this.length)
    this.length += bytes.length
    return true
  }

  /** Appends the bytes from one place to another. Most strings are short, and then to make a view of them costs more. */
  appendFrom(bytes: Uint8Array, from: number, to: number): boolean {
    if (to - from > shortBytes) return this.append(bytes.subarray(from, to))
    if (!this.makeRoom(to - from)) return false
    const memory = this.#memory
    let end = this.length
    for (let i = from; i < to; i++) memory[end++] = bytes[i]!
    this.length = end
    return true
  }

  /** Appends a byte for which there is room: `makeRoom` has said so. */
  put(byte: number): void {
    this.#memory[this.length++] = byte
  }

  /** Makes room for so many bytes more; says whether there is the memory for it. */
  makeRoom(bytes: number): boolean {
    // As many as are added: then all are moved before the new memory is full in its turn.
    if (this.#move) this.settle(bytes)
    const wanted = this.length + bytes
    if (wanted <= this.#memory.length) return true
    this.settle(Infinity)
    const buffer = this.#lease.take(wanted)
    if (!buffer) return false
    const before = this.#memory
    this.#memory = new Uint8Array(buffer)
    if (before !== none) this.#move = new Move(before.subarray(0, this.length), this.#memory, this.#lease)
    this.settle(movedAtOnce)
    return true
  }

  /** Forgets the first bytes. */
  shift(bytes: number): void {
    this.settle(Infinity)
    if (bytes > 0) this.#memory.copyWithin(0, bytes, this.length)
    this.length -= bytes
  }
}
