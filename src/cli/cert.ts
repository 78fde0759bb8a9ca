/** `penstock cert`: certificates for development, signed by an authority of one's own. */
import { createHash, X509Certificate } from 'node:crypto'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { isIPv6 } from 'node:net'
import { dirname, join, relative } from 'node:path'
import { systemClock } from '../core/clock.ts'
import { parsed, parsedKey } from '../edge/transport/certificates.ts'
import { issue, type Issued } from './certificate.ts'
import { failWith } from './report.ts'

export interface CertOptions {
  readonly out: string
  readonly client?: string
}

const authorityDays = 3_650
/** More than a year and a month no browser takes (CA/Browser Forum, until 2026). */
const leafDays = 397
const usualNames = ['localhost', '127.0.0.1', '::1']
const authorityName = 'Penstock development authority'

/** What the files of a folder are called; a client's are called after it. */
const authorityFile = 'ca'
const serverFile = 'server'

export async function cert(names: readonly string[], { out, client }: CertOptions): Promise<void> {
  const file = client ?? serverFile
  if (!/^[\w.-]+$/.test(file)) failWith(`"${file}" cannot be a file: use letters, digits, . _ -`)
  if (client === authorityFile || client === serverFile)
    failWith(`--client ${client}: ${client}.pem is a file of its own; choose another name`)
  const certFile = join(out, `${file}.pem`)
  const found = await readAuthority(join(out, `${authorityFile}.pem`))
  await refuseOthers(certFile, found)
  const by = found ?? (await makeAuthority(out))
  const own = client === undefined && names.length === 0 ? usualNames : names
  const subject = client ?? own[0]!
  const as = client === undefined ? 'server' : 'client'
  const { cert: pem, key } = issue({ subject, days: leafDays, issued: { by, as, names: own } }, systemClock.epoch())
  await write(certFile, pem, key)
  process.stdout.write(client === undefined ? serverAdvice(certFile, own) : clientAdvice(certFile, client))
}

function keyFileOf(certFile: string): string {
  return certFile.replace(/\.pem$/, '-key.pem')
}

async function write(certFile: string, pem: string, key: string): Promise<void> {
  try {
    await mkdir(dirname(certFile), { recursive: true })
    await writeFile(keyFileOf(certFile), key, { mode: 0o600 })
    await writeFile(certFile, pem)
  } catch (error) {
    const { code, path } = error as NodeJS.ErrnoException
    failWith(`${path}: cannot be written (${code})`)
  }
}

async function makeAuthority(out: string): Promise<Issued> {
  const made = issue({ subject: authorityName, days: authorityDays }, systemClock.epoch())
  await write(join(out, `${authorityFile}.pem`), made.cert, made.key)
  return made
}

/** The authority that an earlier call made, so that whoever trusts it goes on doing so; undefined if there is none. */
async function readAuthority(file: string): Promise<Issued | undefined> {
  const [pem, key] = await readPair(file)
  if (pem === undefined && key === undefined) return undefined
  if (pem === undefined || key === undefined) {
    const [there, missing] = pem === undefined ? [keyFileOf(file), file] : [file, keyFileOf(file)]
    return failWith(`${there} is there without ${missing}: ${elsewhere}`)
  }
  const certificate = parsed(pem)
  const privateKey = parsedKey(key)
  if (!certificate?.ca || !privateKey || !certificate.checkPrivateKey(privateKey))
    return failWith(`${file} is no authority of mine: ${elsewhere}`)
  const { publicKey, subject } = certificate
  const keyId = createHash('sha1')
    .update(publicKey.export({ type: 'spki', format: 'der' }))
    .digest()
  return { cert: pem, key, subject: subject.replace(/^CN=/, ''), keyId }
}

/** What somebody else has issued is not to be overwritten. */
async function refuseOthers(file: string, authority: Issued | undefined): Promise<void> {
  const [pem, key] = await readPair(file)
  if (pem === undefined && key === undefined) return
  if (pem === undefined) failWith(`${keyFileOf(file)} is there without ${file}: ${elsewhere}`)
  const isMine = authority && parsed(pem)?.checkIssued(new X509Certificate(authority.cert))
  if (!isMine) failWith(`${file} is there already, and no certificate of this authority: ${elsewhere}`)
}

const elsewhere = 'move it away, or choose another folder with --out'

/** A certificate and its key, as far as they are there. */
function readPair(file: string): Promise<(string | undefined)[]> {
  return Promise.all([file, keyFileOf(file)].map((each) => readFile(each, 'utf8').catch(() => undefined)))
}

function serverAdvice(certFile: string, names: readonly string[]): string {
  // Files are named from the configuration's own folder.
  const [shownCert, shownKey] = [certFile, keyFileOf(certFile)].map((file) => relative('config', file))
  const authority = join(dirname(certFile), 'ca.pem')
  return `${certFile} is for ${names.join(', ')} and holds for ${leafDays} days.
Clients must trust ${authority}, which signed it.

In config/penstock.yaml:

edge:
  tls:
    certificates:
      - cert: ${shownCert}
        key: ${shownKey}

Then:
  curl --cacert ${authority} ${urlOf(names)}
`
}

/** Of a gateway that stands for these names, as curl takes it. */
function urlOf(names: readonly string[]): string {
  const name = names.find((each) => !each.includes('*')) ?? names[0]!.replace('*', 'any')
  return isIPv6(name) ? `'https://[${name}]:8080/v2'` : `https://${name}:8080/v2`
}

function clientAdvice(certFile: string, client: string): string {
  const authority = join(dirname(certFile), 'ca.pem')
  return `${certFile} is for the client ${client} and holds for ${leafDays} days.

To let in only clients with such a certificate, in config/penstock.yaml under \`edge.tls\`:
    clientCa: ${relative('config', authority)}

To take it as an identity too, under \`auth\`:
    mtls:
      subjects:
        - { commonName: ${client}, scopes: [models] }

Then:
  curl --cacert ${authority} --cert ${certFile} --key ${keyFileOf(certFile)} https://localhost:8080/v2
`
}
