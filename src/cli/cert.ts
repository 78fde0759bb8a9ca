/** `penstock cert`: certificates for development, signed by an authority of one's own. */
import { createHash, X509Certificate } from 'node:crypto'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { systemClock } from '../core/clock.ts'
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

export async function cert(names: readonly string[], { out, client }: CertOptions): Promise<void> {
  await mkdir(out, { recursive: true })
  const by = (await readAuthority(out)) ?? (await makeAuthority(out))
  const file = client ?? 'server'
  if (!/^[\w.-]+$/.test(file)) failWith(`"${file}" cannot be a file: use letters, digits, . _ -`)
  const certFile = join(out, `${file}.pem`)
  await refuseOthers(certFile, by)
  const own = client === undefined ? (names.length > 0 ? names : usualNames) : names
  const subject = client ?? own[0]!
  const as = client === undefined ? 'server' : 'client'
  const { cert: pem, key } = issue({ subject, days: leafDays, issued: { by, as, names: own } }, systemClock.epoch())
  await write(certFile, pem, keyFileOf(certFile), key)
  process.stdout.write(client === undefined ? serverAdvice(certFile, own) : clientAdvice(certFile))
}

function keyFileOf(certFile: string): string {
  return certFile.replace(/\.pem$/, '-key.pem')
}

async function write(certFile: string, pem: string, keyFile: string, key: string): Promise<void> {
  await writeFile(keyFile, key, { mode: 0o600 })
  await writeFile(certFile, pem)
}

async function makeAuthority(out: string): Promise<Issued> {
  const made = issue({ subject: authorityName, days: authorityDays }, systemClock.epoch())
  const file = join(out, 'ca.pem')
  await write(file, made.cert, keyFileOf(file), made.key)
  return made
}

/** The authority that an earlier call made, so that whoever trusts it goes on doing so. */
async function readAuthority(out: string): Promise<Issued | undefined> {
  const file = join(out, 'ca.pem')
  const [pem, key] = await Promise.all(
    [file, keyFileOf(file)].map((each) => readFile(each, 'utf8').catch(() => undefined)),
  )
  if (pem === undefined || key === undefined) return undefined
  const { publicKey, subject } = new X509Certificate(pem)
  const keyId = createHash('sha1')
    .update(publicKey.export({ type: 'spki', format: 'der' }))
    .digest()
  return { cert: pem, key, subject: subject.replace(/^CN=/, ''), keyId }
}

/** What somebody else has issued is not to be overwritten. */
async function refuseOthers(file: string, { cert: authority }: Issued): Promise<void> {
  const pem = await readFile(file, 'utf8').catch(() => undefined)
  if (pem === undefined) return
  if (new X509Certificate(pem).checkIssued(new X509Certificate(authority))) return
  failWith(`${file} is there already, and no certificate of this authority: choose another folder with --out`)
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
  curl --cacert ${authority} https://${names[0]}:8080/v2
`
}

function clientAdvice(certFile: string): string {
  const authority = join(dirname(certFile), 'ca.pem')
  return `${certFile} is for a client and holds for ${leafDays} days.

To let in only clients with such a certificate, in config/penstock.yaml under \`edge.tls\`:
    clientCa: ${relative('config', authority)}

Then:
  curl --cacert ${authority} --cert ${certFile} --key ${keyFileOf(certFile)} https://localhost:8080/v2
`
}
