/**
 * Every way a request can be turned down, and the only file with status numbers in it. A refusal is a value that is
 * returned, never thrown: exceptions mean bugs. The code is also the metric label, so the list is closed and short.
 */
interface RefusalKind {
  readonly status: number
  /** Canonical gRPC status code (google.rpc.Code). */
  readonly grpc: number
  /** Whether the same request may succeed if it is simply sent again. */
  readonly retryable: boolean
  readonly title: string
}

export const refusals = {
  invalid: { status: 400, grpc: 3, retryable: false, title: 'the request does not fit the protocol or the model' },
  unauthenticated: {
    status: 401,
    grpc: 16,
    retryable: false,
    title: 'nobody knows who is calling, or the proof is not good',
  },
  forbidden: { status: 403, grpc: 7, retryable: false, title: 'the caller may not do this' },
  not_found: { status: 404, grpc: 5, retryable: false, title: 'no such path, model or version' },
  method_not_allowed: { status: 405, grpc: 12, retryable: false, title: 'the path exists, with another method' },
  not_acceptable: { status: 406, grpc: 3, retryable: false, title: 'the client accepts no form that there is' },
  too_slow: { status: 408, grpc: 4, retryable: true, title: 'the request did not arrive in time' },
  conflict: { status: 409, grpc: 9, retryable: false, title: 'as things stand, this cannot be done' },
  stale: { status: 412, grpc: 9, retryable: false, title: 'it has been changed since it was looked at' },
  unconditional: { status: 428, grpc: 9, retryable: false, title: 'a change must say what it has seen' },
  too_large: { status: 413, grpc: 8, retryable: false, title: 'the body, or what is in it, is over a limit' },
  unsupported_media: {
    status: 415,
    grpc: 3,
    retryable: false,
    title: 'the body has a type or encoding not spoken here',
  },
  expectation_failed: { status: 417, grpc: 3, retryable: false, title: 'an expectation other than `100-continue`' },
  rate_limited: { status: 429, grpc: 8, retryable: true, title: 'a limit on what the caller may ask for is reached' },
  header_too_large: { status: 431, grpc: 8, retryable: false, title: 'the request head is over the limit' },
  model_failed: { status: 500, grpc: 13, retryable: false, title: 'the model failed on this input' },
  internal: { status: 500, grpc: 13, retryable: false, title: 'a defect of the gateway' },
  overloaded: { status: 503, grpc: 14, retryable: true, title: 'more work is waiting than can be done' },
  draining: { status: 503, grpc: 14, retryable: true, title: 'the gateway is shutting down' },
  not_ready: { status: 503, grpc: 14, retryable: true, title: 'no worker can load the model at the moment' },
  not_changed: { status: 503, grpc: 14, retryable: false, title: 'a change that cannot be written down is not made' },
  expired: { status: 504, grpc: 4, retryable: true, title: 'the deadline passed before there was an answer' },
  abandoned: { status: 499, grpc: 1, retryable: false, title: 'the client hung up; nobody reads this answer' },
} as const satisfies Record<string, RefusalKind>

export type RefusalCode = keyof typeof refusals

/** What a client is told: the code, and one sentence that says what to change. Never input values or stack traces. */
export class Refusal {
  readonly code: RefusalCode
  readonly message: string
  /** Seconds after which a retry makes sense (RFC 9110 section 10.2.3); undefined if it never does. */
  readonly retryAfterS: number | undefined
  /** Names and values, in turn, of further header fields of the answer. */
  readonly head: readonly string[]

  /** Without a time to wait it is that of the code; Infinity says that the same will never be taken. */
  constructor(code: RefusalCode, message: string, retryAfterS?: number, head: readonly string[] = []) {
    const waitS = retryAfterS ?? (refusals[code].retryable ? 1 : Infinity)
    this.code = code
    this.message = message
    this.retryAfterS = waitS === Infinity ? undefined : waitS
    this.head = head
  }

  get status(): number {
    return refusals[this.code].status
  }
}

export function refuse(code: RefusalCode, message: string): Refusal {
  return new Refusal(code, message)
}

export function isRefusal(value: unknown): value is Refusal {
  return value instanceof Refusal
}
