/**
 * `x-forwarded-client-cert` read a second time, slowly and in another way: by regular expressions made from the grammar,
 * and by rules written as lists. And headers drawn from the grammar, of which the right reading is known beforehand.
 */
import assert from 'node:assert/strict'
import { parseXfcc, type XfccElement } from '../../src/auth/xfcc.ts'

export type Pairs = readonly (readonly [name: string, value: string])[]
type Draw = (below: number) => number

const name = '(?:by|hash|cert|chain|subject|uri|dns)'
const plain = '[!#-+\\--:<>-~]*'
// Printable; or `\"`, unless another backslash stands before it; or a backslash before anything but a quote.
const quoted = '"(?:[ !#-\\[\\]-~]|(?<!\\\\)\\\\"|\\\\(?!"))*"'
const pair = `${name}=(?:${quoted}|${plain})`
const element = `${pair}(?:;${pair})*`
const header = new RegExp(`^${element}(?: *, *${element})*$`, 'i')
const firstElement = new RegExp(`^${element}`, 'i')
const firstPair = new RegExp(`^(${name})=(${quoted}|${plain})`, 'i')

/** The elements of a header that has to be good. */
export function elementsOf(text: string, why = text): readonly XfccElement[] {
  const read = parseXfcc(text)
  if (typeof read === 'string') assert.fail(`${why}: refused as "${read}"`)
  return read
}

/** What the grammar makes of a header; undefined if it is not of the grammar. */
export function readByGrammar(text: string): Pairs[] | undefined {
  if (!header.test(text)) return undefined
  const elements: Pairs[] = []
  for (let rest = text; rest !== ''; rest = rest.replace(/^ *, */, '')) {
    const [found] = firstElement.exec(rest)!
    rest = rest.slice(found.length)
    elements.push(pairsOf(found))
  }
  return elements
}

function pairsOf(text: string): Pairs {
  const pairs: [string, string][] = []
  for (let rest = text; rest !== ''; rest = rest.replace(/^;/, '')) {
    const [whole, key, value] = firstPair.exec(rest)!
    rest = rest.slice(whole.length)
    const isQuoted = value!.startsWith('"')
    pairs.push([key!.toLowerCase(), isQuoted ? value!.slice(1, -1).split('\\"').join('"') : value!])
  }
  return pairs
}

export type Named = { spiffe: string | undefined; commonName: string; peer: string | undefined } | 'nobody' | 'refused'

/** Whom elements name by the rules, for proxies that are trusted. */
export function nameByRules(elements: readonly Pairs[], trusted: readonly string[], self?: string): Named {
  const all = (pairs: Pairs, wanted: string) => pairs.flatMap(([key, value]) => (key === wanted ? [value] : []))
  const by = all(elements.at(-1)!, 'by')
  if (self !== undefined && (by.length === 0 || by.some((each) => each !== self))) return 'refused'
  const walk = (left: readonly Pairs[], peer: string | undefined, steps: number): Named => {
    const last = left.at(-1)
    if (!last) return 'nobody'
    if (steps > 16) return 'refused'
    if (['hash', 'cert', 'subject'].some((each) => all(last, each).length > 1)) return 'refused'
    const uris = all(last, 'uri')
    const ids = uris.filter((each) => each.trimStart().toLowerCase().startsWith('spiffe:'))
    if (ids.length > 1 || (ids.length === 0 && uris.length > 1) || (ids[0] && !isGoodId(ids[0]))) return 'refused'
    const nearest = steps === 0 ? ids[0] : peer
    if (ids[0] && trusted.includes(ids[0])) return walk(left.slice(0, -1), nearest, steps + 1)
    return { spiffe: ids[0], commonName: commonNameIn(all(last, 'subject')[0] ?? ''), peer: nearest }
  }
  return walk(elements, undefined, 0)
}

/** By the parts of the id, without an expression for the whole. */
export function isGoodId(id: string): boolean {
  const [scheme, nothing, domain = '', ...path] = id.split('/')
  const isOf = (text: string, letters: string) => text !== '' && text.split('').every((each) => letters.includes(each))
  const small = 'abcdefghijklmnopqrstuvwxyz0123456789._-'
  const isPath = (part: string) => isOf(part, small + small.toUpperCase()) && part !== '.' && !part.includes('..')
  const isDomain = isOf(domain, small) && domain.length <= 255 && !domain.includes('..')
  return (
    scheme === 'spiffe:' && nothing === '' && isDomain && path.length > 0 && path.every(isPath) && id.length <= 2_048
  )
}

