/**
 * The store: a folder of models. A version is a folder with one ONNX file, `NAME/VERSION/`, and whatever belongs to it.
 * A file dropped in without ceremony, `NAME.onnx` or `NAME/anything.onnx`, is version 1 of a model of that name.
 */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { basename, dirname, join, relative } from 'node:path'
import type { Mistake } from '../core/document.ts'
import { noManifest, readManifest, type Manifest } from './manifest.ts'

/** An immutable bundle as it lies in the store. */
export interface Bundle {
  readonly model: string
  readonly version: string
  /** The graph. */
  readonly file: string
  /** Over every file of the version, so that two bundles with equal digests are the same to the last byte. */
  readonly digest: string
  readonly manifest: Manifest
  /** Ready requests with real rows, if the version has any: files in its folder `samples`. */
  readonly samples: readonly string[]
}

interface Place {
  readonly model: string
  readonly version: string
  /** Undefined where the graph lies alone in the store. */
  readonly folder: string | undefined
  readonly graphs: readonly string[]
}

const allowedName = /^[A-Za-z0-9][A-Za-z0-9._-]*$/

/** Everything in the store, by model name and then from the oldest version to the newest. */
export async function scanStore(path: string): Promise<{ bundles: Bundle[]; mistakes: Mistake[] }> {
  const exists = await stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  )
  if (!exists)
    return { bundles: [], mistakes: [{ file: path, message: 'no such folder: set `store.path` to one with models' }] }
  const places = (await Promise.all((await visible(path)).map((entry) => placesOf(path, entry)))).flat()
  const read = await Promise.all(places.map(readBundle))
  const bundles = read.flatMap(({ bundle }) => bundle ?? [])
  const mistakes = read.flatMap((each) => each.mistakes)
  if (bundles.length + mistakes.length === 0) mistakes.push({ file: path, message: 'holds no ONNX file' })
  return { bundles: bundles.toSorted(byNameThenVersion), mistakes }
}

async function visible(folder: string) {
  const entries = await readdir(folder, { withFileTypes: true })
  return entries.filter(({ name }) => !name.startsWith('.'))
}

async function placesOf(store: string, entry: { name: string; isDirectory(): boolean }): Promise<Place[]> {
  const path = join(store, entry.name)
  if (!(await isFolder(path))) {
    if (!isGraph(entry.name)) return []
    return [{ model: basename(entry.name, '.onnx'), version: '1', folder: undefined, graphs: [path] }]
  }
  const children = await visible(path)
  const loose = children.filter(({ name }) => isGraph(name)).map(({ name }) => join(path, name))
  const places: Place[] = loose.length > 0 ? [{ model: entry.name, version: '1', folder: path, graphs: loose }] : []
  for (const { name } of children) {
    const folder = join(path, name)
    if (!(await isFolder(folder))) continue
    const graphs = (await visible(folder))
      .filter((child) => isGraph(child.name))
      .map((child) => join(folder, child.name))
    if (graphs.length > 0) places.push({ model: entry.name, version: name, folder, graphs })
  }
  return places
}

async function isFolder(path: string): Promise<boolean> {
  // Not the directory entry's own word: a mounted volume is often a tree of symbolic links.
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  )
}

function isGraph(name: string): boolean {
  return name.endsWith('.onnx')
}

async function readBundle(place: Place): Promise<{ bundle?: Bundle; mistakes: Mistake[] }> {
  const { model, version, folder, graphs } = place
  const file = graphs[0]!
  const mistakes: Mistake[] = []
  if (graphs.length > 1) mistakes.push({ file: folder!, message: `holds ${graphs.length} ONNX files: keep one` })
  for (const name of [model, version]) {
    if (!allowedName.test(name))
      mistakes.push({ file, message: `"${name}" cannot be a name: use letters, digits, . _ -` })
  }
  const manifestFile = folder && join(folder, 'manifest.yaml')
  const hasManifest =
    manifestFile !== undefined &&
    (await stat(manifestFile).then(
      () => true,
      () => false,
    ))
  const manifest = hasManifest ? await readManifest(manifestFile) : { value: noManifest }
  if ('mistakes' in manifest) mistakes.push(...manifest.mistakes)
  if (mistakes.length > 0 || 'mistakes' in manifest) return { mistakes }
  const files = folder ? await filesBelow(folder) : graphs
  const digest = await digestOf(folder ?? file, files)
  const samples = files
    .filter((each) => folder && dirname(each) === join(folder, 'samples') && each.endsWith('.json'))
    .toSorted()
  return { bundle: { model, version, file, digest, manifest: manifest.value, samples }, mistakes }
}

async function filesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name))
}

/** SHA-256 over the sorted list of names and their SHA-256, like a checksum file. */
async function digestOf(root: string, files: readonly string[]): Promise<string> {
  const whole = createHash('sha256')
  for (const file of files.toSorted()) {
    const own = createHash('sha256')
    for await (const chunk of createReadStream(file)) own.update(chunk as Buffer)
    whole.update(`${own.digest('hex')}  ${relative(root, file)}\n`)
  }
  return `sha256:${whole.digest('hex')}`
}

const naturally = new Intl.Collator('en', { numeric: true })

/** Version 10 comes after version 9. */
export function compareVersions(a: string, b: string): number {
  return naturally.compare(a, b) || (a < b ? -1 : Number(a > b))
}

function byNameThenVersion(a: Bundle, b: Bundle): number {
  return naturally.compare(a.model, b.model) || compareVersions(a.version, b.version)
}
