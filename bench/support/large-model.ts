/** A model of some 30 MB that costs little to run: its row is multiplied by one large matrix. */
import { onnx, onnxTypes } from '../../test/support/onnx.ts'
import { seeded } from '../../test/support/draw.ts'

export const largeWidth = 2_784
/** Of the file. */
export const largeMb = (4 * largeWidth ** 2) / 1e6

export function largeModel(): Buffer {
  const model = onnx({
    inputs: [{ name: 'x', type: 'FP32', shape: ['n', largeWidth] }],
    outputs: [{ name: 'y', type: 'FP32', shape: ['n', largeWidth] }],
    nodes: [{ op: 'MatMul', inputs: ['x', 'matrix'], outputs: ['y'] }],
  })
  // A protobuf may hold a message in pieces: whoever reads it puts them together.
  return Buffer.concat([model, message(7, message(5, matrix()))])
}

/** A TensorProto, whose elements lie as they are in `raw_data`. */
function matrix(): Buffer {
  const draw = seeded(1)
  const data = Float32Array.from({ length: largeWidth ** 2 }, () => draw() - 0.5)
  return Buffer.concat([
    ...[largeWidth, largeWidth].map((dim) => Buffer.from([1 << 3, ...varint(dim)])),
    Buffer.from([2 << 3, onnxTypes.FP32]),
    message(8, Buffer.from('matrix')),
    message(9, Buffer.from(data.buffer)),
  ])
}

function message(field: number, bytes: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from([(field << 3) | 2, ...varint(bytes.byteLength)]), bytes])
}

function varint(value: number): number[] {
  return value < 128 ? [value] : [(value & 127) | 128, ...varint(value >>> 7)]
}
