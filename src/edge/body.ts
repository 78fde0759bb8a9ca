/**
 * Reading a body into a decoder: within the limits on its size, decompressed if it has to be, in slices that leave others
 * their turn, and no longer than it may take.
 */
import type { Transform } from 'node:stream'
import { refuse, type Refusal } from '../core/refusal.ts'
import { sliceBytes, type Decoder } from './codecs/decoder.ts'
import { tooLarge, type BodyLimits } from './content.ts'
import { createInflater, type Encoding } from './compression.ts'
import type { BodySink, Exchange } from './exchange.ts'
import type { Expiring, Sweep } from './sweep.ts'
import type { Turns } from './turns.ts'

export interface BodyTools {
  readonly limits: BodyLimits
  readonly turns: Turns
  readonly sweep: Sweep
}

export interface Reading<T> {
  readonly decoder: Decoder<T>
  readonly encoding: Encoding | undefined
  /** On the clock's scale. */
  readonly expiresAt: number
  /** What a body that is not there by then is refused with. */
  readonly expired: () => Refusal
}

/**
 * Reads the body of an exchange. Settles as soon as the outcome is known, which may be before its end; it is known at once
 * where all of a small body has come with the head.
 */
export function readBody<T extends object>(
  exchange: Exchange,
  reading: Reading<T>,
  tools: BodyTools,
): T | Refusal | Promise<T | Refusal> {
  const reader = new BodyReader(exchange, reading, tools)
  // It may have gone while somebody was asked who it is.
  if (!exchange.gone) exchange.read(reader)
  if (exchange.gone) reader.finish(hungUp())
  return reader.outcome ?? reader.wait()
}

function hungUp(): Refusal {
  return refuse('abandoned', 'the client hung up')
}

/** Small bodies grow as they like. */
const freelyInflated = 1_048_576

class BodyReader<T extends object> implements BodySink, Expiring {
  readonly expiresAt: number
  /** The first one counts. */
  outcome: T | Refusal | undefined
  readonly #exchange: Exchange
  readonly #decoder: Decoder<T>
  readonly #expired: () => Refusal
  readonly #tools: BodyTools
  #resolve: ((outcome: T | Refusal) => void) | undefined
  readonly #inflater: Transform | undefined
  /** Chunks for which there was no turn yet. */
  readonly #late: Uint8Array[] = []
  #received = 0
  #inflated = 0
  /** Whether all of the body is decoded or late. */
  #isAll = false

  constructor(exchange: Exchange, reading: Reading<T>, tools: BodyTools) {
    this.expiresAt = reading.expiresAt
    this.#exchange = exchange
    this.#decoder = reading.decoder
    this.#expired = reading.expired
    this.#tools = tools
    this.#inflater = reading.encoding && this.#inflate(reading.encoding)
  }

  data(chunk: Uint8Array): void {
    if (this.outcome) return
    const { maxBytes } = this.#tools.limits
    this.#received += chunk.length
    if (this.#received > maxBytes) this.finish(tooLarge(maxBytes))
    else if (!this.#inflater) this.#decode(chunk)
    else if (!this.#inflater.write(chunk)) this.#exchange.pause()
  }

  end(): void {
    if (this.outcome) return
    if (this.#inflater) this.#inflater.end()
    else this.#all()
  }

  expire(): void {
    this.finish(this.#expired())
  }

  /** Settles once the outcome is known, which is not yet. */
  wait(): Promise<T | Refusal> {
    this.#exchange.onGone(() => this.finish(hungUp()))
    this.#tools.sweep.add(this)
    return new Promise((resolve) => (this.#resolve = resolve))
  }

  finish(outcome: T | Refusal): void {
    if (this.outcome) return
    this.outcome = outcome
    this.#inflater?.destroy()
    this.#late.length = 0
    if (!this.#resolve) return
    this.#tools.sweep.delete(this)
    this.#resolve(outcome)
  }

  #inflate(encoding: Encoding): Transform {
    const inflater = createInflater(encoding)
    inflater.on('data', (chunk: Buffer) => {
      this.#inflated += chunk.length
      const bomb = this.#bomb()
      if (bomb) this.finish(bomb)
      else this.#decode(chunk)
    })
    inflater.on('drain', () => this.#resume())
    inflater.on('end', () => this.#all())
    inflater.on('error', () => this.finish(refuse('invalid', `the body is not whole and valid ${encoding}`)))
    return inflater
  }

  #bomb(): Refusal | undefined {
    const { maxInflatedBytes, maxInflation } = this.#tools.limits
    if (this.#inflated > maxInflatedBytes) return tooLarge(maxInflatedBytes)
    if (this.#inflated <= Math.max(freelyInflated, maxInflation * this.#received)) return undefined
    return refuse('too_large', `the body grows to more than ${maxInflation} times its size`)
  }

  #decode(chunk: Uint8Array): void {
    if (this.outcome) return
    if (this.#late.length === 0 && this.#tools.turns.take(chunk.length)) {
      this.#write(chunk)
      return
    }
    if (this.#late.push(chunk) > 1) return
    this.#pause()
    this.#tools.turns.wait(() => this.#catchUp())
  }

  #catchUp(): void {
    const { turns } = this.#tools
    for (let chunk = this.#late[0]; chunk; chunk = this.#late[0]) {
      if (!turns.take(chunk.length)) {
        turns.wait(() => this.#catchUp())
        return
      }
      this.#late.shift()
      this.#write(chunk)
    }
    if (this.outcome) return
    if (this.#isAll) this.#conclude()
    else this.#resume()
  }

  #write(chunk: Uint8Array): void {
    const refusal = this.#decoder.write(chunk)
    if (refusal) this.finish(refusal)
  }

  #all(): void {
    this.#isAll = true
    if (this.#late.length === 0) this.#conclude()
  }

  #conclude(): void {
    if (this.outcome) return
    const outcome = this.#decoder.end()
    if (outcome) {
      this.finish(outcome)
      return
    }
    this.#tools.turns.take(sliceBytes)
    this.#tools.turns.wait(() => this.#conclude())
  }

  #pause(): void {
    if (this.#inflater) this.#inflater.pause()
    else this.#exchange.pause()
  }

  #resume(): void {
    if (this.outcome) return
    if (this.#inflater?.isPaused() && this.#late.length === 0) this.#inflater.resume()
    if (!this.#inflater?.writableNeedDrain) this.#exchange.resume()
  }
}
