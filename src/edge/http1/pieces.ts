/** Writing an answer bit by bit, so that it shows whether the client takes any of it. */

export type Pieces = readonly (string | Uint8Array)[]

/** What is no longer goes out at once. */
const bitBytes = 65_536

export function isShort(pieces: Pieces): boolean {
  let length = 0
  for (const piece of pieces) length += piece.length
  return length <= bitBytes
}

/** Says that a bit was taken; or, with an error, that none will be any more. */
type Taken = (error?: Error | null) => void

/** Writes one bit after another, each when the one before is with the kernel; `moved` is told of all but the last. */
export function writeInBits(
  pieces: Pieces,
  write: (bit: Uint8Array, taken: Taken, isLast: boolean) => void,
  { moved, written }: { readonly moved: () => void; readonly written: Taken },
): void {
  const bits = pieces.flatMap(cut)
  let count = 0
  const next = () => {
    const bit = bits[count++]!
    const isLast = count === bits.length
    write(bit, isLast ? written : taken, isLast)
  }
  const taken: Taken = (error) => {
    if (error) return
    moved()
    next()
  }
  next()
}

function cut(piece: string | Uint8Array): Uint8Array[] {
  const bytes = typeof piece === 'string' ? Buffer.from(piece) : piece
  const bits: Uint8Array[] = []
  for (let from = 0; from < bytes.length; from += bitBytes) bits.push(bytes.subarray(from, from + bitBytes))
  return bits
}
