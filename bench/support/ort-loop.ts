/** ONNX Runtime with nothing around it: one session, one batch in memory, run again and again. */
import { InferenceSession, Tensor } from 'onnxruntime-node'

export type OrtOrder =
  | { readonly kind: 'load'; readonly file: string; readonly row: Uint8Array; readonly rowShape: readonly number[] }
  | { readonly kind: 'run'; readonly rows: number; readonly ms: number }

interface Loop {
  readonly session: InferenceSession
  readonly row: Uint8Array
  readonly rowShape: readonly number[]
}

let loop: Loop

process.on('message', (order) => {
  void obey(order as OrtOrder).then((rows) => process.send!({ rows }))
})

async function obey(order: OrtOrder): Promise<number> {
  if (order.kind === 'run') return run(loop, order.rows, order.ms)
  const { file, row, rowShape } = order
  loop = { session: await load(file), row, rowShape }
  return 0
}

/** The options of src/runtime/backends/onnx.ts. */
function load(file: string): Promise<InferenceSession> {
  return InferenceSession.create(file, {
    executionProviders: ['cpu'],
    graphOptimizationLevel: 'all',
    executionMode: 'sequential',
    intraOpNumThreads: 1,
    interOpNumThreads: 1,
    enableMemPattern: false,
    logSeverityLevel: 4,
    extra: { session: { intra_op: { allow_spinning: '0' }, inter_op: { allow_spinning: '0' } } },
  })
}

/** Returns how many rows were run. */
async function run({ session, row, rowShape }: Loop, rows: number, ms: number): Promise<number> {
  const [input] = session.inputMetadata
  const [output] = session.outputMetadata
  if (!input?.isTensor || !output?.isTensor || output.type !== 'float32')
    throw new Error('this loop is for models from one tensor to one float32 tensor')
  const data = new Uint8Array(rows * row.byteLength)
  for (let i = 0; i < rows; i++) data.set(row, i * row.byteLength)
  const feeds = { [input.name]: tensorOf(input.type, data, [rows, ...rowShape]) }
  const perRow = output.shape.slice(1) as number[]
  const shape = [rows, ...perRow]
  const size = shape.reduce((product, dim) => product * dim, 1)
  const fetches = { [output.name]: new Tensor('float32', new Float32Array(size), shape) }
  const endAt = performance.now() + ms
  let done = 0
  while (performance.now() < endAt) {
    await session.run(feeds, fetches)
    done += rows
  }
  return done
}

function tensorOf(type: Tensor.Type, bytes: Uint8Array<ArrayBuffer>, shape: readonly number[]): Tensor {
  if (type === 'uint8') return new Tensor(type, bytes, shape)
  if (type === 'float32') return new Tensor(type, new Float32Array(bytes.buffer), shape)
  throw new Error(`this loop has no input of ${type}`)
}
