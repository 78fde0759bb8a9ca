/**
 * The PROXY protocol, versions 1 and 2 (HAProxy, proxy-protocol.txt, 2020/03/05): what a balancer that passes bytes on
 * puts in front of a connection, so that the server learns whose it is. Only the client's address is of use here.
 */
import { isIPv4, isIPv6 } from 'node:net'

export type ProxyHeader =
  /** Bytes are missing. */
  | { readonly kind: 'partial' }
  | { readonly kind: 'broken' }
  /** The connection's own address stands: the balancer speaks for itself, or does not know. */
  | { readonly kind: 'local'; readonly bytes: number }
  | { readonly kind: 'proxied'; readonly bytes: number; readonly address: string }

const partial: ProxyHeader = { kind: 'partial' }
const broken: ProxyHeader = { kind: 'broken' }

const signature = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1')
/** "PROXY UNKNOWN" with two addresses of the longest kind and the line's end. */
const longestLine = 107
/** Of what follows the addresses nothing is read; more than this no balancer sends. */
const longestRest = 4_096

/** Reads the header at the beginning of a connection. */
export function readProxyHeader(bytes: Buffer): ProxyHeader {
  const known = Math.min(bytes.length, signature.length)
  if (bytes.compare(signature, 0, known, 0, known) === 0) return bytes.length < 16 ? partial : readBinary(bytes)
  return readLine(bytes)
}

function readLine(bytes: Buffer): ProxyHeader {
  const text = bytes.toString('latin1', 0, longestLine)
  const end = text.indexOf('\r\n')
  if (end < 0) {
    const isSoFar = 'PROXY '.startsWith(text.slice(0, 6)) && bytes.length < longestLine
    return isSoFar ? partial : broken
  }
  const [word, family, source = '', target = '', ...ports] = text.slice(0, end).split(' ')
  if (word !== 'PROXY') return broken
  if (family === 'UNKNOWN') return { kind: 'local', bytes: end + 2 }
  const isAddress = family === 'TCP4' ? isIPv4 : family === 'TCP6' ? isIPv6 : undefined
  const isGood = isAddress?.(source) && isAddress(target) && ports.length === 2 && ports.every(isPort)
  return isGood ? { kind: 'proxied', bytes: end + 2, address: source } : broken
}

function isPort(text: string): boolean {
  return /^(0|[1-9]\d{0,4})$/.test(text) && Number(text) <= 65_535
}

function readBinary(bytes: Buffer): ProxyHeader {
  const version = bytes[12]! >> 4
  const command = bytes[12]! & 0xf
  const family = bytes[13]!
  const length = bytes.readUInt16BE(14)
  if (version !== 2 || command > 1 || length > longestRest) return broken
  const end = 16 + length
  if (bytes.length < end) return partial
  if (command === 0 || family === 0) return { kind: 'local', bytes: end }
  // TCP over IPv4 and over IPv6.
  if (family === 0x11 && length >= 12) return { kind: 'proxied', bytes: end, address: bytes.subarray(16, 20).join('.') }
  if (family === 0x21 && length >= 36) return { kind: 'proxied', bytes: end, address: ipv6At(bytes, 16) }
  return isOther(family) ? { kind: 'local', bytes: end } : broken
}

/** UDP and UNIX sockets, of which there is nothing to be learnt here (section 2.2). */
function isOther(family: number): boolean {
  return family === 0x12 || family === 0x22 || family === 0x31 || family === 0x32
}

/** Without zeros left out, which is enough to tell addresses apart. */
function ipv6At(bytes: Buffer, at: number): string {
  return Array.from({ length: 8 }, (_, i) => bytes.readUInt16BE(at + 2 * i).toString(16)).join(':')
}
