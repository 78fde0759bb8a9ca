/**
 * A model that costs more than a millisecond a row on this machine, so that the worker and not the edge is what there is
 * too little of. It multiplies its row by the same matrix again and again; how often is found out by trying.
 */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { seeded } from '../../test/support/draw.ts'
import { onnx, type Constant, type Node } from '../../test/support/onnx.ts'
import { Peer } from './processes.ts'
import { binaryRequest, type HttpRequest } from './requests.ts'

const width = 512
/** The one row that is sent and tried. */
const row = new Uint8Array(new Float32Array(width).fill(1).buffer)
const rowMs = 1.25
const triedProducts = 40
const triedRows = 16
const tries = 6
const tryMs = 200

export interface HeavyModel extends AsyncDisposable {
  readonly name: string
  readonly version: string
  /** Path of the store with only this model in it. */
  readonly store: string
  readonly products: number
  /** What a row costs in batches of 16, measured without a gateway. */
  readonly rowMs: number
  /** A request of one row. */
  readonly request: HttpRequest
}

export async function makeHeavyModel(): Promise<HeavyModel> {
  const store = await mkdtemp(join(tmpdir(), 'penstock-heavy-'))
  const [name, version] = ['heavy', '1']
  const folder = join(store, name, version)
  const file = join(folder, 'model.onnx')
  await mkdir(folder, { recursive: true })
  // JSON is YAML.
  await writeFile(join(folder, 'manifest.yaml'), JSON.stringify({ batching: { rows: 'independent' } }))
  const tried = await costOf(file, triedProducts)
  const products = Math.round((triedProducts * rowMs) / tried)
  return {
    name,
    version,
    store,
    products,
    rowMs: await costOf(file, products),
    request: binaryRequest(name, { name: 'x', datatype: 'FP32', shape: [1, width], data: row }),
    [Symbol.asyncDispose]: () => rm(store, { recursive: true, force: true }),
  }
}

/** Writes the model with so many products, and returns how long it takes for a row when nothing disturbs it. */
async function costOf(file: string, products: number): Promise<number> {
  await writeFile(file, multiplied(products))
  await using loop = new Peer(new URL('ort-loop.ts', import.meta.url))
  await loop.ask({ kind: 'load', file, row, rowShape: [width] })
  let least = Infinity
  for (let i = 0; i < tries; i++) {
    const before = performance.now()
    const { rows } = await loop.ask<{ rows: number }>({ kind: 'run', rows: triedRows, ms: tryMs })
    least = Math.min(least, (performance.now() - before) / rows)
  }
  return least
}

function multiplied(products: number): Buffer {
  const nodes = Array.from({ length: products }, (_, i): Node => {
    return { op: 'MatMul', inputs: [i === 0 ? 'x' : `m${i}`, 'matrix'], outputs: [`m${i + 1}`] }
  })
  return onnx({
    inputs: [{ name: 'x', type: 'FP32', shape: ['n', width] }],
    outputs: [{ name: 'y', type: 'FP32', shape: ['n', 1] }],
    constants: [matrix()],
    nodes: [
      ...nodes,
      { op: 'ReduceMax', inputs: [`m${products}`], outputs: ['y'], attributes: { axes: [1], keepdims: 1 } },
    ],
  })
}

/** Random with a variance of 1 / width, with which the products neither grow nor fade. */
function matrix(): Constant {
  const draw = seeded(1)
  const most = Math.sqrt(3 / width)
  const data = Array.from({ length: width * width }, () => (2 * draw() - 1) * most)
  return { name: 'matrix', type: 'FP32', shape: [width, width], data }
}
