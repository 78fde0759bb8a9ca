/** Holds what two fronts made of the same bytes against each other. */
import type { Stream } from './byte-streams-parts.ts'
import type { Answer, Observed } from './byte-streams-play.ts'
import type { SeenRequest } from './front-pair.ts'

export interface Pair {
  readonly stream: Stream
  readonly lean: Observed
  readonly node: Observed
}

/** What is wrong whatever the other front does; undefined if nothing is. */
export function flawOf(stream: Stream, observed: Observed): string | undefined {
  const { answers, rest, end, seen, problems } = observed
  const isCutOff = stream.ending === 'end' || stream.ending === 'reset'
  if (end === 'stuck') return `something goes on for too long: ${problems.at(-1)}`
  if (problems.length > 0) return problems[0]
  if (rest.length > 0 && !isCutOff) return 'there is something behind the answers'
  const last = answers.findIndex(({ connection }) => connection === 'close')
  if (last !== -1 && last < answers.length - 1) return 'an answer behind the last one'
  const own = answers.filter(({ isByHand, status }) => !isByHand && status >= 200)
  if (own.some(({ fields }, i) => !fields.includes(`x-number: ${i}`))) return 'answers are not in order'
  if (seen.some(({ closed }) => closed !== 1)) return 'an exchange is not over'
  return falseSight(stream, seen)
}

/** Where the stream is good: requests that nobody sent, or bodies that are other ones. */
function falseSight({ wanted, bytes, ending }: Stream, seen: readonly SeenRequest[]): string | undefined {
  if (!wanted) return undefined
  for (const [i, { method, target, length, body, ended }] of seen.entries()) {
    const own = wanted[i] ?? (ending === 'sentinel' ? asSentinel : undefined)
    if (!own) return 'a request that nobody sent'
    if (own === asSentinel ? !target.endsWith('?sentinel') : own.method !== method || own.target !== target) {
      return 'another request than was sent'
    }
    if (ended > 0 ? !body.equals(own.body) : !own.body.subarray(0, length).equals(body))
      return 'another body than was sent'
    if (ended > 0 && own.end > bytes.length) return 'a body that is cut off has an end'
  }
  return undefined
}

const asSentinel = { method: 'GET', target: '', body: Buffer.alloc(0), end: 0 }

/** How the two differ; undefined if they do not. */
export function differenceOf({ stream, lean, node }: Pair): string | undefined {
  const racy = racyDifference(lean, node)
  if (racy || stream.ending === 'end' || stream.ending === 'reset')
    return racy && `${racy}: ${outline(lean)} <> ${outline(node)}`
  const count = Math.max(lean.answers.length, node.answers.length)
  for (let i = 0; i < count; i++) {
    const difference = answerDifference(lean.answers[i], node.answers[i])
    if (difference) return `${difference}: ${outline(lean)} <> ${outline(node)}`
  }
  if (lean.end !== node.end) return `end: ${outline(lean)} <> ${outline(node)}`
  if (lean.seen.length !== node.seen.length) return `seen: ${outline(lean)} <> ${outline(node)}`
  for (const [i, one] of lean.seen.entries()) {
    const difference = sightDifference(one, node.seen[i]!)
    if (difference) return `${difference}: ${outline(lean)} <> ${outline(node)}`
  }
  return undefined
}

/** What must hold however far each has come when the client was gone: as far as both came, they say the same. */
function racyDifference(lean: Observed, node: Observed): string | undefined {
  const answers = Math.min(lean.answers.length, node.answers.length)
  for (let i = 0; i < answers; i++) {
    const [one, other] = [lean.answers[i]!, node.answers[i]!]
    // What either says of its own depends on what has come.
    if (one.isByHand || other.isByHand) break
    if (one.status !== other.status || !one.body.equals(other.body)) return 'answers, where the client leaves'
  }
  const seen = Math.min(lean.seen.length, node.seen.length)
  for (let i = 0; i < seen; i++) {
    const difference = sameRequest(lean.seen[i]!, node.seen[i]!)
    if (difference) return `${difference}, where the client leaves`
  }
  return undefined
}

export function answerDifference(one: Answer | undefined, other: Answer | undefined): string | undefined {
  if (!one || !other) return 'number of answers'
  if (one.status !== other.status) return 'status'
  if (one.connection !== other.connection) return 'connection field'
  if (one.fields.join('\n') !== other.fields.join('\n')) return 'fields of an answer'
  return one.body.equals(other.body) ? undefined : 'body of an answer'
}

function sameRequest(one: SeenRequest, other: SeenRequest): string | undefined {
  if (one.method !== other.method || one.target !== other.target) return 'request line'
  if (one.host !== other.host) return 'host'
  if (one.flaw !== other.flaw) return 'flaw'
  // Node forgets what is beyond the most fields; the request is refused for them.
  if (one.headers !== other.headers && !one.flaw.startsWith('header_too_large')) return 'headers'
  const common = Math.min(one.length, other.length)
  return one.body.subarray(0, common).equals(other.body.subarray(0, common)) ? undefined : 'body of a request'
}

export function sightDifference(one: SeenRequest, other: SeenRequest): string | undefined {
  const difference = sameRequest(one, other)
  if (difference) return difference
  if (one.ended !== other.ended) return 'end of a body'
  if (one.gone !== other.gone) return 'gone'
  return one.length !== other.length && !one.isAnswered ? 'length of a body' : undefined
}

/** The shape of what a front did, without what differs from stream to stream. */
export function outline({ answers, end, seen }: Observed): string {
  const statuses = answers.map(({ status, isByHand, connection }) =>
    [status, isByHand ? 'h' : '', connection === 'close' ? 'c' : ''].join(''),
  )
  const sights = seen.map(({ flaw, ended, gone }) => [flaw ? 'f' : '', ended > 0 ? 'e' : '-', gone ? 'g' : ''].join(''))
  return `${statuses.join(' ')} [${sights.join(' ')}] ${end}`
}
