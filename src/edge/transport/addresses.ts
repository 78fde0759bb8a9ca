/** Addresses of clients, and lists of them. */
import { BlockList, isIPv4, isIPv6 } from 'node:net'

/** Whether an address is in a list of addresses and networks. */
export function matcher(list: readonly string[]): (address: string) => boolean {
  if (list.length === 0) return () => false
  const addresses = new BlockList()
  for (const each of list) {
    const [network = '', prefix] = each.split('/')
    const family = isIPv4(network) ? 'ipv4' : 'ipv6'
    addresses.addSubnet(network, prefix === undefined ? (family === 'ipv4' ? 32 : 128) : Number(prefix), family)
  }
  return (address) =>
    isIPv4(address) ? addresses.check(address, 'ipv4') : isIPv6(address) && addresses.check(address, 'ipv6')
}

/**
 * Who is counted as one: an IPv4 address, also where a socket for both families shows it as ::ffff:192.0.2.1; or an IPv6
 * network of 64 bits, because that is the least that anybody is given (RFC 6177).
 */
export function clientOf(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)
  if (mapped) return mapped[1]!
  if (!isIPv6(address)) return address
  return `${groupsOf(address)
    .slice(0, 4)
    .map((group) => group.toString(16))
    .join(':')}::/64`
}

/** The eight groups of an IPv6 address (RFC 4291 section 2.2), without a zone. */
export function groupsOf(address: string): number[] {
  const [head = '', tail] = address.replace(/%.*$/, '').split('::')
  const [first, last] = [head, tail ?? ''].map((part) => (part === '' ? [] : part.split(':').flatMap(readGroup)))
  const zeros = tail === undefined ? 0 : 8 - first!.length - last!.length
  return [...first!, ...Array.from({ length: zeros }, () => 0), ...last!]
}

/** The last two may be written as an IPv4 address. */
function readGroup(text: string): number[] {
  if (!text.includes('.')) return [parseInt(text, 16)]
  const [a = 0, b = 0, c = 0, d = 0] = text.split('.').map(Number)
  return [(a << 8) | b, (c << 8) | d]
}
