/** `penstock key`: a new API key, and the entry for the file of keys, which holds nothing but its hash. */
import { hash, randomBytes } from 'node:crypto'
import { failWith } from './report.ts'

export interface KeyOptions {
  readonly tenant?: string
  readonly scope?: readonly string[]
}

export function key(id: string, { tenant, scope = [] }: KeyOptions): void {
  if (!/^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/.test(id)) failWith(`"${id}" cannot be an id: use letters, digits, _ and -`)
  const made = `${id}.${randomBytes(32).toString('base64url')}`
  const lines = [
    `  - id: ${JSON.stringify(id)}`,
    `    sha256: ${hash('sha256', made)}`,
    ...(tenant === undefined ? [] : [`    tenant: ${JSON.stringify(tenant)}`]),
    ...(scope.length > 0 ? [`    scopes: ${JSON.stringify(scope)}`] : []),
  ]
  process.stdout.write(`The key, which is shown this once and kept nowhere:

  ${made}

Under \`keys:\` in the file that \`auth.apiKeys.file\` names:

${lines.join('\n')}
`)
}
