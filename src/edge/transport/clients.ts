/**
 * Who gets in by a certificate, and who may stay. Handshakes are OpenSSL's to judge; what it does not look at again is
 * looked at here: sessions that are resumed, handshakes that began before the authorities changed, and connections that are
 * open. Those whose certificate is good no more take no new request and end when what is in flight is answered.
 */
import type { TLSSocket } from 'node:tls'
import { LRUCache } from 'lru-cache'
import type { Clock } from '../../core/clock.ts'
import type { CertificateFlaw, EdgeCounts } from '../../telemetry/edge-counts.ts'
import { ShownCertificate, type ClientTrust, type Standing } from './client-trust.ts'
import type { Connection } from './connections.ts'

/** A session that is resumed brings no more than the client's own certificate, so what came with it is remembered. */
const mostKnown = 1_024
/** To judge a certificate takes about as long as to answer a few requests. */
const sliceMs = 2

export class Clients {
  /** By whom certificates are judged. Look after a change. */
  trust: ClientTrust
  readonly #isRequired: boolean
  readonly #clock: Clock
  readonly #counts: EdgeCounts
  readonly #known = new LRUCache<string, ShownCertificate>({ max: mostKnown })
  readonly #open = new Map<Connection, ShownCertificate>()
  #look = 0

  constructor(trust: ClientTrust, isRequired: boolean, { clock, counts }: { clock: Clock; counts: EdgeCounts }) {
    this.trust = trust
    this.#isRequired = isRequired
    this.#clock = clock
    this.#counts = counts
  }

  /** Whether a client may come in, given by whom its handshake was judged. If so it is kept watch over. */
  admit(connection: Connection, socket: TLSSocket, judgedBy: ClientTrust | undefined): boolean {
    const certificate = socket.getPeerX509Certificate()
    if (!certificate) return !this.#isRequired || this.#refuse('missing')
    if (!socket.authorized) return this.#refuse(flawIn(socket))
    const isVouched = !socket.isSessionReused() && judgedBy === this.trust
    const id = certificate.fingerprint256
    let shown = this.#known.get(id)
    if (!shown || (isVouched && 'flaw' in this.#judge(shown))) {
      shown = new ShownCertificate(certificate)
      this.#known.set(id, shown)
    }
    const standing = this.#judge(shown, isVouched)
    if ('flaw' in standing) return this.#refuse(standing.flaw)
    this.#open.set(connection, shown)
    connection.socket.on('close', () => this.#open.delete(connection))
    connection.origin.proved(shown.certificate)
    return true
  }

  /** A handshake failed before anybody could be let in. */
  failed(error: NodeJS.ErrnoException, socket: TLSSocket): void {
    if (error.code === 'ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE') this.#refuse('missing')
    else if (socket.authorizationError) this.#refuse(flawIn(socket))
  }

  /** Goes over all that are open, in slices; a look that comes meanwhile begins anew. */
  look(): void {
    const own = ++this.#look
    const left = this.#open.entries()
    const slice = () => {
      if (own !== this.#look) return
      const endAt = this.#clock.now() + sliceMs
      for (const [connection, shown] of left) {
        this.#check(connection, shown)
        if (this.#clock.now() < endAt) continue
        this.#clock.soon(slice)
        return
      }
    }
    slice()
  }

  #check(connection: Connection, shown: ShownCertificate): void {
    const standing = this.#judge(shown)
    if (!('flaw' in standing)) return
    this.#open.delete(connection)
    this.#refuse(standing.flaw)
    connection.end()
  }

  #judge(shown: ShownCertificate, isVouched = false): Standing {
    return this.trust.judge(shown, this.#clock.epoch(), isVouched)
  }

  #refuse(flaw: CertificateFlaw): false {
    this.#counts.clientCertificates[flaw]++
    return false
  }
}

/** By the names that OpenSSL has for what is wrong. */
function flawIn({ authorizationError }: TLSSocket): CertificateFlaw {
  const name = String(authorizationError)
  if (name === 'CERT_REVOKED') return 'revoked'
  if (name === 'CERT_HAS_EXPIRED' || name === 'CERT_NOT_YET_VALID') return 'expired'
  if (name === 'INVALID_PURPOSE') return 'purpose'
  return name.includes('CRL') ? 'crl' : 'authority'
}
