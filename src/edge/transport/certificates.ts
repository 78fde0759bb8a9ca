/** The certificates of the listener, and whose certificates it takes from clients, out of their files. */
import { createPrivateKey, X509Certificate, type KeyObject } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import type { TlsOptions } from '../options.ts'
import { RevocationLists } from './revocation.ts'

/** What is wrong with a file. */
export interface FileProblem {
  readonly file: string
  readonly message: string
}

export interface Certificate {
  readonly file: string
  readonly leaf: X509Certificate
  /** PEM, as it was read. */
  readonly cert: string
  readonly key: string
}

/** Whose certificates are taken from clients. Texts are PEM, one block each. */
export interface ClientAuthorities {
  readonly pems: readonly string[]
  readonly certificates: readonly X509Certificate[]
  readonly revoked: Revoked | undefined
}

interface Revoked {
  readonly file: string
  readonly text: string
  readonly pems: readonly string[]
  readonly lists: RevocationLists
}

/** Everything that was in the files. */
export interface Credentials {
  readonly certificates: readonly Certificate[]
  readonly clients: ClientAuthorities | undefined
}

type Files = Pick<TlsOptions, 'certificates' | 'clientCa' | 'crl'>

/** Reads and checks them all; returns the first thing that is wrong. `before` spares reading lists again. */
export async function readCredentials(files: Files, before?: Credentials): Promise<Credentials | FileProblem> {
  const certificates: Certificate[] = []
  for (const { cert, key } of files.certificates) {
    const certificate = await readCertificate(cert, key)
    if ('message' in certificate) return certificate
    certificates.push(certificate)
  }
  if (files.clientCa === undefined) return { certificates, clients: undefined }
  const authorities = await readAuthorities(files.clientCa)
  if ('message' in authorities) return authorities
  const revoked = files.crl === undefined ? undefined : await readRevoked(files.crl, before?.clients?.revoked)
  if (revoked && 'message' in revoked) return revoked
  return { certificates, clients: { ...authorities, revoked } }
}

async function readAuthorities(file: string): Promise<Omit<ClientAuthorities, 'revoked'> | FileProblem> {
  const text = await readText(file)
  if (typeof text !== 'string') return text
  const pems = blocksIn(text, 'CERTIFICATE')
  const certificates = pems.flatMap((pem) => parsed(pem) ?? [])
  const isGood = pems.length > 0 && certificates.length === pems.length
  return isGood ? { pems, certificates } : { file, message: noCertificate }
}

const mostListBytes = 16_777_216

async function readRevoked(file: string, before: Revoked | undefined): Promise<Revoked | FileProblem> {
  const text = await readText(file, mostListBytes)
  if (typeof text !== 'string') return text
  // The same object, as long as the file is the same: to read one takes up to a tenth of a second.
  if (text === before?.text) return before
  const pems = blocksIn(text, 'X509 CRL')
  if (pems.length === 0) return { file, message: 'holds no revocation list in PEM form (-----BEGIN X509 CRL-----)' }
  const lists = RevocationLists.read(pems.map((pem) => Buffer.from(pem.replace(/-----.*-----/g, ''), 'base64')))
  return typeof lists === 'string' ? { file, message: lists } : { file, text, pems, lists }
}

/** What stands between each pair of such lines, with them. One without its end is there too, and good for nothing. */
function blocksIn(text: string, label: string): string[] {
  const [begin, end] = [`-----BEGIN ${label}-----`, `-----END ${label}-----`]
  const [, ...blocks] = text.split(begin)
  return blocks.map((block) => (block.includes(end) ? begin + block.slice(0, block.indexOf(end) + end.length) : begin))
}

const noCertificate = 'holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)'

async function readCertificate(certFile: string, keyFile: string): Promise<Certificate | FileProblem> {
  const cert = await readText(certFile)
  if (typeof cert !== 'string') return cert
  const key = await readText(keyFile)
  if (typeof key !== 'string') return key
  const leaf = parsed(cert)
  if (!leaf) return { file: certFile, message: noCertificate }
  const privateKey = parsedKey(key)
  if (!privateKey) return { file: keyFile, message: 'holds no private key in PEM form without a passphrase' }
  if (!leaf.checkPrivateKey(privateKey)) {
    return { file: keyFile, message: `is not the key of the certificate in ${certFile}` }
  }
  return { file: certFile, leaf, cert, key }
}

async function readText(file: string, mostBytes = Infinity): Promise<string | FileProblem> {
  const text = await readFile(file, 'utf8').catch(({ code }: NodeJS.ErrnoException) => {
    return { file, message: code === 'ENOENT' ? 'no such file' : `cannot be read (${code})` }
  })
  if (typeof text !== 'string' || text.length <= mostBytes) return text
  return { file, message: `is larger than ${mostBytes} bytes` }
}

/** The first certificate in a text; undefined if there is none that can be read. */
export function parsed(pem: string): X509Certificate | undefined {
  try {
    return new X509Certificate(pem)
  } catch {
    return undefined
  }
}

/** The private key in a text; undefined if there is none that can be read without a passphrase. */
export function parsedKey(pem: string): KeyObject | undefined {
  try {
    return createPrivateKey(pem)
  } catch {
    return undefined
  }
}
