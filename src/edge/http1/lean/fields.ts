/** Header fields by their names, in the form that Node has for them and everything behind the edge reads. */
import type { IncomingHttpHeaders } from 'node:http'

/** Of several of these the first counts, because a list of them means nothing. */
const single = new Set(
  (
    'age authorization content-length content-type etag expires from host if-modified-since if-unmodified-since ' +
    'last-modified location max-forwards proxy-authorization referer retry-after server user-agent'
  ).split(' '),
)

/** Names that were read before, and what they are in lower case. One that comes at the place of another takes it. */
const known: { readonly name: string; readonly lower: string }[] = []
const places = 256
const longest = 64

/** `fields` are names, in lower case, and values in turn. */
export function headersOf(fields: readonly string[]): IncomingHttpHeaders {
  const headers: IncomingHttpHeaders = {}
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i]!
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

/**
 * A name in the text of a head, in lower case. Clients write the same ones again and again: to know one again costs less
 * than to cut it out, and V8 need not look it up when it becomes the name of a property.
 */
export function nameAt(text: string, from: number, to: number): string {
  const place = ((to - from) * 8 + (text.charCodeAt(from) & 7)) % places
  const guess = known[place]
  if (guess && guess.name.length === to - from && text.startsWith(guess.name, from)) return guess.lower
  const [name = ''] = Object.keys({ [text.slice(from, to)]: true })
  const [lower = ''] = Object.keys({ [name.toLowerCase()]: true })
  if (name.length <= longest) known[place] = { name, lower }
  return lower
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
