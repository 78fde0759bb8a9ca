/**
 * A worker that is a process: it can be killed inside a run, its memory can be capped, and what it does to itself it does
 * to nobody else. Batches travel to it and back over a socket pair.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { readFileSync } from 'node:fs'
import type { Socket } from 'node:net'
import { fileURLToPath } from 'node:url'
import { slots, type Channel, type ChannelEvents, type Extent, type Loaded, type Mail, type Order } from '../channel.ts'
import { grownBytes, type SlotMemory } from '../frame.ts'
import type { WorkerOptions } from '../options.ts'
import { decodeMessage, encodeMessage, headBytes, readHead, wireKinds, writeHead, type Head } from '../wire.ts'

/** Where the process finds its end of the socket pair. */
const socketPlace = 3
/** What Node has reserved of memory that counts as data and never touches, MiB: about 530 of 26.10 on x86-64. */
const reservedMb = 544

export function openProcess(options: WorkerOptions, events: ChannelEvents): Channel {
  return new ProcessChannel(options, events)
}

class ProcessChannel implements Channel {
  readonly #child: ChildProcess
  readonly #socket: Socket
  readonly #slots: ArrayBuffer[]
  readonly #extents: Extent[] = []

  constructor(options: WorkerOptions, events: ChannelEvents) {
    const { command, args } = commandFor(options)
    this.#child = spawn(command, args, { stdio: ['ignore', 'ignore', 'inherit', 'pipe'] })
    this.#socket = this.#child.stdio[socketPlace] as Socket
    this.#slots = Array.from({ length: slots }, () => new ArrayBuffer(0))
    let problem: string | undefined
    const reader = new Reader(this.#slots, this.#extents, { ...events, onGivenUp: (reason) => (problem = reason) })
    this.#socket.on('data', (chunk: Buffer) => reader.push(chunk))
    // A broken pipe: the process has gone, which is told by its exit.
    this.#socket.on('error', () => {})
    this.#child.on('error', (error) => (problem = `it could not be started: ${error.message}`))
    this.#child.on('close', (code, signal) => {
      events.onExit(problem ?? (signal ? `it was killed by ${signal}` : `it left with exit code ${code}`))
    })
  }

  reserve(slot: number, bytes: number): SlotMemory {
    const known = this.#slots[slot]!
    if (known.byteLength >= bytes) return known
    return (this.#slots[slot] = new ArrayBuffer(grownBytes(known.byteLength, bytes)))
  }

  submit(slot: number, extent: Extent): void {
    const { inputBytes, bytes } = extent
    this.#extents[slot] = extent
    this.#socket.cork()
    this.#socket.write(writeHead({ kind: wireKinds.run, slot, slotBytes: inputBytes, bytes }))
    this.#socket.write(new Uint8Array(this.#slots[slot]!, 0, inputBytes))
    this.#socket.uncork()
  }

  tell(order: Order): void {
    const message = encodeMessage(order)
    this.#socket.write(writeHead({ kind: wireKinds.order, messageBytes: message.length }))
    this.#socket.write(message)
  }

  kill(): boolean {
    return this.#child.kill('SIGKILL')
  }

  memory(): number | undefined {
    try {
      const [, kib] = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${this.#child.pid}/status`, 'utf8')) ?? []
      return kib === undefined ? undefined : 1024 * Number(kib)
    } catch {
      return undefined
    }
  }
}

interface ReaderEvents extends ChannelEvents {
  /** Told why the process is about to end by itself. */
  onGivenUp(reason: string): void
}

/** Puts what comes over the socket where it belongs. */
class Reader {
  readonly #slots: readonly ArrayBuffer[]
  readonly #extents: readonly Extent[]
  readonly #events: ReaderEvents
  #head: Head | undefined
  /** The part that is being filled, how much of it has come, and those behind it. */
  #part = new Uint8Array(headBytes)
  #got = 0
  #rest: Uint8Array<ArrayBuffer>[] = []
  #message = new Uint8Array(0)

  constructor(slotMemory: readonly ArrayBuffer[], extents: readonly Extent[], events: ReaderEvents) {
    this.#slots = slotMemory
    this.#extents = extents
    this.#events = events
  }

  push(chunk: Uint8Array): void {
    for (let at = 0; at < chunk.length;) {
      const piece = chunk.subarray(at, at + this.#part.length - this.#got)
      this.#part.set(piece, this.#got)
      this.#got += piece.length
      at += piece.length
      while (this.#got === this.#part.length) this.#next()
    }
  }

  #next(): void {
    if (!this.#head) {
      const head = readHead(this.#part)
      this.#head = head
      this.#message = new Uint8Array(head.messageBytes)
      this.#rest = [this.#outputsOf(head), this.#message].filter(({ length }) => length > 0)
    }
    const next = this.#rest.shift()
    if (!next) this.#deliver(this.#head)
    this.#part = next ?? new Uint8Array(headBytes)
    this.#got = 0
  }

  #outputsOf({ slot, slotBytes }: Head): Uint8Array<ArrayBuffer> {
    return slotBytes === 0
      ? new Uint8Array(0)
      : new Uint8Array(this.#slots[slot]!, this.#extents[slot]!.inputBytes, slotBytes)
  }

  #deliver({ kind, slot, messageBytes, computeMs }: Head): void {
    this.#head = undefined
    const message = messageBytes > 0 ? decodeMessage(this.#message) : undefined
    if (kind === wireKinds.loaded) this.#events.onLoaded(message as Loaded)
    else if (kind === wireKinds.givenUp) this.#events.onGivenUp(message as string)
    else this.#events.onDone(slot, { computeMs, mail: message as Mail | undefined })
  }
}

/**
 * Node itself, or a shell that sets a limit and becomes Node. The limit counts memory that can be written to and is not
 * shared (`RLIMIT_DATA`), so that an allocation beyond it fails where it is made: the run fails, and the process lives on.
 */
function commandFor({ heapMb, memoryMb }: WorkerOptions): { command: string; args: string[] } {
  const node = [
    '--disable-warning=ExperimentalWarning',
    `--max-old-space-size=${heapMb}`,
    fileURLToPath(new URL('../worker/process.ts', import.meta.url)),
  ]
  if (memoryMb === undefined) return { command: process.execPath, args: node }
  const limitKib = 1024 * (memoryMb + reservedMb)
  return { command: '/bin/sh', args: ['-c', `ulimit -d ${limitKib} && exec "$0" "$@"`, process.execPath, ...node] }
}
