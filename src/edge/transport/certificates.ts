/** The certificates of the listener, and the authorities that it trusts, out of their files. */
import { createPrivateKey, X509Certificate, type KeyObject } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import type { TlsOptions } from '../options.ts'

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

/** Everything that was in the files. */
export interface Credentials {
  readonly certificates: readonly Certificate[]
  /** PEM. */
  readonly clientCa: string | undefined
}

type Files = Pick<TlsOptions, 'certificates' | 'clientCa'>

/** Reads and checks them all; returns the first thing that is wrong. */
export async function readCredentials({ certificates, clientCa }: Files): Promise<Credentials | FileProblem> {
  const read: Certificate[] = []
  for (const { cert, key } of certificates) {
    const certificate = await readCertificate(cert, key)
    if ('message' in certificate) return certificate
    read.push(certificate)
  }
  if (clientCa === undefined) return { certificates: read, clientCa }
  const text = await readText(clientCa)
  if (typeof text !== 'string') return text
  const blocks = text.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []
  const isGood = blocks.length > 0 && blocks.every((block) => parsed(block) !== undefined)
  return isGood ? { certificates: read, clientCa: text } : { file: clientCa, message: noCertificate }
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

async function readText(file: string): Promise<string | FileProblem> {
  return readFile(file, 'utf8').catch(({ code }: NodeJS.ErrnoException) => {
    return { file, message: code === 'ENOENT' ? 'no such file' : `cannot be read (${code})` }
  })
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
