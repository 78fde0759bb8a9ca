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
  const [head = '', tail] = address.split('::')
  const first = head === '' ? [] : head.split(':')
  const last = tail === undefined || tail === '' ? [] : tail.split(':')
  const zeros = tail === undefined ? 0 : 8 - first.length - last.length
  const groups = [...first, ...Array.from({ length: zeros }, () => '0'), ...last]
  return `${groups
    .slice(0, 4)
    .map((group) => parseInt(group, 16).toString(16))
    .join(':')}::/64`
}
