/** Header fields by their names, in the form that Node has for them and everything behind the edge reads. */
import type { IncomingHttpHeaders } from 'node:http'

/** Of several of these the first counts, because a list of them means nothing. */
const single = new Set(
  (
    'age authorization content-length content-type etag expires from host if-modified-since if-unmodified-since ' +
    'last-modified location max-forwards proxy-authorization referer retry-after server user-agent'
  ).split(' '),
)

/** Clients write the same names again and again. */
const lowered = new Map<string, string>()
const mostLowered = 512
const longestLowered = 40

/** `fields` are names and values in turn, as they came. */
export function headersOf(fields: readonly string[]): IncomingHttpHeaders {
  const headers: IncomingHttpHeaders = {}
  for (let i = 0; i < fields.length; i += 2) {
    const name = lower(fields[i]!)
    const value = trimEnd(fields[i + 1]!)
    const before = headers[name]
    if (typeof before === 'string') {
      if (!single.has(name)) headers[name] = `${before}${name === 'cookie' ? '; ' : ', '}${value}`
    } else if (Array.isArray(before)) before.push(value)
    // Also where the name is that of something which every object has.
    else headers[name] = name === 'set-cookie' ? [value] : value
  }
  return headers
}

function lower(name: string): string {
  const known = lowered.get(name)
  if (known !== undefined) return known
  // As the name of a property it is one that V8 need not look up.
  const [low = ''] = Object.keys({ [name.toLowerCase()]: true })
  if (lowered.size < mostLowered && name.length <= longestLowered) lowered.set(name, low)
  return low
}

/** White space before a value is gone already (RFC 9112 section 5.1). */
function trimEnd(value: string): string {
  let end = value.length
  while (end > 0 && isSpace(value.charCodeAt(end - 1))) end--
  return end === value.length ? value : value.slice(0, end)
}

function isSpace(code: number): boolean {
  return code === 0x20 || code === 0x09
}
