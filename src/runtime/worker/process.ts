/**
 * The entry of a worker process: its port is a socket, read and written without an event loop, because a run blocks the
 * process anyway. Only the gateway ends it: it hears no signals, so that a Ctrl-C in a terminal, which goes to everybody,
 * lets the gateway finish what is in flight. When the gateway is gone, the socket ends, and so does the process.
 */
import { readSync, writeFileSync, writeSync } from 'node:fs'
import type { Extent, Loaded, Order, Port, Results, Task } from '../channel.ts'
import { grownBytes } from '../frame.ts'
import { decodeMessage, encodeMessage, headBytes, readHead, wireKinds, writeHead } from '../wire.ts'
import { stepBack } from './priority.ts'

/** Where the gateway's end of the socket pair is. */
const socket = 3

class SocketPort implements Port {
  readonly #head = Buffer.alloc(headBytes)
  readonly #slots: ArrayBuffer[] = []
  /** Of the batch in each slot. */
  readonly #extents: Extent[] = []

  next(): Order | Task {
    if (!this.#read(this.#head)) return { kind: 'leave' }
    const { kind, slot, slotBytes, messageBytes, bytes } = readHead(this.#head)
    if (kind === wireKinds.order) {
      const message = new Uint8Array(messageBytes)
      return this.#read(message) ? (decodeMessage(message) as Order) : { kind: 'leave' }
    }
    const memory = this.#reserve(slot, bytes)
    this.#extents[slot] = { inputBytes: slotBytes, bytes }
    return this.#read(new Uint8Array(memory, 0, slotBytes)) ? { kind: 'run', slot, memory } : { kind: 'leave' }
  }

  loaded(loaded: Loaded): void {
    this.#say(wireKinds.loaded, loaded)
  }

  finish({ slot, memory }: Task, { computeMs, mail }: Results): void {
    const { inputBytes, bytes } = this.#extents[slot]!
    const slotBytes = mail && 'failed' in mail ? 0 : bytes - inputBytes
    const message = mail ? encodeMessage(mail) : new Uint8Array(0)
    this.#write(writeHead({ kind: wireKinds.done, slot, slotBytes, bytes, messageBytes: message.length, computeMs }))
    this.#write(new Uint8Array(memory, inputBytes, slotBytes))
    this.#write(message)
  }

  giveUp(reason: string): void {
    this.#say(wireKinds.givenUp, reason)
  }

  #say(kind: number, what: Loaded | string): void {
    const message = encodeMessage(what)
    this.#write(writeHead({ kind, messageBytes: message.length }))
    this.#write(message)
  }

  #reserve(slot: number, bytes: number): ArrayBuffer {
    const known = this.#slots[slot]
    if (known && known.byteLength >= bytes) return known
    return (this.#slots[slot] = new ArrayBuffer(grownBytes(known?.byteLength ?? 0, bytes)))
  }

  /** Fills `target`; false if the gateway is gone. */
  #read(target: Uint8Array): boolean {
    for (let at = 0; at < target.length;) {
      const read = readSync(socket, target, at, target.length - at, null)
      if (read === 0) return false
      at += read
    }
    return true
  }

  #write(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length;) at += writeSync(socket, bytes, at, bytes.length - at)
  }
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {})
preferAsVictim()
stepBack()
await endWithGateway()
// Only now, because to load ONNX Runtime is part of the work.
const { serve } = await import('./serve.ts')
await serve(new SocketPort())

/** If the machine runs out of memory, a worker is a lesser loss than the gateway. */
function preferAsVictim(): void {
  try {
    writeFileSync('/proc/self/oom_score_adj', '500')
  } catch {
    // Not on this system; then nobody is preferred.
  }
}

/** A socket that ends is seen between runs only. On Linux the kernel ends this process with the gateway, whatever it does. */
async function endWithGateway(): Promise<void> {
  const setDeathSignal = 1 // PR_SET_PDEATHSIG
  const kill = 9
  try {
    const { dlopen } = await import('node:ffi')
    const libc = dlopen('libc.so.6', { prctl: { return: 'i32', arguments: ['i32', 'u64'] } })
    libc.functions.prctl(setDeathSignal, BigInt(kill))
  } catch {
    // Not on this system; then a run that never returns outlives the gateway.
  }
}
