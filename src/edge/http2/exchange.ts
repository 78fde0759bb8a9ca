/** One stream of HTTP/2 as a request to be answered. */
import { constants, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2'
import type { Origin } from '../../core/origin.ts'
import type { BodySink, Exchange } from '../exchange.ts'

const { NGHTTP2_CANCEL, NGHTTP2_NO_ERROR } = constants

export class Http2Exchange implements Exchange {
  gone = false
  /** Bytes of the body so far. */
  received = 0
  readonly headers: IncomingHttpHeaders
  readonly peer: string
  readonly origin: Origin
  readonly #stream: ServerHttp2Stream
  readonly #maxUnreadBytes: number
  #sink: BodySink | undefined
  #answered = false
  /** Whether Node's own timer watches over the answer. */
  #watched = false
  /** When it was first seen to be closed here, of which the client need not know. */
  #closedAt: number | undefined
  #whenGone: (() => void) | undefined
  #whenClosed: (() => void) | undefined
  #whenEnded: (() => void) | undefined

  constructor(
    stream: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
    { peer, origin, maxUnreadBytes }: Pick<Exchange, 'peer' | 'origin'> & { readonly maxUnreadBytes: number },
  ) {
    this.#stream = stream
    this.headers = headers
    this.peer = peer
    this.origin = origin
    this.#maxUnreadBytes = maxUnreadBytes
    // A stream that breaks closes, and that is heard.
    stream.on('error', () => undefined)
    stream.on('close', () => {
      // Node finishes what a client cancels before it is answered.
      this.gone = !this.#answered || !stream.writableFinished
      if (this.gone) this.#whenGone?.()
      this.#whenEnded?.()
      this.#whenClosed?.()
    })
  }

  get method(): string {
    return this.headers[':method'] ?? ''
  }

  get target(): string {
    return this.headers[':path'] ?? ''
  }

  get host(): string {
    return this.headers[':authority'] ?? this.headers.host ?? ''
  }

  get secure(): boolean {
    return this.#stream.session?.encrypted ?? false
  }

  onGone(callback: () => void): void {
    this.#whenGone = callback
  }

  onClosed(callback: () => void): void {
    this.#whenClosed = callback
  }

  /** Called once, when the stream is closed; for whoever keeps count of them. */
  onEnd(callback: () => void): void {
    this.#whenEnded = callback
  }

  read(sink: BodySink): void {
    if (this.headers.expect !== undefined) this.#stream.additionalHeaders({ ':status': 100 })
    this.#flowTo(sink)
  }

  pause(): void {
    this.#stream.pause()
  }

  resume(): void {
    this.#stream.resume()
  }

  answer(status: number, fields: string[], pieces: readonly (string | Uint8Array)[]): void {
    const stream = this.#stream
    if (this.#answered || stream.destroyed || stream.closed) return
    this.#answered = true
    const endStream = pieces.length === 0 || this.method === 'HEAD'
    stream.respond([':status', String(status), ...fields], { endStream })
    if (!endStream) {
      for (let i = 0; i < pieces.length - 1; i++) stream.write(pieces[i])
      stream.end(pieces.at(-1))
    }
    if (!stream.readableEnded && !stream.endAfterHeaders) this.#readPast()
  }

  /**
   * Looked at now and then: an answer that is not taken at once is watched over. Says whether not even the word got out
   * that nobody waits for it any longer.
   */
  watch(now: number, stallMs: number): boolean {
    if (!this.#answered) return false
    if (!this.#watched) this.#stream.setTimeout(stallMs, () => this.#stream.close(NGHTTP2_CANCEL))
    this.#watched = true
    if (!this.#stream.closed) return false
    this.#closedAt ??= now
    return now - this.#closedAt > stallMs
  }

  #flowTo(sink: BodySink): void {
    const isNew = this.#sink === undefined
    this.#sink = sink
    if (!isNew) return
    // Node ends a body of nothing by itself, which may be before anybody wanted to read it.
    if (this.#stream.readableEnded) sink.end()
    this.#stream.on('data', (chunk: Buffer) => {
      this.received += chunk.length
      this.#sink!.data(chunk)
    })
    // Also comes when the client has cancelled; but then the stream is closed already.
    this.#stream.on('end', () => {
      if (!this.#stream.aborted) this.#sink!.end()
    })
  }

  /** Takes what little is left of a body that nobody wants, and then tells the client to stop (RFC 9113 section 8.1). */
  #readPast(): void {
    let left = this.#maxUnreadBytes
    const stop = () => this.#stream.close(NGHTTP2_NO_ERROR)
    const data = (chunk: Uint8Array) => {
      const isOver = left < 0
      left -= chunk.length
      if (left >= 0 || isOver) return
      if (this.#stream.writableFinished) stop()
      else this.#stream.once('finish', stop)
    }
    this.#flowTo({ data, end: () => undefined })
    this.#stream.resume()
  }
}
