/** What a client says of itself in its head: which forms it accepts, and what it calls its request. */

/** Whether an `Accept` field lets one of these types through (RFC 9110 section 12.5.1). */
export function accepts(accept: string | undefined, types: readonly string[]): boolean {
  if (!accept || accept === '*/*' || accept === 'application/json') return true
  const ranges = accept.split(',').map(readRange)
  return types.some((type) => {
    const [group] = type.split('/')
    // The most telling range decides.
    const named = ranges.find(({ name }) => name === type) ?? ranges.find(({ name }) => name === `${group}/*`)
    return ((named ?? ranges.find(({ name }) => name === '*/*'))?.weight ?? 0) > 0
  })
}

function readRange(text: string): { readonly name: string; readonly weight: number } {
  const [name = '', ...parameters] = text.split(';').map((part) => part.trim().toLowerCase())
  const weight = parameters.find((parameter) => parameter.startsWith('q='))
  return { name, weight: weight === undefined ? 1 : Number(weight.slice(2)) }
}

/** What may be logged and echoed without a second thought. */
const plainId = /^[\w.:/+=@-]{1,128}$/

/** The client's own id for its request, if it has a sensible one. */
export function readRequestId(header: string | string[] | undefined): string | undefined {
  return typeof header === 'string' && plainId.test(header) ? header : undefined
}