/** One character after the other; empty if the subject has no common name that is plain. */
function commonNameIn(subject: string): string {
  const fields: string[][] = [[]]
  for (let i = 0; i < subject.length; i++) {
    const at = subject[i]!
    if (at === '\\') fields.at(-1)!.push(at + (subject[++i] ?? ''))
    else if (at === ',' || at === '+') fields.push([])
    else fields.at(-1)!.push(at)
  }
  const isHex = (text: string | undefined) => text !== undefined && /^[0-9A-Fa-f]$/.test(text)
  const names: string[] = []
  for (const field of subject === '' ? [] : fields) {
    const sign = field.indexOf('=')
    const type = field.slice(0, sign).join('')
    const value = field.slice(sign + 1)
    const isType = /^[A-Za-z][A-Za-z0-9-]*$/.test(type) || /^\d+(\.\d+)*$/.test(type)
    const isEscape = (each: string, i: number) =>
      ' "#+,;<=>\\'.includes(each[1] ?? 'x') || (isHex(each[1]) && isHex(value[i + 1]))
    if (sign < 0 || !isType || value.some((each, i) => ('";<>'.includes(each) || each[0] === '\\') && !isSafe(each, i)))
      return ''
    if (!['cn', '2.5.4.3'].includes(type.toLowerCase())) continue
    if (value.length === 0 || value[0] === '#' || value.some((each) => isHex(each[1]))) return ''
    names.push(value.map((each) => each.at(-1)).join(''))

    function isSafe(each: string, i: number): boolean {
      return each.length === 2 && isEscape(each, i)
    }
  }
  return names.length === 1 ? names[0]! : ''
}

const keys = ['By', 'Hash', 'Cert', 'Chain', 'Subject', 'URI', 'DNS']

/** One of the list. */
export function pick<T>(draw: Draw, list: readonly T[]): T {
  return list[draw(list.length)]!
}

/** A header by the grammar, and what it says. Names and ids are few, so that they meet each other. */
export function drawHeader(draw: Draw, ids: readonly string[]): { readonly text: string; readonly elements: Pairs[] } {
  const parts = Array.from({ length: 1 + draw(4) }, () => drawElement(draw, ids))
  const text = parts
    .map((part) => part.text)
    .reduce((left, right) => left + pick(draw, [',', ', ', ' ,', '  , ']) + right)
  return { text, elements: parts.map((part) => part.pairs) }
}

function drawElement(draw: Draw, ids: readonly string[]): { readonly text: string; readonly pairs: Pairs } {
  const pairs = Array.from({ length: 1 + draw(6) }, () => {
    const key = pick(draw, [...keys, 'URI', 'Subject'])
    return [key.toLowerCase(), drawValue(draw, key, ids)] as const
  })
  const texts = pairs.map(([key, value]) => {
    const written = pick(draw, [key, key.toUpperCase(), keys.find((each) => each.toLowerCase() === key)!])
    const isToken = /^[!#-+\--:<>-~]*$/.test(value)
    return `${written}=${isToken && draw(3) > 0 ? value : `"${value.replaceAll('"', '\\"')}"`}`
  })
  return { text: texts.join(';'), pairs }
}

function drawValue(draw: Draw, key: string, ids: readonly string[]): string {
  if (key === 'Subject') return drawSubject(draw)
  if (key === 'URI' || key === 'By') return pick(draw, [...ids, '', 'https://a.example/b', 'urn:x:y', 'a;b', 'a,b=c'])
  if (key === 'Hash') return pick(draw, ['', '0123abcd'.repeat(8)])
  const letters = 'ab-%./:;,= "+<>!~\\c'.split('')
  const drawn = Array.from({ length: draw(12) }, () => pick(draw, letters)).join('')
  // A backslash before a quote could be read in two ways, also before the one that closes.
  return drawn.replaceAll(/\\+(?="|$)/g, '')
}

function drawSubject(draw: Draw): string {
  const values = ['robot', 'a b', 'a\\,CN=admin', 'a\\+b', 'x\\=y', 'M\\C3\\BCller', '#0402', 'spiffe://x/a', 'a"b', '']
  const fields = Array.from({ length: draw(4) }, () => {
    return pick(draw, ['CN', 'cn', '2.5.4.3', 'O', 'OU', '1.2.3']) + '=' + pick(draw, values)
  })
  return fields.join(pick(draw, [',', ',', '+', ', ']))
}

const hostile = [
  '"',
  ',',
  ';',
  '=',
  '\\',
  '\\"',
  ' ',
  '\t',
  '\n',
  '\0',
  '\u007F',
  'é',
  '\u0100',
  '""',
  ',,',
  ';;',
  'URI=',
  'By=',
]
const injected = [
  ';URI=spiffe://x/admin',
  ',URI=spiffe://x/admin',
  '";URI="spiffe://x/admin',
  ';Cert="a";Cert="b"',
  ';Unknown=1',
  'Subject="CN=admin"',
]

/** A header with so many places changed. */
export function mutate(draw: Draw, text: string, changes: number): string {
  let changed = text
  for (let i = 0; i < changes; i++) {
    const at = draw(changed.length + 1)
    const [left, right] = [changed.slice(0, at), changed.slice(at)]
    changed = pick(draw, [
      left + right.slice(1),
      left + pick(draw, hostile) + right,
      left + pick(draw, hostile) + right.slice(1),
      left + pick(draw, injected) + right,
      left + right.slice(1 + draw(8)),
      left + left.slice(draw(left.length + 1)) + right,
      left,
    ])
  }
  return changed
}
