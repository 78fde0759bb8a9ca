/** Who is calling, by the client certificate of the connection. Whether that is good, the handshake has decided. */
import type { Caller } from '../core/caller.ts'
import type { Clock } from '../core/clock.ts'
import type { ClientCertificate, Origin } from '../core/origin.ts'
import { isRefusal, refuse, type Refusal } from '../core/refusal.ts'
import { spiffeIdAmong } from '../core/spiffe.ts'
import { createWorkloads, type WorkloadOptions } from './workload.ts'

/**
 * Makes the function that tells whose certificate a connection has; undefined if it has none. `isProxy` knows connections
 * of proxies, which bring other people's requests: their certificate is not that of a caller.
 */
export function createCertificateIdentity(
  options: WorkloadOptions,
  clock: Clock,
  isProxy: (origin: Origin) => boolean,
) {
  const callerOf = createWorkloads(options, 'mtls')
  const identify = ({ uris, commonName }: ClientCertificate): Caller | Refusal => {
    const spiffe = spiffeIdAmong(uris)
    return isRefusal(spiffe) ? spiffe : callerOf({ spiffe, commonName })
  }
  // By certificate, and not by connection: what is shown anew counts at once.
  const known = new WeakMap<ClientCertificate, Caller | Refusal>()
  return (origin: Origin): Caller | Refusal | undefined => {
    const { certificate } = origin
    if (!certificate || isProxy(origin)) return undefined
    if (certificate.expiresAt <= clock.epoch()) return expired
    const before = known.get(certificate)
    if (before) return before
    const caller = identify(certificate)
    known.set(certificate, caller)
    return caller
  }
}

const expired = refuse('unauthenticated', 'the client certificate has expired: connect with a new one')
