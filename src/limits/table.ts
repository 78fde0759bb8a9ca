/**
 * When buckets will be full again, by a fingerprint of 64 bits: flat memory, because a million entries of a Map cost two
 * microseconds a look. A full bucket is as good as none, so entries need not be taken out: their places are used again.
 */

/** Places for an entry: with twice as many places as keys, one key in ten thousand finds them all taken. */
const ways = 16
/** To grow costs a pause; a part so small takes a tenth of a millisecond. */
const mostPartSlots = 8_192

export class BucketTable {
  readonly #parts: (Part | undefined)[]
  /** Of one part. */
  readonly #mostSlots: number
  #replaced = 0

  constructor(maxKeys: number) {
    const slots = Math.max(ways, 2 ** Math.ceil(Math.log2(2 * maxKeys)))
    this.#mostSlots = Math.min(slots, mostPartSlots)
    this.#parts = Array.from({ length: slots / this.#mostSlots })
  }

  /** Buckets that were forgotten because there was no room. */
  get replaced(): number {
    return this.#replaced
  }

  /** Places that are taken up, by buckets that are full again too. */
  get used(): number {
    return this.#parts.reduce((sum, part) => sum + (part?.used ?? 0), 0)
  }

  get bytes(): number {
    return this.#parts.reduce((sum, part) => sum + (part?.bytes ?? 0), 0)
  }

  /** When the bucket will be full again; 0 if nothing is known of it. */
  fullAt(low: number, high: number): number {
    return this.#parts[low & (this.#parts.length - 1)]?.fullAt(low, high) ?? 0
  }

  set(low: number, high: number, at: number, now: number): void {
    const part = (this.#parts[low & (this.#parts.length - 1)] ??= new Part())
    while (!part.put(low, high, at, now)) {
      if (part.slots < this.#mostSlots) part.grow(now)
      else {
        this.#replaced++
        part.forget(high)
      }
    }
  }
}

/** A table of sets of `ways` slots; its memory doubles when a set is full. */
class Part {
  /** Two words for each slot. */
  #marks = new Int32Array(2 * ways)
  #fullAt = new Float64Array(ways)
  /** Slots that are in use or were. */
  used = 0

  get slots(): number {
    return this.#fullAt.length
  }

  get bytes(): number {
    return this.#marks.byteLength + this.#fullAt.byteLength
  }

  fullAt(low: number, high: number): number {
    const marks = this.#marks
    const first = this.#firstOf(high)
    for (let slot = first; slot < first + ways; slot++) {
      if (marks[2 * slot] === low && marks[2 * slot + 1] === high) return this.#fullAt[slot]!
    }
    return 0
  }

  /** False if there is no place. */
  put(low: number, high: number, at: number, now: number): boolean {
    const marks = this.#marks
    const fullAt = this.#fullAt
    const first = this.#firstOf(high)
    let free = -1
    for (let slot = first; slot < first + ways; slot++) {
      if (marks[2 * slot] === low && marks[2 * slot + 1] === high) {
        fullAt[slot] = at
        return true
      }
      if (free < 0 && fullAt[slot]! <= now) free = slot
    }
    if (free < 0) return false
    if (fullAt[free] === 0) this.used++
    marks[2 * free] = low
    marks[2 * free + 1] = high
    fullAt[free] = at
    return true
  }

  /** Twice as many places; each set becomes two, so whatever is alive finds one. */
  grow(now: number): void {
    const [marks, fullAt] = [this.#marks, this.#fullAt]
    this.#marks = new Int32Array(2 * marks.length)
    this.#fullAt = new Float64Array(2 * fullAt.length)
    this.used = 0
    for (let slot = 0; slot < fullAt.length; slot++) {
      if (fullAt[slot]! > now) this.put(marks[2 * slot]!, marks[2 * slot + 1]!, fullAt[slot]!, now)
    }
  }

  /** Frees a place: of those in the way, the one that loses least by it, because it is nearest to full. */
  forget(high: number): void {
    const fullAt = this.#fullAt
    const first = this.#firstOf(high)
    let least = first
    for (let slot = first; slot < first + ways; slot++) if (fullAt[slot]! < fullAt[least]!) least = slot
    fullAt[least] = 0
    this.used--
  }

  #firstOf(high: number): number {
    return (high & (this.slots / ways - 1)) * ways
  }
}
