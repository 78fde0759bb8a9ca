/**
 * HTTP/2 on `node:http2`, by its streams: the interface that looks like HTTP/1.1 costs almost twice as much. nghttp2
 * counts cancelled requests, frames without sense and header blocks without end; the others are counted here.
 */
import { constants, performServerHandshake, type ServerHttp2Session, type ServerOptions } from 'node:http2'
import type { Socket } from 'node:net'
import { refuse, type Refusal } from '../../core/refusal.ts'
import type { EdgeOptions } from '../options.ts'
import type { Connection } from '../transport/connections.ts'
import type { ProtocolTools } from '../exchange.ts'
import { expectationFlaw, hostFlaw, proofFlaw } from '../flaws.ts'
import { Http2Exchange } from './exchange.ts'

/** Larger than the default, or an upload waits for the server's word every 64 KiB. */
const windowBytes = 1_048_576
/** How often sessions are looked at. */
const watchMs = 1_000
const controlPeriodMs = 10_000
/** A byte in a frame and a record of TLS of its own is about as many. */
const wireBytesPerByte = 64

export class Http2 {
  readonly #options: EdgeOptions
  readonly #tools: ProtocolTools
  readonly #sessionOptions: ServerOptions
  readonly #channels = new Set<Channel>()
  #cancelWatch: (() => void) | undefined

