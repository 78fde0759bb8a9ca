/**
 * The store: a folder of models. A version is a folder with one ONNX file, `NAME/VERSION/`, and whatever belongs to it.
 * A file dropped in without ceremony, `NAME.onnx` or `NAME/anything.onnx`, is version 1 of a model of that name.
 */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { Mistake } from '../core/document.ts'
import { isReserved } from '../core/reserved-words.ts'
import { noManifest, readManifest, type Manifest } from './manifest.ts'

/** An immutable bundle as it lies in the store. */
export interface Bundle {
  readonly model: string
  readonly version: string
  /** The graph. */
  readonly file: string
  /** Over every file of the version, so that two bundles with equal digests are the same to the last byte. */
  readonly digest: string
  /** Of all its files together. */
  readonly bytes: number
  /** Why it is not what it was when it was read; undefined if it is. */
  readonly verify: () => Promise<string | undefined>
  readonly manifest: Manifest
  /** Ready requests with real rows, if the version has any: files in its folder `samples`. */
  readonly samples: readonly string[]
  /** Inputs with the outputs that it must give for them before it is served: files in its folder `golden`. */
  readonly golden: readonly string[]
  /** What the file system says of its files: while it says the same, they are the same. */
  readonly stamp: string
}

/** What is wrong in a store, and with which version; without one it may be any of the model's or of the store's. */
export interface StoreMistake extends Mistake {
  readonly model?: string
  readonly version?: string
}

interface Place {
  readonly model: string
  readonly version: string
  /** Undefined where the graph lies alone in the store. */
  readonly folder: string | undefined
  readonly graphs: readonly string[]
  /** Folders in it that are versions of their own. */
  readonly others: readonly string[]
}

const allowedName = /^[A-Za-z0-9][A-Za-z0-9._-]*$/

/** What lies in a store. */
export interface Scanned {
  readonly bundles: Bundle[]
  readonly mistakes: StoreMistake[]
}

/**
 * Everything in the store, by model name and then from the oldest version to the newest. Files of bundles that are `known`
 * from an earlier look are read again only if they look touched.
 */
export async function scanStore(path: string, known: readonly Bundle[] = []): Promise<Scanned> {
  if ((await kindOf(path)) !== 'folder') {
    return { bundles: [], mistakes: [{ file: path, message: 'no such folder: set `store.path` to one with models' }] }
  }
  const before = new Map(known.map((bundle) => [bundle.file, bundle]))
  const names = await visible(path).catch(({ code }: NodeJS.ErrnoException) => ({ code }))
  if ('code' in names) return { bundles: [], mistakes: [{ file: path, message: `cannot be read (${names.code})` }] }
  const found = await Promise.all(names.map((name) => findPlaces(path, name)))
  const read = await Promise.all(found.flatMap(({ places }) => places).map((place) => readBundle(place, before)))
  const bundles = read.flatMap(({ bundle }) => bundle ?? []).toSorted(byNameThenVersion)
  const mistakes: StoreMistake[] = [...found, ...read].flatMap((each) => each.mistakes)
  mistakes.push(...twins(bundles))
  if (bundles.length + mistakes.length === 0) mistakes.push({ file: path, message: 'holds no ONNX file' })
  return { bundles, mistakes }
}

function twins(bundles: readonly Bundle[]): StoreMistake[] {
  return bundles.flatMap(({ model, version, file }, i) => {
    const next = bundles[i + 1]
    if (next?.model !== model || next.version !== version) return []
    const message = `version ${version} of "${model}" also lies in ${next.file}: keep one of the two`
    return [{ file, message, model, version }]
  })
}

async function visible(folder: string): Promise<string[]> {
  return (await readdir(folder)).filter((name) => !name.startsWith('.'))
}

/** Not the directory entry's own word: a mounted volume is often a tree of symbolic links. */
async function kindOf(path: string): Promise<'folder' | 'file' | 'nothing'> {
  return stat(path).then(
    (found) => (found.isDirectory() ? 'folder' : 'file'),
    () => 'nothing' as const,
  )
}

/** A folder may go, or be closed, while it is looked at. */
async function findPlaces(store: string, name: string): Promise<{ places: Place[]; mistakes: StoreMistake[] }> {
  try {
    return { places: await placesOf(store, name), mistakes: [] }
  } catch (error) {
    const { path = join(store, name), code } = error as NodeJS.ErrnoException
    return { places: [], mistakes: [{ file: path, message: `cannot be read (${code})`, model: name }] }
  }
}

async function placesOf(store: string, name: string): Promise<Place[]> {
  const path = join(store, name)
  if ((await kindOf(path)) !== 'folder') {
    if (!isGraph(name)) return []
    return [{ model: name.slice(0, -'.onnx'.length), version: '1', folder: undefined, graphs: [path], others: [] }]
  }
  const children = await visible(path)
  const versions: Place[] = []
  for (const version of children) {
    const folder = join(path, version)
    if ((await kindOf(folder)) !== 'folder') continue
    const graphs = graphsIn(folder, await visible(folder))
    if (graphs.length > 0) versions.push({ model: name, version, folder, graphs, others: [] })
  }
  const loose = graphsIn(path, children)
  if (loose.length === 0) return versions
  const others = versions.map(({ version }) => version)
  return [{ model: name, version: '1', folder: path, graphs: loose, others }, ...versions]
}

function graphsIn(folder: string, names: readonly string[]): string[] {
  return names.filter(isGraph).map((name) => join(folder, name))
}

