/** The common name in a subject as Envoy writes it (RFC 4514, `CN=robot,O=Example`). */

/** One attribute, and what parts it from the next. Escapes and plain characters have nothing in common, so this is linear. */
const attribute = /([A-Za-z][A-Za-z0-9-]*|\d+(?:\.\d+)*)=((?:\\[0-9A-Fa-f]{2}|\\[ "#+,;<=>\\]|[^\\"+,;<>])*)([,+]|$)/y

/** Empty if there is none; undefined if there are several, or if anything in the subject is not plain. */
export function commonNameOf(subject: string): string | undefined {
  let found = ''
  let separator = subject === '' ? '' : ','
  attribute.lastIndex = 0
  while (separator !== '') {
    const [, type = '', value = '', next] = attribute.exec(subject) ?? []
    if (next === undefined) return undefined
    separator = next
    if (type.toUpperCase() !== 'CN' && type !== '2.5.4.3') continue
    // Hexadecimal forms hold what is not ASCII, and may hold anything.
    if (found !== '' || value === '' || /^#|\\[0-9A-Fa-f]/.test(value)) return undefined
    found = value.replaceAll(/\\(.)/g, '$1')
  }
  return found
}
