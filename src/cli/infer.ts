/** `penstock infer`: sends a request file to a running gateway and shows the answer. */
import { readFile } from 'node:fs/promises'
import { getCACertificates, setDefaultCACertificates } from 'node:tls'
import { failWith } from './report.ts'

export interface InferOptions {
  readonly input: string
  readonly url: string
  readonly modelVersion?: string
  readonly ca?: string
}

export async function infer(model: string, { input, url, modelVersion, ca }: InferOptions): Promise<void> {
  if (ca !== undefined) await trust(ca)
  const body = await readFile(input).catch((error: NodeJS.ErrnoException) => {
    return failWith(error.code === 'ENOENT' ? `${input}: no such file` : `${input}: cannot be read (${error.code})`)
  })
  const version = modelVersion === undefined ? '' : `/versions/${encodeURIComponent(modelVersion)}`
  const target = `${url.replace(/\/$/, '')}/v2/models/${encodeURIComponent(model)}${version}/infer`
  const headers = { 'content-type': 'application/json' }
  const response = await fetch(target, { method: 'POST', headers, body }).catch((error: unknown) => {
    const cause =
      error instanceof Error ? ((error.cause as NodeJS.ErrnoException | undefined)?.code ?? error.message) : ''
    if (/CERT|SIGNATURE|ISSUER/.test(cause)) {
      return failWith(`the certificate of ${url} is not trusted here (${cause}): name who signed it with --ca`)
    }
    return failWith(`no answer from ${url} (${cause}): is a gateway running there? \`npm start\` starts one`)
  })
  const text = await response.text()
  if (response.ok) process.stdout.write(`${text}\n`)
  else failWith(`${response.status}: ${errorOf(text)}`)
}

async function trust(file: string): Promise<void> {
  const pem = await readFile(file, 'utf8').catch(({ code }: NodeJS.ErrnoException) => {
    return failWith(code === 'ENOENT' ? `${file}: no such file` : `${file}: cannot be read (${code})`)
  })
  setDefaultCACertificates([...getCACertificates('default'), pem])
}

function errorOf(text: string): string {
  try {
    return String((JSON.parse(text) as { error?: unknown }).error)
  } catch {
    return text.slice(0, 200)
  }
}
