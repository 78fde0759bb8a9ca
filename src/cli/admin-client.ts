/** How commands ask the admin listener of a running gateway. */
import { request } from 'undici'
import { failWith } from './report.ts'

export interface Asked {
  readonly method: 'GET' | 'POST' | 'PATCH'
  readonly path: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: unknown
}

export interface Replied {
  readonly status: number
  readonly etag: string | undefined
  /** The body, if it is JSON. */
  readonly json: any
}

export const standardAdmin = 'http://127.0.0.1:9091'

/** Asks; what is no good answer ends the command with the reason. */
export async function askAdmin(admin: string, asked: Asked): Promise<Replied> {
  const replied = await send(admin, asked)
  if (replied.status !== 200) failWith(`${replied.status}: ${replied.json?.error ?? 'no answer that makes sense'}`)
  return replied
}

async function send(admin: string, { method, path, headers = {}, body }: Asked): Promise<Replied> {
  const url = `${admin.replace(/\/$/, '')}${path}`
  if (!/^https?:$/.test(URL.parse(url)?.protocol ?? '')) failWith(`--admin ${admin}: this is no URL of http or https`)
  try {
    const type = body === undefined ? {} : { 'content-type': 'application/json' }
    const answer = await request(url, {
      method,
      headers: { ...type, ...headers },
      body: body === undefined ? null : JSON.stringify(body),
    })
    const { etag } = answer.headers
    return {
      status: answer.statusCode,
      etag: typeof etag === 'string' ? etag : undefined,
      json: parse(await answer.body.text()),
    }
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    failWith(`no answer from ${url} (${code ?? message}): is a gateway running there? \`npm start\` starts one`)
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
