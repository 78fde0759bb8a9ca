/**
 * Where the two fronts are known to differ, and why each of them may do what it does. What is not in this list is a finding.
 * As far as both have come they say the same in any case; only what follows may differ as it says here.
 */
import { answerDifference, type Pair } from './byte-streams-judge.ts'
import type { Answer, Observed } from './byte-streams-play.ts'
import type { LimitsName, SeenRequest } from './front-pair.ts'

/** The place from where on the answers differ. */
interface Fork {
  readonly lean: Side
  readonly node: Side
  readonly limits: LimitsName
  /** The stream, as Latin-1. */
  readonly text: string
}

interface Side {
  readonly observed: Observed
  /** The first answer that is another one, and how many come behind it. */
  readonly answer: Answer | undefined
  readonly behind: readonly Answer[]
  /** The request that it answers, or that was in hand. */
  readonly seen: SeenRequest | undefined
}

export interface Difference {
  readonly name: string
  readonly reason: string
  readonly explains: (fork: Fork) => boolean
}

/** A limit of the fronts, which this one is known by. */
const unread = { usual: 65_536, tight: 1_000 } as const
const pipelined = { usual: 16, tight: 3 } as const

export const differences: readonly Difference[] = [
  {
    name: 'another protocol offered',
    // RFC 9110 section 7.8: a server may ignore the field, and goes on in the protocol that is spoken.
    reason: 'node:http leaves a connection on which another protocol was offered, and lean goes on with it',
    explains: ({ lean, node }) =>
      (stopsAt(node, lean) || (isOnlyByHand(lean) && !node.answer)) &&
      node.observed.seen.some((seen) => fieldOf(seen, 'upgrade') !== undefined),
  },
  {
    name: 'sent far ahead',
    // RFC 9112 section 9.3.2: whoever sends ahead must be ready to send again what is not answered.
    reason: 'node:http parses ahead, so that the number of requests is limited; lean stops reading',
    explains: ({ lean, node, limits }) =>
      stopsAt(node, lean) &&
      node.observed.seen.length > pipelined[limits] &&
      lean.observed.seen.length > pipelined[limits],
  },
  {
    name: 'no request behind good ones',
    // RFC 9110 section 15.5.1 and RFC 9112 section 9.6: to answer it is better, and to close is allowed.
    reason: 'node:http comes upon it while the one before is not answered; lean answers it in its turn',
    explains: ({ lean, node }) =>
      stopsAt(node, lean) && lean.observed.end.startsWith('ended') && isRefused(lean.behind),
  },
  {
    name: 'no request right behind an answer',
    // Likewise.
    reason:
      'node:http closes where the answer before is written and its connection is still taken for busy; lean answers',
    explains: ({ lean, node }) =>
      !node.answer &&
      isRefused(answersFrom(lean)) &&
      lean.observed.end === node.observed.end &&
      node.observed.end !== 'open',
  },
  {
    name: 'cut off by the client',
    // RFC 9112 section 8: a server may answer a request that did not come whole.
    reason: 'node:http answers what the client has not sent to its end, and lean does not',
    explains: ({ lean, node }) =>
      !lean.answer && isOnlyByHand(node) && lean.observed.end === 'open' && node.observed.end === 'open',
  },
  {
    name: 'a rest that nobody reads',
    // RFC 9112 section 9.3: to go on with a connection a server must read the whole body, or else close.
    reason: 'lean looks at how much of a body is left unread, node:http at how long it is and whether it has come',
    explains: ({ lean, node, limits }) => {
      const { seen } = lean
      if (!isSame(lean.answer, node.answer) || !seen || seen.ended > 0 || !seen.isAnswered) return false
      const isChunked = fieldOf(seen, 'transfer-encoding') !== undefined
      // Of chunks lean does not know how much is left, unless all of them came with the first.
      if (isChunked && !isLast(lean) && seen.length === 0) return false
      const isLong = isChunked || Number(fieldOf(seen, 'content-length') ?? 0) > unread[limits]
      return isLong || fieldOf(seen, 'expect') !== undefined
    },
  },
  {
    name: 'a broken body that nobody reads',
    // RFC 9112 section 9.6: behind the last answer nothing is looked at.
    reason: 'node:http parses what has not been asked for, and lean does not',
    explains: ({ lean, node }) =>
      isOnlyByHand(node) &&
      isLast(lean) &&
      lean.seen?.ended === 0 &&
      fieldOf(lean.seen, 'transfer-encoding') !== undefined &&
      lean.seen.isAnswered &&
      node.observed.end === 'ended',
  },
  {
    name: 'data before the break',
    // Of no use to anybody: the request is refused.
    reason: 'node:http passes on data that came in one piece with what breaks the body, and lean does not',
    explains: ({ lean, node }) => {
      const [one, other] = [lean.observed.seen.at(-1), node.observed.seen[lean.observed.seen.length - 1]]
      if (!one || !other || one.ended > 0 || one.gone === 0 || !lean.observed.answers.at(-1)?.isByHand) return false
      return lean.answer ? isOnlyByHand(lean) && other.isAnswered && other.length > one.length : !node.answer
    },
  },
  {
    name: 'many fields',
    // RFC 6585 section 5: 431 may say whether it is one field or all of them; nothing is said of the connection.
    reason: 'node:http breaks off where there are too many fields, and lean reads the head to its end',
    explains: ({ lean, node }) =>
      (lean.answer?.status === 431 && !lean.answer.isByHand && node.answer?.status === 431 && isOnlyByHand(node)) ||
      (stopsAt(node, lean) && lean.behind[0]?.status === 431) ||
      (lean.answer?.status === 431 && !node.answer && node.observed.end !== 'open'),
  },
  {
    name: 'a head that is nearly too large',
    // RFC 9110 section 5.4: there is no limit that all must have.
    reason: 'node:http counts the target, names and values, and lean counts all bytes of the head',
    explains: ({ lean, node, limits }) =>
      limits === 'tight' &&
      isOnlyByHand(lean) &&
      lean.answer?.status === 431 &&
      !(isOnlyByHand(node) && node.answer?.status === 431),
  },
  {
    name: 'other words',
    // RFC 6585 section 5: what is said beside the status is for people.
    reason: 'node:http does not tell trailers that are too large from a head that is',
    explains: ({ lean, node }) =>
      isOnlyByHand(lean) && isOnlyByHand(node) && lean.answer?.status === 431 && node.answer?.status === 431,
  },
  {
    name: 'leave to send what is broken',
    // RFC 9110 section 10.1.1: a server need not say that it may come when it has.
    reason: 'node:http has parsed it when it is asked for, and lean has not',
    explains: ({ lean, node }) => lean.answer?.status === 100 && isOnlyByHand(node),
  },
  {
    name: 'a tab behind a value',
    // RFC 9110 section 5.5: a tab is white space, as a space is.
    reason: 'neither parser knows it behind values that frame a body; which of them says so, and when, is different',
    explains: ({ lean, node, text }) =>
      /\n(content-length|transfer-encoding):[^\n]*\t[ \t]*(\r|$)/i.test(text) &&
      [lean, node].some(({ observed }) => observed.answers.at(-1)?.isByHand && observed.answers.at(-1)?.status === 400),
  },
  {
    name: 'no text in an extension',
    // RFC 9112 section 7.1.1: extensions that are not known must be ignored.
    reason: 'the parser of node:http refuses DEL in the quoted value of an extension, and that of lean does not',
    explains: ({ node, text }) => isOnlyByHand(node) && node.answer?.status === 400 && /;[^\n]*"[^\n]*\x7f/.test(text),
  },
  {
    name: 'an option in a trailer',
    // RFC 9110 section 6.5.1: a trailer must not be taken for a field of the head.
    reason: 'node:http refuses what comes behind a trailer that says "close"',
    explains: ({ lean, node, text }) =>
      !isOnlyByHand(lean) &&
      (isOnlyByHand(node) || stopsAt(node, lean)) &&
      /\n0+[^\n]*\n([^\n]+\n)*connection:[^\n]*close/i.test(text),
  },
  {
    name: 'two options that do not go together',
    // RFC 9112 section 9.3: "close" counts, whatever there is beside it.
    reason: 'the parser of node:http goes on where HTTP/1.0 asks for both',
    explains: ({ lean, node }) =>
      isSame(lean.answer, node.answer) && isLast(lean) && /close/i.test(String(fieldOf(lean.seen, 'connection'))),
  },
  {
    name: 'an option of proxies',
    // RFC 9112 appendix C.2.2: "Proxy-Connection" is no field of the protocol, and means nothing.
    reason: 'the parser of node:http takes it for "Connection"',
    explains: ({ lean, node }) =>
      isSame(lean.answer, node.answer) && fieldOf(lean.seen, 'proxy-connection') !== undefined,
  },
  {
    name: 'no content for HTTP/1.0',
    // RFC 9112 section 6.3: an answer 204 has no body, whoever reads it.
    reason: 'node:http closes to mark the end of a body that there is not',
    explains: ({ lean, node }) =>
      isSame(lean.answer, node.answer) && lean.answer!.status === 204 && isLast(node) && !isLast(lean),
  },
  {
    name: 'a tunnel',
    // RFC 9110 section 9.3.6: whoever does not offer any refuses; the answer is the same.
    reason: 'node:http has no request for it, so that the front answers by hand; in lean it is a request',
    explains: ({ lean, node }) =>
      lean.seen?.method === 'CONNECT' && isLast(lean) && (isOnlyByHand(node) || isLast(node) || !node.answer),
  },
]

