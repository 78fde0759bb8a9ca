/** `penstock key`: a new API key, and the entry for the file of keys, which holds nothing but its hash. */
import { hash, randomBytes } from 'node:crypto'
import { failWith } from './report.ts'

export interface KeyOptions {
  readonly tenant?: string
  readonly scope?: readonly string[]
  readonly expires?: string
}

export function key(id: string, { tenant, scope = [], expires }: KeyOptions): void {
  if (!/^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/.test(id)) failWith(`"${id}" cannot be an id: use letters, digits, _ and -`)
  if (expires !== undefined && Number.isNaN(Date.parse(expires)))
    failWith(`--expires ${expires}: expected a time such as 2027-01-31T00:00:00Z`)
  const made = `${id}.${randomBytes(32).toString('base64url')}`
  const lines = [
    `  - id: ${JSON.stringify(id)}`,
    `    sha256: ${hash('sha256', made)}`,
    ...(tenant === undefined ? [] : [`    tenant: ${JSON.stringify(tenant)}`]),
    ...(expires === undefined ? [] : [`    expires: ${JSON.stringify(new Date(expires).toISOString())}`]),
    ...(scope.length > 0 ? [`    scopes: ${JSON.stringify(scope)}`] : []),
  ]
  process.stdout.write(`The key, which is shown this once and kept nowhere:

  ${made}

Under \`keys:\` in the file that \`auth.apiKeys.file\` names:

${lines.join('\n')}
`)
}
