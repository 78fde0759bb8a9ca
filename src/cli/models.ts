/** `penstock models`: what is in the store, without loading any of it. */
import { scanStore, type Bundle } from '../models/store.ts'
import { configOrExit, fail, fromHere } from './report.ts'

export async function models(path: string): Promise<void> {
  const { config } = await configOrExit(path)
  const { bundles, mistakes } = await scanStore(config.store.path)
  if (mistakes.length > 0) return fail(mistakes)
  for (const bundle of bundles) process.stdout.write(show(bundle))
}

function show({ model, version, digest, file, manifest }: Bundle): string {
  const { summary, owner, licence, training, metrics } = manifest
  const facts = [
    ['what', summary || 'no manifest'],
    ['made', training && `${training.framework}, ${training.method}`],
    [
      'held out',
      Object.entries(metrics)
        .map(([name, value]) => `${name} ${value}`)
        .join(', '),
    ],
    ['owner', owner && `${owner}; licence ${licence}`],
    ['file', fromHere(file)],
    ['digest', digest],
  ]
  const lines = facts.filter(([, fact]) => fact).map(([name, fact]) => `  ${name!.padEnd(9)} ${fact}\n`)
  return `${model} version ${version}\n${lines.join('')}\n`
}
