/** A body that is one JSON document, small enough to be read as a whole. */
import { isUtf8 } from 'node:buffer'
import { refuse, type Refusal } from '../../core/refusal.ts'
import type { Decoder } from './decoder.ts'

export class DocumentDecoder implements Decoder<{ readonly document: unknown }> {
  readonly #maxBytes: number
  readonly #chunks: Uint8Array[] = []
  #length = 0

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  write(chunk: Uint8Array): Refusal | undefined {
    this.#length += chunk.length
    if (this.#length > this.#maxBytes) return refuse('too_large', `the body is larger than ${this.#maxBytes} bytes`)
    // What is read next may lie in the same memory; and `slice` of a Buffer is no copy.
    this.#chunks.push(new Uint8Array(chunk))
    return undefined
  }

  end(): { readonly document: unknown } | Refusal {
    const bytes = Buffer.concat(this.#chunks)
    if (!isUtf8(bytes)) return refuse('invalid', 'the body is not UTF-8')
    try {
      return { document: JSON.parse(bytes.toString()) as unknown }
    } catch {
      return refuse('invalid', 'the body is not JSON')
    }
  }
}
