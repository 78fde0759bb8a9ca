/** Reads ASN.1 in DER (ITU-T X.690): as much of it as certificates and revocation lists are made of. */

/** Where a value is in the bytes that hold it. */
export interface Element {
  readonly tag: number
  /** Where its head begins. */
  readonly from: number
  /** Where its content begins, and where it ends. */
  readonly start: number
  readonly end: number
}

export const tags = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  objectId: 0x06,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const

/** What is read is not what it should be. Whoever begins to read catches it. */
export class BrokenDer extends Error {}

/** Goes over the values in a stretch of bytes, one after another. */
export class DerReader {
  readonly bytes: Buffer
  #at: number
  readonly #end: number

  constructor(bytes: Buffer, { start, end }: Pick<Element, 'start' | 'end'> = { start: 0, end: bytes.length }) {
    this.bytes = bytes
    this.#at = start
    this.#end = end
  }

  get isDone(): boolean {
    return this.#at >= this.#end
  }

  /** Whether the next value has this tag. */
  sees(tag: number): boolean {
    return !this.isDone && this.bytes[this.#at] === tag
  }

  next(tag?: number): Element {
    const from = this.#at
    if (from + 2 > this.#end || (tag !== undefined && this.bytes[from] !== tag)) throw new BrokenDer()
    let length = this.bytes[from + 1]!
    let start = from + 2
    if (length >= 0x80) {
      const size = length - 0x80
      if (size < 1 || size > 4 || start + size > this.#end) throw new BrokenDer()
      length = this.bytes.readUIntBE(start, size)
      start += size
    }
    const end = start + length
    if (end > this.#end) throw new BrokenDer()
    this.#at = end
    return { tag: this.bytes[from]!, from, start, end }
  }

  optional(tag: number): Element | undefined {
    return this.sees(tag) ? this.next(tag) : undefined
  }

  /** Goes over what is in the next value. */
  inside(tag: number): DerReader {
    return new DerReader(this.bytes, this.next(tag))
  }

  content({ start, end }: Element): Buffer {
    return this.bytes.subarray(start, end)
  }

  /** With its head. */
  whole({ from, end }: Element): Buffer {
    return this.bytes.subarray(from, end)
  }

  /** The content of an object identifier, in hexadecimal. */
  objectId(): string {
    return this.content(this.next(tags.objectId)).toString('hex')
  }

  /** Milliseconds since 1970 (RFC 5280 section 4.1.2.5). */
  time(): number {
    const element = this.next()
    const text = this.content(element).toString('latin1')
    const century = element.tag === tags.utcTime ? (text >= '50' ? '19' : '20') : ''
    const digits = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(century + text)
    if (!digits || (century === '' && element.tag !== tags.generalizedTime)) throw new BrokenDer()
    const [year, month, day, hour, minute, second] = digits.slice(1).map(Number) as [number, ...number[]]
    return Date.UTC(year, month! - 1, day, hour, minute, second)
  }
}

/** What `read` finds; undefined if it is not what it should be. */
export function readDer<T>(bytes: Buffer, read: (reader: DerReader) => T): T | undefined {
  try {
    return read(new DerReader(bytes))
  } catch (error) {
    if (error instanceof BrokenDer) return undefined
    throw error
  }
}
