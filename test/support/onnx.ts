/**
 * Small ONNX files, written byte by byte, so that tests can have a model of any shape, datatype and temper without a
 * trainer. ONNX is a protobuf: a field is a tag, then a varint or a length and that many bytes (onnx/onnx.proto).
 */
export type Dim = number | string

/** TensorProto.DataType. */
export const onnxTypes = {
  FP32: 1,
  UINT8: 2,
  INT8: 3,
  UINT16: 4,
  INT16: 5,
  INT32: 6,
  INT64: 7,
  BYTES: 8,
  BOOL: 9,
  FP16: 10,
  FP64: 11,
  UINT32: 12,
  UINT64: 13,
  BF16: 16,
} as const
export type OnnxType = keyof typeof onnxTypes

export interface Value {
  readonly name: string
  readonly type: OnnxType
  /** Strings are symbolic dimensions; '' is one without a name. */
  readonly shape: readonly Dim[]
}

/** A graph is the body of a loop or a branch. */
export type Attribute = number | readonly number[] | Graph

export interface Node {
  readonly op: string
  readonly inputs: readonly string[]
  readonly outputs: readonly string[]
  readonly attributes?: Readonly<Record<string, Attribute>>
  readonly domain?: string
}

export interface Constant {
  readonly name: string
  readonly type: 'FP32' | 'INT64'
  readonly shape: readonly number[]
  readonly data: readonly number[]
  /** The elements are in another file instead: where it says they are. */
  readonly external?: { readonly location: string; readonly offset: number; readonly length: number }
}

export interface Graph {
  readonly inputs: readonly Value[]
  readonly outputs: readonly Value[]
  readonly nodes: readonly Node[]
  readonly constants?: readonly Constant[]
}

type Bytes = readonly number[]

/** The bytes of a model file. */
export function onnx(graph: Graph): Buffer {
  const opsets = ['', 'ai.onnx.ml'].flatMap((domain) => message(8, [...text(1, domain), ...int(2, domain ? 3 : 17)]))
  return Buffer.from([...int(1, 8), ...message(7, graphProto(graph)), ...opsets])
}

/** A model that gives back what it takes. */
export function identity(type: OnnxType, shape: readonly Dim[]): Buffer {
  return onnx({
    inputs: [{ name: 'x', type, shape }],
    outputs: [{ name: 'y', type, shape }],
    nodes: [{ op: 'Identity', inputs: ['x'], outputs: ['y'] }],
  })
}

function varint(value: number | bigint): Bytes {
  const bytes: number[] = []
  let rest = BigInt.asUintN(64, BigInt(value))
  do {
    const low = Number(rest & 127n)
    rest >>= 7n
    bytes.push(rest > 0n ? low | 128 : low)
  } while (rest > 0n)
  return bytes
}

function int(field: number, value: number | bigint): Bytes {
  return [...varint(field << 3), ...varint(value)]
}

function message(field: number, bytes: Bytes): Bytes {
  return [...varint((field << 3) | 2), ...varint(bytes.length), ...bytes]
}

function text(field: number, value: string): Bytes {
  return message(field, [...Buffer.from(value)])
}

function graphProto({ inputs, outputs, nodes, constants = [] }: Graph): Bytes {
  return [
    ...nodes.flatMap((node) => message(1, nodeProto(node))),
    ...text(2, 'test'),
    ...constants.flatMap((constant) => message(5, tensorProto(constant))),
    ...inputs.flatMap((value) => message(11, valueProto(value))),
    ...outputs.flatMap((value) => message(12, valueProto(value))),
  ]
}

function nodeProto({ op, inputs, outputs, attributes = {}, domain }: Node): Bytes {
  return [
    ...inputs.flatMap((name) => text(1, name)),
    ...outputs.flatMap((name) => text(2, name)),
    ...text(4, op),
    ...Object.entries(attributes).flatMap(([name, value]) => message(5, attributeProto(name, value))),
    ...(domain ? text(7, domain) : []),
  ]
}

/** Numbers are whole ones. AttributeType 2 is INT, 5 is GRAPH, 7 is INTS. */
function attributeProto(name: string, value: Attribute): Bytes {
  if (typeof value === 'number') return [...text(1, name), ...int(3, value), ...int(20, 2)]
  if ('nodes' in value) return [...text(1, name), ...message(6, graphProto(value)), ...int(20, 5)]
  return [...text(1, name), ...value.flatMap((each) => int(8, each)), ...int(20, 7)]
}

function tensorProto({ name, type, shape, data, external }: Constant): Bytes {
  const head = [...shape.flatMap((dim) => int(1, dim)), ...int(2, onnxTypes[type]), ...text(8, name)]
  if (external) {
    const entries = Object.entries(external).flatMap(([key, value]) =>
      message(13, [...text(1, key), ...text(2, String(value))]),
    )
    // TensorProto.DataLocation 1 is EXTERNAL.
    return [...head, ...entries, ...int(14, 1)]
  }
  const raw = type === 'FP32' ? new Float32Array(data) : new BigInt64Array(data.map(BigInt))
  return [...head, ...message(9, [...new Uint8Array(raw.buffer)])]
}

function valueProto({ name, type, shape }: Value): Bytes {
  const dims = shape.flatMap((dim) =>
    message(1, typeof dim === 'number' ? int(1, dim) : dim === '' ? [] : text(2, dim)),
  )
  const tensor = [...int(1, onnxTypes[type]), ...message(2, dims)]
  return [...text(1, name), ...message(2, message(1, tensor))]
}
