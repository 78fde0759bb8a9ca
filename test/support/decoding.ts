/** Bodies decoded as the edge does it, in one piece or in many. */
import { Arena, Lease } from '../../src/core/arena.ts'
import type { InferRequest } from '../../src/core/call.ts'
import type { Refusal } from '../../src/core/refusal.ts'
import type { Signature } from '../../src/core/signature.ts'
import type { DecodeOptions } from '../../src/edge/codecs/decoder.ts'
import { RequestDecoder } from '../../src/edge/codecs/request.ts'
import { Scanner } from '../../src/edge/codecs/scanner.ts'
import { Window } from '../../src/edge/codecs/window.ts'

const arena = new Arena(2 ** 30)

export const decodeOptions: DecodeOptions = {
  json: { maxDepth: 32, maxValues: 10_000 },
  tensors: { maxRows: 1_024, maxElements: 2 ** 22, maxStrings: 2 ** 18, maxRank: 8 },
  nonFinite: false,
}

export interface Cutting {
  /** How many bytes of the body are JSON, if binary tensors follow. */
  readonly jsonBytes?: number
  /** Where the body is cut, in rising order. */
  readonly cuts?: readonly number[]
  readonly options?: DecodeOptions
}

/** What a body comes to. Its memory is given back at once: read the tensors before the next call. */
export function decode(body: Buffer, contract: Signature, cutting: Cutting = {}): InferRequest | Refusal {
  const { jsonBytes, cuts = [], options = decodeOptions } = cutting
  const lease = new Lease(arena)
  const decoder = new RequestDecoder({ jsonBytes, length: body.length, options, lease }, contract)
  try {
    for (const piece of pieces(body, cuts)) {
      const refusal = decoder.write(piece)
      if (refusal) return refusal
    }
    for (;;) {
      const request = decoder.end()
      if (request) return request
    }
  } finally {
    lease.release()
  }
}

/** A document's value, tensor data kept as the values that it holds; or the refusal. */
export function scan(body: Buffer, cuts: readonly number[] = []): { readonly value: unknown } | Refusal {
  const lease = new Lease(arena)
  const window = new Window(lease)
  const scanner = new Scanner(window, decodeOptions.json, () => {
    throw new Error('no tensor was expected here')
  })
  for (const piece of pieces(body, cuts)) {
    window.push(piece)
    const progress = scanner.scan()
    if (typeof progress !== 'string') return progress
    window.keep()
  }
  window.closed = true
  const progress = scanner.scan()
  lease.release()
  return typeof progress === 'string' ? { value: scanner.value } : progress
}

/** Each piece in memory of its own that is spoilt once the next one comes, as a connection's may be. */
function* pieces(body: Buffer, cuts: readonly number[]): Generator<Buffer> {
  let from = 0
  for (const to of [...cuts, body.length]) {
    const piece = Buffer.from(body.subarray(from, to))
    yield piece
    piece.fill(0xff)
    from = to
  }
}
