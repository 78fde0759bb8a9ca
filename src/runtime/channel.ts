/** What the gateway's thread and a worker have to say to each other, whatever carries it: shared memory or a socket. */
import type { Graph } from '../core/signature.ts'
import type { Mailed } from './batch.ts'
import type { SlotMemory } from './frame.ts'
import type { SessionOptions } from './options.ts'

/** Two: one to run, one to fill meanwhile. With one slot a worker starves while the gateway's thread is busy. */
export const slots = 2

export interface LoadOrder {
  readonly kind: 'load'
  readonly file: string
  readonly options: SessionOptions
  /** Whether a run may be repeated to see how things stand. */
  readonly isRepeatable: boolean
}

/** `serve` ends the warm-up: from now on there are requests. */
export type Order = LoadOrder | { readonly kind: 'serve' } | { readonly kind: 'leave' }

/** What runs a session: one of the providers that were asked for, and what became of those before it. */
export interface Device {
  readonly provider: string
  /** What it runs on, as far as it says. */
  readonly device: string
  /** Providers that could not be had, and why. */
  readonly missed: readonly { readonly provider: string; readonly why: string }[]
}

/** The answer to a `load`: the graph and what runs it, or why there is none. */
export type Loaded = { readonly graph: Graph; readonly device: Device } | { readonly problem: string }

/** What of a run's results does not fit a slot. */
export type Mail = { readonly failed: string } | { readonly outputs: readonly Mailed[] }

export interface Results {
  readonly computeMs: number
  /** Undefined if the slot holds all that there is to say. */
  readonly mail: Mail | undefined
}

/** Where in a slot a batch's outputs begin and end. */
export interface Extent {
  readonly inputBytes: number
  readonly bytes: number
}

/** The gateway's end. */
export interface Channel {
  /** Memory for a batch, at least so large, until its run is done. Throws a RangeError if there is none. */
  reserve(slot: number, bytes: number): SlotMemory
  /** Hands a filled slot over. Slots are used in turn. */
  submit(slot: number, extent: Extent): void
  tell(order: Order): void
  /** Ends the worker even inside a run, if that can be done; says whether. If not, it is let alone, and keeps nobody up. */
  kill(): boolean
  /** Bytes of memory that the worker has of its own; undefined if it shares the gateway's. */
  memory(): number | undefined
}

export interface ChannelEvents {
  onLoaded(loaded: Loaded): void
  /** In the order of submission. */
  onDone(slot: number, results: Results): void
  /** Once, and nothing after it. */
  onExit(reason: string): void
}

/** The worker's end. */
export interface Port {
  /** Blocks the worker until there is an order, or a slot with a batch. */
  next(): Order | Task
  loaded(loaded: Loaded): void
  /** The outputs of known size are in the slot. */
  finish(task: Task, results: Results): void
  /** Says why the worker is about to end by itself. */
  giveUp(reason: string): void
}

export interface Task {
  readonly kind: 'run'
  readonly slot: number
  readonly memory: SlotMemory
}
