/** `penstock token`: a token for development, minted by a running gateway whose issuer keeps its key in memory. */
import { askAdmin } from './admin-client.ts'
import { failWith } from './report.ts'

export interface TokenOptions {
  readonly subject?: string
  readonly tenant?: string
  readonly scope?: readonly string[]
  readonly profile?: string
  readonly lifetime?: string
  readonly admin: string
}

export async function token({ admin, scope: scopes, lifetime, ...wish }: TokenOptions): Promise<void> {
  const lifetimeS = lifetime === undefined ? undefined : Number(lifetime)
  if (lifetimeS !== undefined && !Number.isInteger(lifetimeS)) failWith(`--lifetime ${lifetime}: expected seconds`)
  if (scopes?.some((each) => each.includes(','))) failWith(`--scope ${scopes.join(' ')}: separate scopes with spaces`)
  const body = { ...wish, scopes, lifetimeS }
  const { json } = await askAdmin(admin, { method: 'POST', path: '/admin/tokens', body })
  process.stdout.write(`${json.token}\n`)
}
