/** The models that come with Penstock answer through the gateway just as ONNX Runtime answers directly, to the bit. */
import assert from 'node:assert/strict'
import { glob, readFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { test } from 'node:test'
import { InferenceSession, Tensor } from 'onnxruntime-node'
import { readManifest, type Manifest } from '../src/models/manifest.ts'
import { post, wholeFile } from './support/client.ts'
import { ownStore, startGateway } from './support/gateway.ts'

const gateway = await startGateway(wholeFile)

type Json = { readonly name: string; readonly datatype: string; readonly shape: number[]; readonly data: number[] }

/** Elements in the types that the graphs take. */
const typed: Readonly<Record<string, (data: number[], shape: number[]) => Tensor>> = {
  float32: (data, shape) => new Tensor('float32', Float32Array.from(data), shape),
  int64: (data, shape) => new Tensor('int64', BigInt64Array.from(data.map(BigInt)), shape),
  uint8: (data, shape) => new Tensor('uint8', Uint8Array.from(data), shape),
}

/** Feeds a sample to a session under the names and datatypes of its graph. */
function feedsFor(session: InferenceSession, manifest: Manifest, inputs: readonly Json[]): Record<string, Tensor> {
  const feeds = inputs.map(({ name, data, shape }): [string, Tensor] => {
    const own = manifest.inputs[name]?.graph ?? name
    const metadata = session.inputMetadata.find((each) => each.name === own)!
    assert.ok(metadata.isTensor)
    return [own, typed[metadata.type]!(data, shape)]
  })
  return Object.fromEntries(feeds)
}

async function manifestOf(folder: string): Promise<Manifest> {
  const read = await readManifest(join(folder, 'manifest.yaml'))
  assert.ok('value' in read, JSON.stringify(read))
  return read.value
}

/** JSON's numbers in an array like the model's: floats are written in their shortest form. */
function sameType(data: readonly number[], like: Float32Array | BigInt64Array): unknown {
  return like instanceof Float32Array ? new Float32Array(data) : new BigInt64Array(data.map(BigInt))
}

test('every committed version answers its samples as ONNX Runtime does', async () => {
  const tried = new Map<string, number>()
  for await (const file of glob('*/*/model.onnx', { cwd: ownStore })) {
    const folder = join(ownStore, dirname(file))
    const [model, version] = [basename(dirname(folder)), basename(folder)]
    const session = await InferenceSession.create(join(ownStore, file), { intraOpNumThreads: 1 })
    const manifest = await manifestOf(folder)
    for await (const sample of glob('*/samples/*.json', { cwd: dirname(folder) })) {
      const request = JSON.parse(await readFile(join(dirname(folder), sample), 'utf8'))
      const direct = await session.run(feedsFor(session, manifest, request.inputs))
      const asked = { ...request, parameters: { binary_data_output: true } }
      const { status, json, binary } = await post(gateway, `${model}/versions/${version}`, JSON.stringify(asked))
      assert.equal(status, 200, `${file} ${sample}`)
      assert.deepEqual([json.model_name, json.model_version, json.id], [model, version, request.id])
      const asJson = (await gateway.infer(`${model}/versions/${version}`, request)).json
      let at = 0
      for (const [i, { name, shape, parameters }] of json.outputs.entries()) {
        const { dims, data } = direct[manifest.outputs[name]?.graph ?? name]!
        const own = data as Float32Array | BigInt64Array
        assert.deepEqual(shape, dims)
        const bytes = binary.subarray(at, (at += parameters.binary_data_size))
        assert.ok(bytes.equals(Buffer.from(own.buffer, own.byteOffset, own.byteLength)), `${file} ${sample} ${name}`)
        assert.deepEqual(sameType(asJson.outputs[i].data, own), own)
      }
      assert.equal(at, binary.byteLength)
      tried.set(`${model} ${version}`, (tried.get(`${model} ${version}`) ?? 0) + 1)
    }
  }
  const all = ['breast-cancer 1', 'breast-cancer 2', 'digits 1', 'digits 2', 'spam 1', 'spam 2']
  assert.deepEqual([...tried.keys()].toSorted(), all)
  for (const [version, count] of tried) assert.ok(count >= 4, version)
})

test('a sample gets the same answer from a busy gateway as from an idle one', async () => {
  const files = await Array.fromAsync(glob('*/*/samples/*.json', { cwd: ownStore }))
  const requests = await Promise.all(
    files.map(async (file): Promise<[string, unknown]> => {
      const [model, version] = file.split('/')
      return [`${model}/versions/${version}`, JSON.parse(await readFile(join(ownStore, file), 'utf8'))]
    }),
  )
  const idle: any[] = []
  for (const [target, request] of requests) idle.push((await gateway.infer(target, request)).json)
  const busy = await Promise.all(
    [...requests, ...requests, ...requests].map(([target, request]) => gateway.infer(target, request)),
  )
  for (const [i, { status, json }] of busy.entries()) {
    assert.equal(status, 200)
    const alone = idle[i % requests.length]
    for (const [o, { data }] of alone.outputs.entries()) {
      for (const [at, value] of data.entries()) assert.ok(Math.abs(value - json.outputs[o].data[at]) <= 1e-6)
    }
    assert.equal(json.id, alone.id)
  }
})
