/** `penstock infer`: sends a request file to a running gateway and shows the answer. */
import { readFile } from 'node:fs/promises'
import { request as requestHttp, type OutgoingHttpHeaders } from 'node:http'
import { request as requestHttps, type RequestOptions } from 'node:https'
import { buffer } from 'node:stream/consumers'
import { createSecureContext, getCACertificates } from 'node:tls'
import { refusals } from '../core/refusal.ts'
import { parsed } from '../edge/transport/certificates.ts'
import { failWith } from './report.ts'

export interface InferOptions {
  readonly input: string
  readonly url: string
  readonly modelVersion?: string
  readonly tokenFile?: string
  readonly apiKeyFile?: string
  readonly apiKeyHeader: string
  readonly ca?: string
  readonly cert?: string
  readonly key?: string
}

type PostOptions = Omit<RequestOptions, 'headers'> & { readonly headers: OutgoingHttpHeaders }

interface Answer {
  readonly status: number
  readonly text: string
}

export async function infer(model: string, options: InferOptions): Promise<void> {
  const { input, url, modelVersion } = options
  const body = await read(input)
  const version = modelVersion === undefined ? '' : `/versions/${encodeURIComponent(modelVersion)}`
  const target = `${url.replace(/\/$/, '')}/v2/models/${encodeURIComponent(model)}${version}/infer`
  if (!/^https?:$/.test(URL.parse(target)?.protocol ?? '')) failWith(`--url ${url}: this is no URL of http or https`)
  const credentials = await readCredentials(options)
  const { status, text } = await post(target, body, { ...credentials, headers: await readProof(options) }).catch(
    (error: NodeJS.ErrnoException) => failWith(explain(options, error)),
  )
  if (status === 200) process.stdout.write(`${text}\n`)
  else failWith(`${status}: ${errorOf(text)}${status === unauthenticated ? tokenHint : ''}`)
}

const unauthenticated = refusals.unauthenticated.status
const tokenHint = '\n  `export PENSTOCK_TOKEN=$(npx penstock token)` gets one from a gateway with a development issuer'

async function readProof({ tokenFile, apiKeyFile, apiKeyHeader }: InferOptions): Promise<OutgoingHttpHeaders> {
  const token = tokenFile === undefined ? process.env['PENSTOCK_TOKEN'] : String(await read(tokenFile))
  const key = apiKeyFile === undefined ? undefined : String(await read(apiKeyFile))
  if (key !== undefined) return { [apiKeyHeader]: key.trim() }
  return token?.trim() ? { authorization: `Bearer ${token.trim()}` } : {}
}

function read(file: string): Promise<Buffer> {
  return readFile(file).catch(({ code }: NodeJS.ErrnoException) => {
    return failWith(code === 'ENOENT' ? `${file}: no such file` : `${file}: cannot be read (${code})`)
  })
}

async function readCredentials({ ca, cert, key }: InferOptions): Promise<RequestOptions> {
  if ((cert === undefined) !== (key === undefined)) failWith('--cert and --key belong together: name both')
  const trust = ca === undefined ? {} : { ca: [...getCACertificates('default'), await readAuthority(ca)] }
  if (cert === undefined) return trust
  const own = { cert: await read(cert), key: await read(key!) }
  try {
    createSecureContext(own)
  } catch (error) {
    failWith(`${cert} and ${key} are no certificate and its key in PEM form (${(error as NodeJS.ErrnoException).code})`)
  }
  return { ...trust, ...own }
}

async function readAuthority(file: string): Promise<string> {
  const pem = String(await read(file))
  if (!parsed(pem)) failWith(`${file}: holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)`)
  return pem
}

function post(url: string, body: Buffer, options: PostOptions): Promise<Answer> {
  const headers = { ...options.headers, 'content-type': 'application/json', 'content-length': body.length }
  const request = url.startsWith('https:') ? requestHttps : requestHttp
  return new Promise((resolve, reject) => {
    const sent = request(url, { ...options, method: 'POST', headers }, (response) => {
      buffer(response).then((bytes) => resolve({ status: response.statusCode!, text: String(bytes) }), reject)
    })
    sent.on('error', reject)
    sent.end(body)
  })
}

/** What to do about no answer, in one line. */
function explain({ url, ca, cert }: InferOptions, { code = '', message }: NodeJS.ErrnoException): string {
  const why = code || message
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') return `the certificate of ${url} is for another name: ${message}`
  if (code === 'CERT_HAS_EXPIRED') return `the certificate of ${url} has expired`
  if (/^(UNABLE_TO|SELF_SIGNED|DEPTH_ZERO|CERT_)/.test(code))
    return ca === undefined
      ? `the certificate of ${url} is not trusted here (${why}): name who signed it with --ca`
      : `the certificate of ${url} is not signed by ${ca} (${why})`
  if (/^ERR_(SSL|OSSL)/.test(code)) return `${url} and this client do not agree (${why})${clientHint(code)}`
  if (cert !== undefined && /^(ECONNRESET|EPIPE)$/.test(code))
    return `${url} ended the connection (${why}): it may not let ${cert} in`
  return `no answer from ${url} (${why}): is a gateway running there? \`npm start\` starts one`
}

function clientHint(code: string): string {
  return /CERTIFICATE|HANDSHAKE|UNKNOWN_CA/.test(code) ? ': it may want a certificate, named with --cert and --key' : ''
}

function errorOf(text: string): string {
  try {
    return String((JSON.parse(text) as { error?: unknown }).error)
  } catch {
    return text.slice(0, 200)
  }
}
