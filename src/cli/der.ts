/** Writes ASN.1 in DER (ITU-T X.690). */

export function der(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  const body = Buffer.concat(parts)
  const { length } = body
  const size = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff]
  return Buffer.concat([Buffer.of(tag, ...size), body])
}

export function sequence(...parts: readonly Uint8Array[]): Buffer {
  return der(0x30, ...parts)
}

export function integer(bytes: Buffer): Buffer {
  return der(0x02, bytes)
}

export function boolean(value: boolean): Buffer {
  return der(0x01, Buffer.of(value ? 0xff : 0))
}

export function octets(bytes: Buffer): Buffer {
  return der(0x04, bytes)
}

/** A number of whole bytes. */
export function bitString(bytes: Buffer): Buffer {
  return der(0x03, Buffer.of(0), bytes)
}

export function bits(byte: number, unused: number): Buffer {
  return der(0x03, Buffer.of(unused, byte))
}

export function objectId(first: number, second: number, ...rest: readonly number[]): Buffer {
  const base128 = (value: number): number[] =>
    value < 0x80 ? [value] : [...base128(value >> 7).map(more), value & 0x7f]
  const more = (byte: number): number => byte | 0x80
  return der(0x06, Buffer.of(40 * first + second, ...rest.flatMap(base128)))
}

/** Of milliseconds since 1970. */
export function utcTime(epochMs: number): Buffer {
  const digits = new Date(epochMs).toISOString().replace(/\..*|[-:T]/g, '')
  return der(0x17, Buffer.from(`${digits.slice(2)}Z`))
}
