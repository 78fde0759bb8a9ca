/** The certificates of the listener, ready for use: which of them is shown is chosen by the name that a client asks for. */
import { constants } from 'node:crypto'
import { createSecureContext, type SecureContext, type SecureContextOptions } from 'node:tls'
import type { TlsOptions } from '../options.ts'
import type { Certificate, ClientAuthorities, Credentials, FileProblem } from './certificates.ts'

interface Identity {
  readonly certificate: Certificate
  readonly context: SecureContext
}

/** Clients make names up, so only so many are remembered. */
const mostNames = 1_000

export class Identities {
  /** For a client that asks for no name that is known here. */
  readonly usual: SecureContextOptions
  readonly #all: readonly Identity[]
  readonly #byName = new Map<string, SecureContext>()

  private constructor(usual: SecureContextOptions, all: readonly Identity[]) {
    this.usual = usual
    this.#all = all
  }

  /** `ticketKeys` seal session tickets: 48 random bytes. Returns what OpenSSL has against a file. */
  static create({ certificates, clients }: Credentials, options: TlsOptions, ticketKeys: Buffer) {
    const all: Identity[] = []
    const common = commonOptions(options, ticketKeys, clients)
    for (const certificate of certificates) {
      const context = contextOf({ ...common, cert: certificate.cert, key: certificate.key })
      if (typeof context === 'string') return unusable(certificate.file, context)
      all.push({ certificate, context })
    }
    const { cert, key } = certificates[0]!
    return new Identities({ ...common, cert, key }, all)
  }

  get certificates(): readonly Certificate[] {
    return this.#all.map(({ certificate }) => certificate)
  }

  contextFor(name: string): SecureContext | undefined {
    const known = this.#byName.get(name)
    if (known) return known
    const found = this.#all.find(({ certificate }) => certificate.leaf.checkHost(name) !== undefined)
    if (found && this.#byName.size < mostNames) this.#byName.set(name, found.context)
    return found?.context
  }
}

function commonOptions(
  { minVersion, ciphers, ticketMs }: TlsOptions,
  ticketKeys: Buffer,
  clients: ClientAuthorities | undefined,
): SecureContextOptions {
  return {
    // Of several lists in one text Node reads the first only.
    ...(clients && { ca: [...clients.pems], ...(clients.revoked && { crl: [...clients.revoked.pems] }) }),
    minVersion: `TLSv${minVersion}`,
    ciphers,
    honorCipherOrder: true,
    // A client might show another certificate half-way, and past the gate that holds back handshakes.
    secureOptions: constants.SSL_OP_NO_RENEGOTIATION,
    ticketKeys,
    sessionTimeout: Math.ceil(ticketMs / 1_000),
  }
}

function contextOf(options: SecureContextOptions): SecureContext | string {
  try {
    return createSecureContext(options)
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}

function unusable(file: string, why: string): FileProblem {
  return { file, message: `cannot be used with \`edge.tls\` as it is: ${why}` }
}
