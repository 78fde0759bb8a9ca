/** `penstock check`: everything that `serve` does short of listening, and what would be served. */
import { showSpec } from '../core/signature.ts'
import { createGateway } from '../gateway.ts'
import { configOrExit, fail } from './report.ts'
import { openEdge } from './serve.ts'

export async function check(path: string): Promise<void> {
  const file = await configOrExit(path)
  const created = await createGateway(file)
  if ('mistakes' in created) return fail(created.mistakes, created.isStuck)
  const { gateway } = created
  for (const { name, version, contract, versions } of gateway.models.values()) {
    process.stdout.write(`${name}\n`)
    for (const spec of contract.inputs) process.stdout.write(`  takes ${showSpec(spec)}\n`)
    for (const spec of contract.outputs) process.stdout.write(`  gives ${showSpec(spec)}\n`)
    for (const served of versions.values()) {
      const batching = served.batched ? `batches up to ${served.maxRows} rows` : 'runs requests one at a time'
      const standard = served.version === version ? ', answers requests that name no version' : ''
      const { provider, device } = served.runsOn()
      const where = `${provider}${device && ` (${device})`} in a ${served.deployment.options.worker.isolation}`
      process.stdout.write(`  version ${served.version}: ${batching} (${served.why}), on ${where}${standard}\n`)
    }
  }
  const opened = await openEdge(file.config, gateway)
  if ('message' in opened) return fail([opened])
  opened.close()
  await gateway.close()
  const { edge, metrics, admin } = file.config
  const at = ({ host, port }: { readonly host: string; readonly port: number }) => `${host}:${port}`
  process.stdout.write(`\nOK: ${path} would listen on ${at(edge)}, metrics on ${at(metrics)}, admin on ${at(admin)}\n`)
}
