/** `penstock token`: a token for development, minted by a running gateway whose issuer keeps its key in memory. */
import { request } from 'undici'
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
  const { status, text } = await post(`${admin.replace(/\/$/, '')}/admin/tokens`, { ...wish, scopes, lifetimeS })
  const answer = parse(text)
  if (status !== 200 || answer.token === undefined) failWith(`${status}: ${answer.error ?? text.slice(0, 200)}`)
  process.stdout.write(`${answer.token}\n`)
}

async function post(url: string, body: unknown): Promise<{ readonly status: number; readonly text: string }> {
  if (!/^https?:$/.test(URL.parse(url)?.protocol ?? '')) failWith(`--admin ${url}: this is no URL of http or https`)
  try {
    const headers = { 'content-type': 'application/json' }
    const answer = await request(url, { method: 'POST', headers, body: JSON.stringify(body) })
    return { status: answer.statusCode, text: await answer.body.text() }
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    failWith(`no answer from ${url} (${code ?? message}): is a gateway running there? \`npm start\` starts one`)
  }
}

function parse(text: string): { readonly token?: string; readonly error?: string } {
  try {
    return JSON.parse(text) as { token?: string }
  } catch {
    return {}
  }
}
