/**
 * ONNX Runtime, inside a worker. Its `run` is a synchronous native call that blocks its thread, so nothing here may be
 * used on the gateway's own thread.
 */
import { numerics, type Datatype } from '../../core/datatype.ts'
import type { Dim, Graph, GraphPort } from '../../core/signature.ts'
import { elementCount, joinStrings, stringAt, type TensorData } from '../../core/tensor.ts'
import type { Mailed } from '../batch.ts'
import type { Device, LoadOrder } from '../channel.ts'
import type { Frame, Placed, SlotMemory } from '../frame.ts'
import { openSession } from './providers.ts'
import { OrtTensor, type OrtSession } from './ort.ts'

const datatypeOf: Readonly<Record<string, Datatype>> = {
  bool: 'BOOL',
  uint8: 'UINT8',
  uint16: 'UINT16',
  uint32: 'UINT32',
  uint64: 'UINT64',
  int8: 'INT8',
  int16: 'INT16',
  int32: 'INT32',
  int64: 'INT64',
  float16: 'FP16',
  float32: 'FP32',
  float64: 'FP64',
  string: 'BYTES',
}
const typeOf = Object.fromEntries(Object.entries(datatypeOf).map(([type, datatype]) => [datatype, type]))

/** A batch's tensors as ONNX Runtime takes them, by name. */
interface Binding {
  readonly slot: SlotMemory
  readonly feeds: Readonly<Record<string, OrtTensor>>
  readonly fetches: Readonly<Record<string, OrtTensor | null>>
}

export class Session {
  readonly graph: Graph
  readonly device: Device
  readonly #session: OrtSession
  /** Where there is a device that may be lost, the first run that went well is kept. */
  readonly #keepsProof: boolean
  readonly #bindings = new WeakMap<Frame, Binding>()
  #proof: { readonly frame: Frame; readonly slot: SlotMemory } | undefined

  private constructor(session: OrtSession, device: Device, mayLoseDevice: boolean) {
    this.#session = session
    this.#keepsProof = mayLoseDevice
    this.device = device
    this.graph = {
      inputs: session.inputMetadata.map((each, i) => graphPort(each, i, 'input')),
      outputs: session.outputMetadata.filter((each) => each.isTensor).map((each, i) => graphPort(each, i, 'output')),
    }
  }

  /** Throws an Error whose message says what is wrong with the file, or that no provider can be had. */
  static async load({ file, options, isRepeatable }: LoadOrder): Promise<Session> {
    const { session, device } = await openSession(file, options)
    return new Session(session, device, isRepeatable && device.provider !== 'cpu')
  }

  /**
   * Runs the batch in a slot, in as many calls as its rows need. Outputs of known size are written in place; the others
   * are returned, and then one call has to do, because pieces of unknown size could not be put together in place.
   */
  async run(frame: Frame, slot: SlotMemory): Promise<Mailed[]> {
    const mailed = await this.#run(frame, slot)
    if (this.#keepsProof) this.#proof ??= { frame, slot: slot.slice(0, endOf(frame)) }
    return mailed
  }

  /** After a run that failed. Throws if what once went well fails too: then the device is lost, and the session with it. */
  async checkDevice(): Promise<void> {
    if (!this.#proof) return
    try {
      await this.#run(this.#proof.frame, this.#proof.slot)
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error)
      throw new Error(`provider ${this.device.provider} has lost its device: ${why}`, { cause: error })
    }
  }

  async #run(frame: Frame, slot: SlotMemory): Promise<Mailed[]> {
    const whole = frame.runRows === 0 || frame.rows <= frame.runRows
    const inPieces = !whole && frame.inputs.every(isNumeric) && frame.outputs.every(({ offset }) => offset >= 0)
    if (!inPieces) return this.#call(frame, slot)
    for (let row = 0; row < frame.rows; row += frame.runRows) {
      await this.#call(pieceOf(frame, row, Math.min(frame.runRows, frame.rows - row)), slot)
    }
    return []
  }