/** What a front did, but for what it began when the client was gone: of one that does not wait nobody knows when that was. */
export function withoutTheGone(observed: Observed): Observed {
  const { seen } = observed
  return { ...observed, seen: seen.slice(0, seen.findLastIndex(({ gone }) => gone === 0) + 1) }
}

/** The name of what explains that they differ; undefined if nothing does. */
export function explanationOf(pair: Pair): string | undefined {
  const fork = forkOf(pair)
  return differences.find(({ explains }) => explains(fork))?.name
}

function forkOf({ lean, node, stream }: Pair): Fork {
  let count = 0
  while (count < lean.answers.length && !answerDifference(lean.answers[count], node.answers[count])) count++
  return {
    lean: sideOf(lean, count),
    node: sideOf(node, count),
    limits: stream.limits,
    text: stream.bytes.toString('latin1'),
  }
}

function sideOf(observed: Observed, count: number): Side {
  const { answers, seen } = observed
  const own = answers.slice(0, count).filter(isOfRequest)
  return { observed, answer: answers[count], behind: answers.slice(count + 1), seen: seen[own.length] }
}

function isOfRequest({ isByHand, status }: Answer): boolean {
  return !isByHand && status >= 200
}

/** Whether one says of an answer that it is the last, and the other gives the same one and goes on. */
function stopsAt(one: Side, other: Side): boolean {
  if (!isSame(one.answer, other.answer) || one.behind.length > 0) return false
  return isLast(one) && !isLast(other) && one.observed.end !== 'open'
}

/** Whether the two differ in nothing but whether it is the last one. */
function isSame(one: Answer | undefined, other: Answer | undefined): boolean {
  return one !== undefined && other !== undefined && one.status === other.status && one.body.equals(other.body)
}

function answersFrom({ answer, behind }: Side): readonly Answer[] {
  return answer ? [answer, ...behind] : []
}

function isLast({ answer }: Side): boolean {
  return answer?.connection === 'close'
}

function isOnlyByHand({ answer, behind }: Side): boolean {
  return answer?.isByHand === true && behind.length === 0
}

/** Whether all that comes is an answer to what is no request, behind at most one to a request of which a part is good. */
function isRefused(answers: readonly Answer[]): boolean {
  const last = answers.at(-1)
  if (!last || answers.filter(isOfRequest).length > 1) return false
  return last.isByHand || last.connection === 'close'
}

function fieldOf(seen: SeenRequest | undefined, name: string): unknown {
  return seen && (JSON.parse(seen.headers) as Record<string, unknown>)[name]
}
