/**
 * The frames between the gateway and a worker process, over a socket pair. Each begins with a head in the machine's own
 * byte order, for both ends are on one machine; then comes part of a slot, and then a message.
 */
import { deserialize, serialize } from 'node:v8'

export const headBytes = 32

export const wireKinds = { order: 1, run: 2, loaded: 3, done: 4, givenUp: 5 } as const

export interface Head {
  readonly kind: number
  readonly slot: number
  /** How much of the slot follows: of a batch its inputs, which lie at the slot's beginning, of results the outputs behind. */
  readonly slotBytes: number
  /** What the whole slot needs. */
  readonly bytes: number
  readonly messageBytes: number
  readonly computeMs: number
}

const none: Head = { kind: 0, slot: 0, slotBytes: 0, bytes: 0, messageBytes: 0, computeMs: 0 }
const computeAt = 24

export function writeHead(parts: Partial<Head>): Uint8Array {
  const { kind, slot, slotBytes, bytes, messageBytes, computeMs } = { ...none, ...parts }
  const head = new ArrayBuffer(headBytes)
  new Uint32Array(head).set([kind, slot, slotBytes, bytes, messageBytes])
  new Float64Array(head, computeAt)[0] = computeMs
  return new Uint8Array(head)
}

export function readHead(bytes: Uint8Array): Head {
  const head = bytes.slice(0, headBytes).buffer
  const [kind = 0, slot = 0, slotBytes = 0, all = 0, messageBytes = 0] = new Uint32Array(head)
  const [computeMs = 0] = new Float64Array(head, computeAt)
  return { kind, slot, slotBytes, bytes: all, messageBytes, computeMs }
}

export function encodeMessage(message: unknown): Uint8Array {
  return serialize(message)
}

export function decodeMessage(bytes: Uint8Array): unknown {
  return deserialize(bytes)
}
