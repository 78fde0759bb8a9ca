/** Model stores of generated models, for benches that need other models than the repository's. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface Store extends AsyncDisposable {
  readonly path: string
  fileOf(name: string): string
}

/** Version 1 of each model, whose rows are independent. */
export async function makeStore(models: Readonly<Record<string, Uint8Array>>): Promise<Store> {
  const path = await mkdtemp(join(tmpdir(), 'penstock-store-'))
  const folderOf = (name: string) => join(path, name, '1')
  const fileOf = (name: string) => join(folderOf(name), 'model.onnx')
  for (const [name, bytes] of Object.entries(models)) {
    await mkdir(folderOf(name), { recursive: true })
    await writeFile(fileOf(name), bytes)
    // JSON is YAML.
    await writeFile(join(folderOf(name), 'manifest.yaml'), JSON.stringify({ batching: { rows: 'independent' } }))
  }
  return { path, fileOf, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) }
}

/** Every model of a store, for the configuration; with what is said of some on top. */
export function served(names: readonly string[], more: Readonly<Record<string, object>> = {}): Record<string, object> {
  return Object.fromEntries(names.map((name) => [name, { version: '1', ...more[name] }]))
}
