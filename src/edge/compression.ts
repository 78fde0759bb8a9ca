/**
 * Compression of bodies (RFC 9110 section 8.4). A small body may stand for an enormous one, so what comes out is counted,
 * and so is how much of it there is for each byte that went in.
 */
import type { Transform } from 'node:stream'
import { constants, createGunzip, createGzip, createInflate, createZstdCompress, createZstdDecompress } from 'node:zlib'

export type Encoding = 'gzip' | 'deflate' | 'zstd'
export type AnswerEncoding = 'gzip' | 'zstd'

/** What is sent as `accept-encoding` to clients whose encoding is not known here (RFC 9110 section 12.5.3). */
export const acceptedEncodings = 'gzip, deflate, zstd'

export function readEncoding(header: string | string[] | undefined): Encoding | 'unknown' | undefined {
  if (header === undefined) return undefined
  const name = String(header).trim().toLowerCase()
  if (name === 'identity' || name === '') return undefined
  if (name === 'x-gzip') return 'gzip'
  return name === 'gzip' || name === 'deflate' || name === 'zstd' ? name : 'unknown'
}

const chunkBytes = 65_536
/** A window of 8 MiB, as RFC 8878 section 3.1.1.1.2 recommends; more would let clients take memory at will. */
const zstdWindowLog = 23

/** Takes compressed bytes and gives the others, in chunks; destroyed with an error by bytes that make no sense. */
export function createInflater(encoding: Encoding): Transform {
  const options = { chunkSize: chunkBytes }
  if (encoding === 'gzip') return createGunzip(options)
  // Of gzip more members may follow, so there it would be wrong to say so; what is no member is refused anyway.
  const strict = { ...options, rejectGarbageAfterEnd: true }
  if (encoding === 'deflate') return createInflate(strict)
  return createZstdDecompress({ ...strict, params: { [constants.ZSTD_d_windowLogMax]: zstdWindowLog } })
}

/** The encoding that a client would rather have; undefined if it has none that is spoken here. */
export function chooseEncoding(accepted: string | string[] | undefined): AnswerEncoding | undefined {
  if (accepted === undefined) return undefined
  const weights = new Map<string, number>()
  for (const part of String(accepted).toLowerCase().split(',')) {
    const [name = '', ...parameters] = part.split(';').map((each) => each.trim())
    const weight = parameters.find((each) => each.startsWith('q='))
    weights.set(name, weight === undefined ? 1 : Number(weight.slice(2)))
  }
  const weightOf = (name: string) => weights.get(name) ?? 0
  const zstdWeight = weightOf('zstd')
  const gzipWeight = Math.max(weightOf('gzip'), weightOf('x-gzip'))
  if (zstdWeight > 0 && zstdWeight >= gzipWeight) return 'zstd'
  return gzipWeight > 0 ? 'gzip' : undefined
}

/** Compresses off this thread. Quickly rather than well: answers are sent once. */
export function compress(pieces: readonly (string | Uint8Array)[], encoding: AnswerEncoding): Promise<Buffer[]> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer[]>()
  const options = { chunkSize: chunkBytes }
  const level = { [constants.ZSTD_c_compressionLevel]: 1 }
  const stream =
    encoding === 'gzip' ? createGzip({ ...options, level: 1 }) : createZstdCompress({ ...options, params: level })
  const compressed: Buffer[] = []
  stream.on('data', (chunk: Buffer) => compressed.push(chunk))
  stream.on('end', () => resolve(compressed))
  stream.on('error', reject)
  for (const piece of pieces) stream.write(piece)
  stream.end()
  return promise
}