  async #call(frame: Frame, slot: SlotMemory): Promise<Mailed[]> {
    const { outputs } = this.graph
    const { feeds, fetches } = this.#bindingOf(frame, slot)
    const results = await this.#session.run(feeds, fetches)
    return frame.outputs.flatMap(({ port, offset }, output) => {
      if (offset >= 0) return []
      const { dims, data } = results[outputs[port]!.name]!
      return [{ output, shape: dims, data: dataOf(data) }]
    })
  }

  /** Tensors that lie in a slot need not be made again for another batch of the same frame. */
  #bindingOf(frame: Frame, slot: SlotMemory): Binding {
    const known = this.#bindings.get(frame)
    if (known?.slot === slot) return known
    const { inputs, outputs } = this.graph
    const feeds: Record<string, OrtTensor> = {}
    const fetches: Record<string, OrtTensor | null> = {}
    for (const placed of frame.inputs) feeds[inputs[placed.port]!.name] = tensorAt(slot, placed)
    for (const placed of frame.outputs) {
      fetches[outputs[placed.port]!.name] = placed.offset < 0 ? null : tensorAt(slot, placed)
    }
    const binding = { slot, feeds, fetches }
    // Strings are copied out of the slot.
    if (frame.inputs.every(isNumeric)) this.#bindings.set(frame, binding)
    return binding
  }

  async release(): Promise<void> {
    await this.#session.release()
  }
}

/** Where its last tensor ends. */
function endOf({ inputs, outputs }: Frame): number {
  return Math.max(...[...inputs, ...outputs].map(({ offset, bytes }) => offset + bytes))
}

function isNumeric({ datatype }: Placed): boolean {
  return datatype !== 'BYTES'
}

/** Some rows of a batch, where they lie. */
function pieceOf(frame: Frame, row: number, rows: number): Frame {
  const cut = (placed: Placed): Placed => {
    const perRow = placed.bytes / frame.rows
    const shape = [rows, ...placed.shape.slice(1)]
    return { ...placed, shape, offset: placed.offset + row * perRow, bytes: rows * perRow }
  }
  return { ...frame, rows, inputs: frame.inputs.map(cut), outputs: frame.outputs.map(cut) }
}

interface Metadata {
  readonly name: string
  readonly isTensor: boolean
  readonly type?: string
  readonly shape?: readonly Dim[]
}

function graphPort({ name, isTensor, type, shape }: Metadata, index: number, role: string): GraphPort {
  if (!isTensor) throw new Error(`${role} "${name}" is not a tensor (a sequence or a map), which cannot be served`)
  const datatype = datatypeOf[type!]
  if (!datatype) throw new Error(`${role} "${name}" has type ${type}, which the protocol cannot carry`)
  return { index, name, datatype, shape: shape! }
}

function tensorAt(slot: SlotMemory, { datatype, shape, offset, bytes }: Placed): OrtTensor {
  if (datatype === 'BYTES') return new OrtTensor('string', readStrings(slot, offset, bytes, elementCount(shape)), shape)
  const { array, bytes: width } = numerics[datatype]
  const data = new array(slot, offset, bytes / width)
  return new OrtTensor(typeOf[datatype] as 'float32', data as Float32Array, shape)
}

const utf8 = new TextDecoder('utf-8', { ignoreBOM: true })
const toUtf8 = new TextEncoder()

function readStrings(slot: SlotMemory, offset: number, length: number, count: number): string[] {
  const offsets = new Uint32Array(slot, offset, count + 1).slice()
  const head = offsets.byteLength
  const bytes = new Uint8Array(slot, offset + head, length - head).slice()
  const strings = { offsets, bytes }
  return Array.from({ length: count }, (_, i) => utf8.decode(stringAt(strings, i)))
}

function dataOf(data: OrtTensor['data']): TensorData {
  if (Array.isArray(data)) return joinStrings(data.map((element) => toUtf8.encode(element)))
  return data
}
