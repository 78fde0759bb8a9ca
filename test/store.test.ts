/** What may lie in a store, what is said of what may not, and how versions come to share one contract. */
import assert from 'node:assert/strict'
import { cp, mkdir, rename, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { suite, test, type TestContext } from 'node:test'
import { scanStore, type Bundle } from '../src/models/store.ts'
import { folderWith, repository, startGateway, tensor } from './support/gateway.ts'
import { identity, onnx } from './support/onnx.ts'
import { penstock } from './support/process.ts'

const pair = identity('FP32', ['n', 2])
const manifest = 'summary: s\nowner: o\nlicence: l\n'

/** Runs a command over a store of these files; returns the lines that say why it ended with exit code 1. */
async function complaints(
  t: TestContext,
  store: Record<string, string | Buffer>,
  command = 'serve',
): Promise<string[]> {
  const files = Object.entries(store).map(([name, content]) => [join('store', name), content])
  const settings = 'auth: none\nedge: { port: 0 }\nadmin: { port: 0 }\nstore: { path: store }\n'
  const folder = await folderWith({ 'penstock.yaml': settings, ...Object.fromEntries(files) })
  const started = penstock(t, [command, 'penstock.yaml'], folder)
  await assert.rejects(started.said(/^penstock serves/), 'it serves what it should refuse')
  const { code, stdout, stderr } = await started.finished
  assert.deepEqual({ code, stdout }, { code: 1, stdout: '' }, stderr)
  assert.doesNotMatch(stderr, /^ {4}at /m, 'no stack trace')
  const [heading, ...lines] = stderr.trimEnd().split('\n')
  assert.match(heading!, /^penstock: /)
  return lines.map((line) => line.trim())
}

async function scan(path: string): Promise<Bundle[]> {
  const { bundles, mistakes } = await scanStore(path)
  assert.deepEqual(mistakes, [])
  return bundles
}

test('a model is a file, a folder with a file, or folders of versions; the newest answers', async (t) => {
  const gateway = await startGateway(t, {
    store: {
      'loose.onnx': pair,
      'folder/any-name.onnx': pair,
      'many/1/a.onnx': pair,
      'many/9/b.onnx': pair,
      'many/9/manifest.yaml': manifest,
      'many/10/c.onnx': pair,
      'many/notes/read.me': 'not a version',
      'read.me': 'not a model',
      'nothing/data.csv': 'not a model either',
      '.hidden.onnx': 'x',
      '.git/1/x.onnx': 'x',
      'many/.tmp/x.onnx': 'x',
      'many/10/.c.onnx': 'x',
    },
  })
  assert.deepEqual((await gateway.get('/v2/models')).json, { models: ['folder', 'loose', 'many'] })
  assert.deepEqual((await gateway.get('/v2/models/loose')).json.versions, ['1'])
  assert.deepEqual((await gateway.get('/v2/models/folder')).json.versions, ['1'])
  assert.deepEqual((await gateway.get('/v2/models/many')).json.versions, ['1', '9', '10'])
  const { json } = await gateway.infer('many', { inputs: [tensor('x', 'FP32', [1, 2], [1, 2])] })
  assert.equal(json.model_version, '10')
  assert.deepEqual(json.outputs[0].data, [1, 2])
})

test('a store may be a tree of symbolic links, as Kubernetes mounts it', async (t) => {
  const plain = await folderWith({ 'm/1/m.onnx': pair, 'm/1/manifest.yaml': manifest, 'm/1/samples/a.json': '{}' })
  // A volume: every entry leads through ..data to a folder with the time of the mount in its name.
  const volume = await folderWith()
  await cp(plain, join(volume, '..2026_08_22_10_00'), { recursive: true })
  await symlink('..2026_08_22_10_00', join(volume, '..data'))
  await symlink('..data/m', join(volume, 'm'))
  const [expected] = await scan(plain)
  const [mounted] = await scan(volume)
  assert.deepEqual([mounted!.model, mounted!.version, mounted!.digest], ['m', '1', expected!.digest])
  assert.deepEqual(mounted!.samples, [join(volume, 'm/1/samples/a.json')])
  const gateway = await startGateway(t, { store: volume })
  assert.equal((await gateway.infer('m', { inputs: [tensor('x', 'FP32', [1, 2], [1, 2])] })).status, 200)
})

test('a version whose files are links has the digest of what they lead to, not of when it was mounted', async () => {
  const digests: string[] = []
  for (const [mount, content] of [
    ['..2026_01', pair],
    ['..2026_02', pair],
    ['..2026_02', identity('FP32', ['n', 3])],
  ] as const) {
    const store = await folderWith({ [`m/1/${mount}/m.onnx`]: content })
    await symlink(mount, join(store, 'm/1/..data'))
    await symlink('..data/m.onnx', join(store, 'm/1/m.onnx'))
    digests.push((await scan(store))[0]!.digest)
  }
  const [plain] = await scan(await folderWith({ 'm/1/m.onnx': pair }))
  assert.deepEqual(digests.slice(0, 2), [plain!.digest, plain!.digest])
  assert.notEqual(digests[2], plain!.digest)
})

test('a digest changes with every file of its version and with nothing else', async () => {
  const files = { 'm/1/m.onnx': pair, 'm/1/manifest.yaml': manifest, 'm/1/samples/a.json': '{}' }
  const store = await folderWith({ ...files, 'm/2/m.onnx': pair, 'n.onnx': pair })
  const seen = new Set<string>()
  const digestNow = async (isNew: boolean) => {
    const [first, second] = await scan(store)
    assert.match(first!.digest, /^sha256:[0-9a-f]{64}$/)
    assert.equal(seen.has(first!.digest), !isNew)
    seen.add(first!.digest)
    return second!.digest
  }
  const other = await digestNow(true)
  for (const name of Object.keys(files)) await writeFile(join(store, name), files[name as keyof typeof files])
  await digestNow(false)
  await writeFile(join(store, 'm/1/samples/a.json'), '{ }')
  await digestNow(true)
  await writeFile(join(store, 'm/1/manifest.yaml'), manifest.replace('owner: o', 'owner: q'))
  await digestNow(true)
  await writeFile(join(store, 'm/1/m.onnx'), identity('FP32', ['n', 3]))
  await digestNow(true)
  await writeFile(join(store, 'm/1/labels.txt'), 'a')
  await digestNow(true)
  await rename(join(store, 'm/1/labels.txt'), join(store, 'm/1/label.txt'))
  assert.equal(await digestNow(true), other)
})

test('a new version leaves the digest of an older one alone, wherever that lies', async () => {
  for (const first of ['m/1/m.onnx', 'm/m.onnx']) {
    const store = await folderWith({ [first]: pair })
    const [before] = await scan(store)
    await mkdir(join(store, 'm/2'))
    await writeFile(join(store, 'm/2/m.onnx'), pair)
    const [after] = await scan(store)
    assert.deepEqual([after!.version, after!.digest], ['1', before!.digest], first)
  }
})

test('a store without models, or none at all, is refused with what to do', async (t) => {
  assert.deepEqual(await complaints(t, { 'read.me': '', 'a/b.txt': '' }), ['store: holds no ONNX file'])
  assert.deepEqual(await complaints(t, {}), ['store: no such folder: set `store.path` to one with models'])
})

test('names that no path could carry, and versions of two graphs, are refused in one line each', async (t) => {
  const store = {
    'my model.onnx': pair,
    'ok/v 1/x.onnx': pair,
    'ünï/x.onnx': pair,
    'ready/1/x.onnx': pair,
    'ok/stats/x.onnx': pair,
    'm/1/a.onnx': pair,
    'm/1/b.onnx': pair,
  }
  const lines = await complaints(t, store, 'models')
  assert.deepEqual(
    new Set(lines),
    new Set([
      'store/my model.onnx: "my model" cannot be a name: use letters, digits, . _ -',
      'store/ok/v 1/x.onnx: "v 1" cannot be a name: use letters, digits, . _ -',
      'store/ünï/x.onnx: "ünï" cannot be a name: use letters, digits, . _ -',
      'store/ready/1/x.onnx: "ready" cannot be a name: paths of the protocol end so',
      'store/ok/stats/x.onnx: "stats" cannot be a name: paths of the protocol end so',
      'store/m/1: holds 2 ONNX files: keep one',
    ]),
  )
})

test('a version that lies in two places is refused: nobody could tell which one answers', async (t) => {
  const lines = await complaints(t, { 'm.onnx': pair, 'm/1/m.onnx': pair })
  assert.equal(lines.length, 1)
  assert.match(lines[0]!, /^store\/m.*: .*(twice|two|both|also|already)/)
})

test('a link that leads nowhere is named', async () => {
  const store = await folderWith({ 'good.onnx': pair })
  await symlink('gone.onnx', join(store, 'bad.onnx'))
  const { mistakes } = await scanStore(store)
  assert.deepEqual(
    mistakes.map(({ file }) => file),
    [join(store, 'bad.onnx')],
  )
})

test('a mistake in a manifest names the line', async (t) => {
  const text = `${manifest}license: MIT\nmetrics:\n  accuracy: good\nbatching: { rows: maybe }\n`
  const lines = await complaints(t, {
    'm/1/m.onnx': pair,
    'm/1/manifest.yaml': text,
    'n/x.onnx': pair,
    'n/manifest.yaml': 'data: { name: n, source: s, licence: l }',
  })
  assert.deepEqual(
    new Set(lines),
    new Set([
      'store/m/1/manifest.yaml:4: unknown key "license"',
      'store/m/1/manifest.yaml:6: metrics.accuracy: expected number, found "good"',
      'store/m/1/manifest.yaml:7: batching.rows: expected one of "independent"|"dependent"|"probe", found "maybe"',
      'store/n/manifest.yaml:1: data.split: is missing: expected string',
    ]),
  )
})

/** A graph that takes a sequence of tensors, of which test/support/onnx.ts knows nothing; lengths stay below 128. */
function sequenceLength(): Buffer {
  const part = (field: number, content: string | readonly number[]) => {
    const bytes = [...Buffer.from(content as string)]
    return [(field << 3) | 2, bytes.length, ...bytes]
  }
  const node = part(1, [...part(1, 'x'), ...part(2, 'y'), ...part(4, 'SequenceLength')])
  const input = part(11, [...part(1, 'x'), ...part(2, part(4, part(1, part(1, [8, 1]))))])
  const output = part(12, [...part(1, 'y'), ...part(2, part(1, [8, 7, ...part(2, [])]))])
  const graph = part(7, [...node, ...part(2, 'g'), ...input, ...output])
  return Buffer.from([8, 8, ...graph, ...part(8, [...part(1, ''), 16, 17])])
}

const vector = { type: 'FP32', shape: ['n'] } as const
const unservable: [what: string, file: Buffer, line: RegExp][] = [
  ['a file that is no model', Buffer.from('<html>not found</html>'), /not an ONNX model.*export/],
  ['half a model', pair.subarray(0, pair.length - 20), /not an ONNX model.*export/],
  ['an empty file', Buffer.alloc(0), /(empty|not an ONNX model).*export/],
  [
    'an operator that nobody knows',
    onnx({
      inputs: [{ name: 'x', ...vector }],
      outputs: [{ name: 'y', ...vector }],
      nodes: [{ op: 'Frobnicate', inputs: ['x'], outputs: ['y'] }],
    }),
    /operator.*Frobnicate/,
  ],
  ['a BF16 input', identity('BF16', ['n']), /BF16.*export it as FP16 or FP32/],
  ['a sequence for an input', sequenceLength(), /"x" is not a tensor.*sequence/],
]

suite('`penstock serve` ends with one line that names the file and says what is wrong', { concurrency: 3 }, () => {
  for (const [what, file, line] of unservable) {
    test(what, async (t) => {
      const lines = await complaints(t, { 'bad/1/model.onnx': file, 'good.onnx': pair })
      assert.equal(lines.length, 1, lines.join('\n'))
      assert.match(lines[0]!, /^store\/bad\/1\/model\.onnx: /)
      assert.match(lines[0]!, line)
      assert.doesNotMatch(lines[0]!, /onnxruntime_src|\.cc:\d/, "no place in ONNX Runtime's source")
    })
  }
})

/** Version 1 gives pixels back as FP32 and INT64; version 2 gives them doubled, under names and types of its own. */
const first = onnx({
  inputs: [{ name: 'image', type: 'UINT8', shape: ['n', 2] }],
  outputs: [
    { name: 'scores', type: 'FP32', shape: ['n', 2] },
    { name: 'label', type: 'INT64', shape: ['n', 2] },
  ],
  nodes: [
    { op: 'Cast', inputs: ['image'], outputs: ['scores'], attributes: { to: 1 } },
    { op: 'Cast', inputs: ['image'], outputs: ['label'], attributes: { to: 7 } },
  ],
})
const second = onnx({
  inputs: [{ name: 'x', type: 'FP32', shape: ['batch', 2] }],
  outputs: [
    { name: 'class', type: 'INT32', shape: ['batch', 2] },
    { name: 'p', type: 'FP32', shape: ['batch', 2] },
  ],
  nodes: [
    { op: 'Add', inputs: ['x', 'x'], outputs: ['p'] },
    { op: 'Cast', inputs: ['p'], outputs: ['class'], attributes: { to: 6 } },
  ],
})

test('a second version with other names or types is refused with the reason', async (t) => {
  const names = await complaints(t, { 'm/1/m.onnx': first, 'm/2/m.onnx': second })
  assert.equal(names.length, 1)
  assert.match(
    names[0]!,
    /^store\/m\/2\/m\.onnx: version 2 does not serve the contract of "m": it needs an input "x" .*map it under `inputs`/,
  )
  const types = await complaints(t, {
    'm/1/m.onnx': first,
    'm/2/m.onnx': second,
    'm/2/manifest.yaml': `${manifest}inputs: { image: { graph: x } }\n`,
  })
  assert.match(types[0]!, /input "image" is FP32, but the contract says UINT8/)
})

test('mapped by its manifest, a version serves the contract with its own names and types', async (t) => {
  const mapping =
    'inputs: { image: { graph: x, datatype: UINT8 } }\n' +
    'outputs: { scores: { graph: p }, label: { graph: class, datatype: INT64 } }\n'
  const store = { 'm/1/m.onnx': first, 'm/2/m.onnx': second, 'm/2/manifest.yaml': manifest + mapping }
  const gateway = await startGateway(t, { store })
  const metadata = [await gateway.get('/v2/models/m/versions/1'), await gateway.get('/v2/models/m/versions/2')]
  assert.deepEqual(metadata[1]!.json.inputs, metadata[0]!.json.inputs)
  assert.deepEqual(metadata[1]!.json.outputs, metadata[0]!.json.outputs)
  const ask = async (version: string, data: number[]) => {
    const request = { inputs: [tensor('image', 'UINT8', [data.length / 2, 2], data)] }
    return (await gateway.infer(`m/versions/${version}`, request)).json.outputs
  }
  const [one, two, more] = await Promise.all([ask('1', [0, 255]), ask('2', [0, 255]), ask('2', [1, 2, 3, 4])])
  assert.deepEqual(one, [tensor('scores', 'FP32', [1, 2], [0, 255]), tensor('label', 'INT64', [1, 2], [0, 255])])
  assert.deepEqual(two, [tensor('scores', 'FP32', [1, 2], [0, 510]), tensor('label', 'INT64', [1, 2], [0, 510])])
  assert.deepEqual(more, [
    tensor('scores', 'FP32', [2, 2], [2, 4, 6, 8]),
    tensor('label', 'INT64', [2, 2], [2, 4, 6, 8]),
  ])
})

test('`penstock models` shows digests, held-out metrics and where the file is', async (t) => {
  const { code, stdout, stderr } = await penstock(t, ['models']).finished
  assert.deepEqual([code, stderr], [0, ''])
  const bundles = await scan(join(repository, 'config/models'))
  assert.equal(bundles.length, 6)
  for (const {
    model,
    version,
    digest,
    manifest: { metrics },
  } of bundles) {
    const shown = stdout.split('\n\n').find((part) => part.startsWith(`${model} version ${version}\n`)) ?? ''
    assert.ok(shown.includes(digest), `${model} ${version}: digest`)
    assert.ok(shown.includes(`config/models/${model}/${version}/model.onnx`), `${model} ${version}: file`)
    for (const [name, value] of Object.entries(metrics))
      assert.ok(shown.includes(`${name} ${value}`), `${model}: ${name}`)
  }
})
