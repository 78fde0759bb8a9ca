/**
 * What headers may claim. Who stands in front of the gateway is said by the configuration; whether a connection is that
 * one's is seen at its other end. What claims identity or privilege and was not put there by that one is removed and
 * counted, before anything reads it.
 */
import { BlockList, isIP } from 'node:net'
import type { ClientCertificate, Origin } from '../core/origin.ts'
import type { MeshOptions } from './options.ts'

/** Labels of what is removed; those that begin with `x-envoy-` have one together. */
export type UntrustedHeader =
  | 'x-forwarded-client-cert'
  | 'x-forwarded-for'
  | 'forwarded'
  | 'x-real-ip'
  | 'x-envoy-*'
  | 'jwt-payload'

/** `mode`: no proxy of this mode vouches for it; `peer`: the connection is not that of a proxy. */
export type UntrustedReason = 'mode' | 'peer'

export interface TrustTools {
  /** Counts what was removed. */
  readonly untrusted: (header: UntrustedHeader, reason: UntrustedReason) => void
  /** The name of the field with claims that a proxy has verified, in lower case, if one is configured. */
  readonly payloadHeader?: string | undefined
}

export type HeadFields = Record<string, string | string[] | undefined>

export interface Trust {
  /**
   * Removes from `headers` what may not be believed, and counts it. Returns the address of whose request it is, as the
   * proxy in front says; `peer` as it was given, where none says anything sensible.
   */
  screen(headers: HeadFields, origin: Origin, peer: string): string
  /** Whether a connection is that of a proxy which is believed: then its certificate is not that of a caller. */
  readonly isProxy: (origin: Origin) => boolean
}

/** Believed when they come from a proxy; the rest is passed on by proxies as clients wrote it. */
const vouchedFor: readonly UntrustedHeader[] = [
  'x-forwarded-client-cert',
  'x-forwarded-for',
  'x-envoy-*',
  'jwt-payload',
]
const privileged = ['x-forwarded-client-cert', 'x-forwarded-for', 'forwarded', 'x-real-ip'] as const
const envoyPrefix = 'x-envoy-'
const externalAddress = 'x-envoy-external-address'

/** Where an inbound sidecar connects from: Istio's passthrough addresses, or loopback. */
const sidecar = ['127.0.0.0/8', '::1', '::6']

export function createTrust(options: MeshOptions, tools: TrustTools): Trust {
  const labels = new Map<string, UntrustedHeader>(privileged.map((name) => [name, name]))
  if (tools.payloadHeader !== undefined) labels.set(tools.payloadHeader, 'jwt-payload')
  const believed = believedIn(options)
  const isProxy = believed.size > 0 ? proxyTest(options) : () => false
  return {
    isProxy,
    screen(headers, origin, peer) {
      const isFromProxy = isProxy(origin)
      for (const name in headers) {
        const label = labels.get(name) ?? (name.startsWith(envoyPrefix) ? 'x-envoy-*' : undefined)
        if (label === undefined || (isFromProxy && believed.has(label))) continue
        delete headers[name]
        tools.untrusted(label, believed.has(label) ? 'peer' : 'mode')
      }
      return isFromProxy ? (clientAddress(headers, options.hops) ?? peer) : peer
    },
  }
}

function believedIn({ mode, waypointXfcc }: MeshOptions): ReadonlySet<UntrustedHeader> {
  switch (mode) {
    case 'none':
    case 'ambient':
      return new Set()
    case 'ambient-waypoint':
      return new Set(vouchedFor.filter((label) => waypointXfcc || label !== 'x-forwarded-client-cert'))
    case 'sidecar':
    case 'gateway':
      return new Set(vouchedFor)
  }
}

/** Whether a connection is that of the proxy in front, as far as can be seen. */
function proxyTest({ mode, proxies, trustedProxies }: MeshOptions): (origin: Origin) => boolean {
  // A policy that admits nobody but the waypoint stands in for its addresses.
  if (mode === 'ambient-waypoint' && proxies.length === 0) return () => true
  const isNear = addressTest(mode === 'sidecar' ? sidecar : proxies)
  const isCertified = mode === 'gateway' ? certificateTest(trustedProxies) : () => false
  const known = new WeakMap<Origin, boolean>()
  return (origin) => {
    let near = known.get(origin)
    if (near === undefined) known.set(origin, (near = isNear(origin.address)))
    return near || isCertified(origin.certificate)
  }
}

function addressTest(networks: readonly string[]): (address: string) => boolean {
  // One list for each family: an IPv6 network such as ::/0 would also hold IPv4 addresses.
  const lists = { ipv4: new BlockList(), ipv6: new BlockList() }
  for (const each of networks) {
    const [network = '', prefix] = each.split('/')
    const isOld = isIP(network) === 4
    lists[isOld ? 'ipv4' : 'ipv6'].addSubnet(network, Number(prefix ?? (isOld ? 32 : 128)), isOld ? 'ipv4' : 'ipv6')
  }
  return (address) => {
    const plain = address.replace(/^::ffff:(?=[\d.]+$)/i, '')
    const family = isIP(plain)
    return family !== 0 && (family === 4 ? lists.ipv4.check(plain, 'ipv4') : lists.ipv6.check(plain, 'ipv6'))
  }
}

/** A certificate of a workload holds one URI, its SPIFFE id. */
function certificateTest(ids: readonly string[]): (certificate: ClientCertificate | undefined) => boolean {
  const trusted = new Set(ids)
  return (certificate) => certificate?.uris.length === 1 && trusted.has(certificate.uris[0]!)
}

/**
 * The address of the client as the gateway of the mesh has seen it. Of `x-forwarded-for` whatever is further left than
 * the trusted hops is a client's own invention.
 */
function clientAddress(headers: HeadFields, hops: number): string | undefined {
  return addressIn(headers[externalAddress]) ?? addressIn(fromRight(headers['x-forwarded-for'], hops))
}

function addressIn(value: string | string[] | undefined): string | undefined {
  if (typeof value !== 'string') return undefined
  const address = value.trim()
  return isIP(address) !== 0 && !address.includes('%') ? address : undefined
}

/** The value with so many others to the right of it in a list with commas. */
function fromRight(value: string | string[] | undefined, others: number): string | undefined {
  if (value === undefined) return undefined
  const list = typeof value === 'string' ? value : value.join()
  let end = list.length
  for (let i = 0; i < others; i++) {
    end = list.lastIndexOf(',', end - 1)
    if (end <= 0) return undefined
  }
  return list.slice(list.lastIndexOf(',', end - 1) + 1, end)
}