  constructor(options: EdgeOptions, tools: ProtocolTools) {
    const { maxStreams, maxResets, resetsPerSecond, maxBadFrames, maxSessionBytes } = options.http2
    this.#options = options
    this.#tools = tools
    this.#sessionOptions = {
      settings: {
        maxConcurrentStreams: maxStreams,
        initialWindowSize: windowBytes,
        maxHeaderListSize: options.head.maxBytes,
        enablePush: false,
      },
      // With the four that begin with a colon.
      maxHeaderListPairs: options.head.maxFields + 4,
      streamResetBurst: maxResets,
      streamResetRate: resetsPerSecond,
      maxSessionInvalidFrames: maxBadFrames,
      maxSessionRejectedStreams: maxBadFrames,
      maxSessionMemory: Math.ceil(maxSessionBytes / 1e6),
    }
  }

  /** Speaks HTTP/2 on a connection; `socket` is the one to speak on, which TLS may have wrapped. */
  accept(connection: Connection, socket: Socket): void {
    const { counts } = this.#tools
    const session = performServerHandshake(socket, this.#sessionOptions)
    // Of all streams together: the setting is for each of them.
    session.setLocalWindowSize(windowBytes)
    const channel = new Channel(session, connection, { options: this.#options, tools: this.#tools })
    connection.ending = channel
    counts.open.h2++
    this.#channels.add(channel)
    this.#cancelWatch ??= this.#watchLater()
    session.on('close', () => {
      counts.open.h2--
      this.#channels.delete(channel)
      socket.destroy()
    })
  }

  /** Stops watching over timeouts. */
  close(): void {
    this.#cancelWatch?.()
  }

  #watchLater(): () => void {
    const { clock } = this.#tools
    return clock.after(watchMs, () => {
      const now = clock.now()
      for (const channel of this.#channels) channel.watch(now)
      this.#cancelWatch = this.#channels.size > 0 ? this.#watchLater() : undefined
    })
  }
}

/** One session. */
class Channel {
  readonly #session: ServerHttp2Session
  readonly #connection: Connection
  readonly #options: EdgeOptions
  readonly #tools: ProtocolTools
  /** Requests whose streams are open. */
  readonly #exchanges = new Set<Http2Exchange>()
  #idleSince: number
  /** When it was first seen to be over. */
  #endedAt: number | undefined
  /** Of requests that are over. */
  #bodyBytes = 0
  #controlFrames = 0
  #noiseBefore = 0
  #controlSince: number

  constructor(
    session: ServerHttp2Session,
    connection: Connection,
    around: { readonly options: EdgeOptions; readonly tools: ProtocolTools },
  ) {
    this.#session = session
    this.#connection = connection
    this.#options = around.options
    this.#tools = around.tools
    this.#idleSince = this.#controlSince = around.tools.clock.now()
    // A broken session closes, which is all there is to do about it.
    session.on('error', () => undefined)
    session.on('ping', () => this.#countControl())
    session.on('remoteSettings', () => this.#countControl())
    const { peer, origin } = connection
    const facts = { peer, origin, maxUnreadBytes: this.#options.body.maxUnreadBytes }
    session.on('stream', (stream, headers, _flags, fields) => {
      this.#begun(new Http2Exchange(stream, headers, facts), fields)
    })
  }

  /**
   * Says with GOAWAY which request was the last to be taken, and ends when they are answered. Those that were on their way
   * meanwhile were not looked at, and the client knows it: it sends them elsewhere (RFC 9113 section 6.8). A notice before
   * the end, which spares it that, cannot be sent: Node drops what comes after any GOAWAY without a word.
   */
  end(): void {
    this.#session.close()
  }

  watch(now: number): void {
    const { idleMs, stallMs } = this.#options.connections
    const isIdle = this.#exchanges.size === 0
    if (isIdle && now - this.#idleSince > idleMs) this.end()
    if (this.#session.closed || this.#session.destroyed) this.#endedAt ??= now
    // Node waits for a client that stays, that stopped within a head, or that takes nothing.
    const isOver = isIdle && this.#endedAt !== undefined && now - Math.max(this.#endedAt, this.#idleSince) > stallMs
    const isStuck = [...this.#exchanges].some((exchange) => exchange.watch(now, stallMs))
    const noise = this.#noise()
    if (isOver || isStuck) this.#connection.socket.destroy()
    else if (noise - this.#noiseBefore > windowBytes + this.#options.http2.maxStrayBytes) this.#calm()
    if (now - this.#controlSince > controlPeriodMs) {
      this.#controlFrames = 0
      this.#noiseBefore = noise
      this.#controlSince = now
    }
  }

  /**
   * Bytes that were read and belong to no request: fields beyond what a head may have, and frames that change nothing.
   * nghttp2 works on them and tells nobody. An honest client may cut its bodies into small frames.
   */
  #noise(): number {
    let body = this.#bodyBytes
    for (const { received } of this.#exchanges) body += received
    const heads = this.#connection.requests * this.#options.head.maxBytes
    return this.#connection.socket.bytesRead - heads - body * wireBytesPerByte
  }

  #begun(exchange: Http2Exchange, fields: readonly string[]): void {
    const connection = this.#connection
    this.#tools.intake.begun()
    connection.begun()
    this.#exchanges.add(exchange)
    exchange.onEnd(() => {
      this.#exchanges.delete(exchange)
      this.#bodyBytes += exchange.received
      if (this.#exchanges.size === 0) this.#idleSince = this.#tools.clock.now()
      connection.answered()
    })
    if (connection.requests === this.#options.connections.maxRequests) connection.end()
    this.#tools.handle(exchange, flawOf(exchange) ?? proofFlaw(exchange.headers.authorization, fields))
  }

  #countControl(): void {
    if (++this.#controlFrames > this.#options.http2.maxControlFrames) this.#calm()
  }

  #calm(): void {
    if (this.#session.destroyed) return
    this.#session.goaway(constants.NGHTTP2_ENHANCE_YOUR_CALM)
    this.#session.destroy()
  }
}

/** RFC 9113 section 8.3.1: a host may be named twice, and then it must be the same. */
function flawOf({ host, headers }: Http2Exchange): Refusal | undefined {
  if (headers.host !== undefined && headers.host !== host)
    return refuse('invalid', 'the "host" field names another host than ":authority"')
  return hostFlaw(host) ?? expectationFlaw(headers.expect)
}
