/**
 * One request and the way to answer it, whatever version of HTTP it came by. What stands behind it knows of no version: a
 * new one has this to implement, and to serve connections by the rules that `http1/front.ts` lists.
 */
import type { IncomingHttpHeaders } from 'node:http'
import type { Clock } from '../core/clock.ts'
import type { Origin } from '../core/origin.ts'
import type { Refusal } from '../core/refusal.ts'
import type { EdgeCounts } from '../telemetry/edge-counts.ts'
import type { Connections } from './transport/connections.ts'
import type { Intake } from './transport/intake.ts'

/** Takes a body as it comes. */
export interface BodySink {
  data(chunk: Uint8Array): void
  /** The body is complete; not called for one that is cut off. */
  end(): void
}

export interface Exchange {
  readonly method: string
  /** Path and query, as they were sent. */
  readonly target: string
  /** `Host`, or the authority that HTTP/2 has for it; empty if there is neither. */
  readonly host: string
  readonly headers: IncomingHttpHeaders
  /** Whose connection it is: an address, or a network that is one client's. */
  readonly peer: string
  readonly origin: Origin
  /** Whether the connection is encrypted. */
  readonly secure: boolean
  /** Whether nobody waits for the answer any more. */
  readonly gone: boolean
  /** Called once, when nobody waits any more before the answer is written. One callback at a time. */
  onGone(callback: () => void): void
  /** Called once, when the last byte is written or the client gone. */
  onClosed(callback: () => void): void
  /** Reads the body; tells a client that waits for leave to send it that it may. */
  read(sink: BodySink): void
  pause(): void
  resume(): void
  /**
   * Answers; the first answer counts. `fields` are names and values in turn. What has not been read of the body is read past, up to a
   * limit; beyond it the client is cut off, once it had time to see the answer.
   */
  answer(status: number, fields: string[], pieces: readonly (string | Uint8Array)[]): void
}

/** What every protocol needs of its surroundings. */
export interface ProtocolTools {
  readonly connections: Connections
  readonly intake: Intake
  readonly counts: EdgeCounts
  readonly clock: Clock
  /** Answers a request, sooner or later. `flaw` is what the protocol itself has against it. */
  readonly handle: (exchange: Exchange, flaw?: Refusal) => void
}