function isGraph(name: string): boolean {
  return /\.onnx$/i.test(name)
}

type Known = ReadonlyMap<string, Bundle>

async function readBundle(place: Place, known: Known): Promise<{ bundle?: Bundle; mistakes: StoreMistake[] }> {
  const { model, version } = place
  const file = place.graphs[0]!
  const mistakes = badNames(place)
  let bundle: Bundle | undefined
  try {
    const manifest = await manifestOf(place)
    if ('mistakes' in manifest) mistakes.push(...manifest.mistakes)
    else if (mistakes.length === 0) bundle = await bundleOf(place, manifest.value, known.get(file))
  } catch (error) {
    const { path = file, code } = error as NodeJS.ErrnoException
    mistakes.push({ file: path, message: `cannot be read (${code}): is it a link that leads nowhere?` })
  }
  return { ...(bundle && { bundle }), mistakes: mistakes.map((mistake) => ({ ...mistake, model, version })) }
}

function badNames({ model, version, folder, graphs }: Place): Mistake[] {
  const file = graphs[0]!
  const mistakes: Mistake[] = []
  if (graphs.length > 1) mistakes.push({ file: folder!, message: `holds ${graphs.length} ONNX files: keep one` })
  for (const name of [model, version]) {
    if (isReserved(name)) mistakes.push({ file, message: `"${name}" cannot be a name: paths of the protocol end so` })
    else if (!allowedName.test(name))
      mistakes.push({ file, message: `"${name}" cannot be a name: use letters, digits, . _ -` })
  }
  return mistakes
}

async function manifestOf({ folder }: Place): Promise<{ value: Manifest } | { mistakes: Mistake[] }> {
  const file = folder && join(folder, 'manifest.yaml')
  return file !== undefined && (await kindOf(file)) === 'file' ? readManifest(file) : { value: noManifest }
}

async function bundleOf(place: Place, manifest: Manifest, before: Bundle | undefined): Promise<Bundle> {
  const { model, version, folder, others } = place
  const file = place.graphs[0]!
  const root = folder ?? dirname(file)
  const names = folder ? await filesBelow(folder, others) : [basename(file)]
  const jsonIn = (name: string) => {
    const isIn = new RegExp(`^${name}/[^/]+\\.json$`)
    return names.filter((each) => isIn.test(each)).map((each) => join(root, each))
  }
  const content = await readContent(root, names, before)
  const verify = () => compare(root, names, content)
  const files = { samples: jsonIn('samples'), golden: jsonIn('golden') }
  return { model, version, file, ...content, verify, manifest, ...files }
}

/** Names of files, from `folder`, without what begins with a dot. Links are followed; `skipped` folders are not. */
async function filesBelow(folder: string, skipped: readonly string[], depth = 0): Promise<string[]> {
  if (depth > maxDepth) return []
  const names = (await visible(folder)).filter((name) => !skipped.includes(name))
  const files = names.map(async (name) => {
    if ((await kindOf(join(folder, name))) !== 'folder') return [name]
    return (await filesBelow(join(folder, name), [], depth + 1)).map((below) => `${name}/${below}`)
  })
  return (await Promise.all(files)).flat().toSorted()
}

/** Of folders in a version. Beyond it a link probably leads in a circle. */
const maxDepth = 8

interface Content {
  /** SHA-256 over the sorted list of names and their SHA-256, like a checksum file. */
  readonly digest: string
  readonly bytes: number
  /** What the file system says of the files: while it says the same, they are the same. */
  readonly stamp: string
}

async function readContent(root: string, names: readonly string[], before?: Content): Promise<Content> {
  const stamp = await stampOf(root, names)
  if (before?.stamp === stamp) return { digest: before.digest, bytes: before.bytes, stamp }
  let bytes = 0
  const whole = createHash('sha256')
  for (const name of names) {
    const own = createHash('sha256')
    for await (const chunk of createReadStream(join(root, name)) as AsyncIterable<Buffer>) {
      own.update(chunk)
      bytes += chunk.length
    }
    whole.update(`${own.digest('hex')}  ${name}\n`)
  }
  return { digest: `sha256:${whole.digest('hex')}`, bytes, stamp }
}

async function stampOf(root: string, names: readonly string[]): Promise<string> {
  const all = names.map(async (name) => {
    const { ino, size, mtimeMs } = await stat(join(root, name))
    return `${ino} ${size} ${mtimeMs} ${name}`
  })
  return (await Promise.all(all)).join('\n')
}

/** Reads the files again only if they look touched: a volume that was mounted anew may hold the same. */
async function compare(root: string, names: readonly string[], before: Content): Promise<string | undefined> {
  try {
    if ((await stampOf(root, names)) === before.stamp) return undefined
    const { digest } = await readContent(root, names)
    return digest === before.digest
      ? undefined
      : 'its files have become others since it was first loaded: give them a new version'
  } catch (error) {
    const { path, code } = error as NodeJS.ErrnoException
    return `${path} cannot be read any more (${code})`
  }
}

const naturally = new Intl.Collator('en', { numeric: true })

/** Version 10 comes after version 9. */
export function compareVersions(a: string, b: string): number {
  return naturally.compare(a, b) || (a < b ? -1 : Number(a > b))
}

function byNameThenVersion(a: Bundle, b: Bundle): number {
  return naturally.compare(a.model, b.model) || compareVersions(a.version, b.version)
}
