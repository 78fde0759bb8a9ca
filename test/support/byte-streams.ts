/** Streams of bytes for fronts of HTTP/1.1, good and hostile, each made from a seed and its number alone. */
import type { LimitsName } from './front-pair.ts'
import { GoodRequests, type GoodRequest } from './byte-streams-good.ts'
import { HostileRequests } from './byte-streams-hostile.ts'
import { Draws, type Stream, type Wanted } from './byte-streams-parts.ts'

type Maker = (draws: Draws) => Stream

/** Kinds of streams, and how many of a hundred are of each. */
const makers: readonly (readonly [share: number, maker: Maker])[] = [
  [30, goodStream],
  [10, (draws) => tight(draws)],
  [22, (draws) => hostile(draws)],
  [20, (draws) => mutated(draws)],
  [6, (draws) => behindGood(draws)],
  [12, (draws) => leaving(draws)],
]

export function makeStream(seed: number, index: number): Stream {
  const draws = new Draws(Math.imul(seed, 0x9e3779b1) ^ Math.imul(index + 1, 0x85ebca6b))
  let share = draws.below(100)
  for (const [its, maker] of makers) {
    if (share < its) return maker(draws)
    share -= its
  }
  throw new Error('the shares do not make a hundred')
}

interface Joined {
  readonly bytes: Buffer
  readonly waits: number[]
  readonly wanted: Wanted[]
}

function join(requests: readonly GoodRequest[]): Joined {
  const waits: number[] = []
  const wanted: Wanted[] = []
  let at = 0
  for (const { head, tail, method, target, body, waits: isWaiting } of requests) {
    if (isWaiting) waits.push(at + head.length)
    at += head.length + tail.length
    wanted.push({ method, target, body, end: at })
  }
  return { bytes: Buffer.concat(requests.flatMap(({ head, tail }) => [head, tail])), waits, wanted }
}

/** Few requests mostly, and now and then many. */
function count(draws: Draws): number {
  return draws.once(12) ? draws.between(9, 20) : draws.between(1, 6)
}

function goodRequests(draws: Draws, limits: LimitsName = 'usual'): Joined {
  const maker = new GoodRequests(draws, limits)
  return join(Array.from({ length: count(draws) }, () => maker.make()))
}

function goodStream(draws: Draws): Stream {
  const joined = goodRequests(draws)
  const ending = draws.one(['sentinel', 'sentinel', 'sentinel', 'quiet end', 'quiet reset'] as const)
  // Here and there the client waits for its answers.
  const waits = [...joined.waits, ...joined.wanted.map(({ end }) => end).filter(() => draws.once(4))]
  return { kind: 'good', limits: 'usual', ...joined, waits, cuts: cutsIn(draws, joined.bytes.length), ending }
}

/** Beyond small limits, or just below. */
function tight(draws: Draws): Stream {
  const { bytes, waits, wanted } = goodRequests(draws, 'tight')
  const more = wanted.map(({ end }) => end).filter(() => draws.once(2))
  const cuts = cutsIn(draws, bytes.length)
  return {
    kind: 'tight',
    limits: 'tight',
    bytes,
    cuts,
    waits: [...waits, ...more],
    ending: 'sentinel',
    wanted: undefined,
  }
}

/** Something hostile at the beginning, and what a smuggler would have liked to come behind it. */
function hostile(draws: Draws): Stream {
  const { kind, bytes } = new HostileRequests(draws).make()
  const behind = draws.once(2) ? goodRequests(draws).bytes : Buffer.alloc(0)
  const all = Buffer.concat([bytes, behind.length > 10_000 ? Buffer.alloc(0) : behind])
  const waits = draws.once(4) ? [bytes.length] : []
  const ending = draws.once(8) ? 'quiet end' : 'sentinel'
  return {
    kind: `hostile ${kind}`,
    limits: 'usual',
    bytes: all,
    cuts: cutsIn(draws, all.length),
    waits,
    ending,
    wanted: undefined,
  }
}

/** The same behind good requests, whose answers the client has or has not seen. */
function behindGood(draws: Draws): Stream {
  const good = goodRequests(draws)
  const { kind, bytes } = new HostileRequests(draws).make()
  const all = Buffer.concat([good.bytes, bytes])
  return {
    kind: `behind ${kind}`,
    limits: 'usual',
    bytes: all,
    cuts: cutsIn(draws, all.length),
    waits: draws.once(2) ? [...good.waits, good.bytes.length] : good.waits,
    ending: 'sentinel',
    wanted: undefined,
  }
}

function mutated(draws: Draws): Stream {
  const maker = new GoodRequests(draws, 'usual', 400)
  const joined = join(Array.from({ length: draws.between(1, 4) }, () => maker.make()))
  let { bytes } = joined
  for (let left = draws.between(1, 3); left > 0; left--) bytes = mutate(bytes, draws)
  const ending = draws.once(8) ? 'quiet end' : 'sentinel'
  const waits = draws.once(2) ? joined.waits : []
  const cuts = cutsIn(draws, bytes.length)
  return { kind: 'mutated', limits: 'usual', bytes, cuts, waits, ending, wanted: undefined }
}

/** What separates and frames, and what is no text. */
const odd = [
  '\r',
  '\n',
  '\r\n',
  ' ',
  '\t',
  ':',
  ',',
  ';',
  '0',
  '1',
  'f',
  '"',
  '\0',
  '\v',
  '\f',
  '\x7f',
  '\xff',
  '-',
  '+',
]

function mutate(bytes: Buffer, draws: Draws): Buffer {
  const at = draws.below(bytes.length + 1)
  const size = draws.once(3) ? draws.between(1, 20) : 1
  const [before, after] = [bytes.subarray(0, at), bytes.subarray(at)]
  const how = draws.below(7)
  if (how === 0) return Buffer.concat([before, after.subarray(size)])
  if (how === 1) return Buffer.concat([before, after.subarray(0, size), after])
  if (how === 2) return before.length > 20 ? before : bytes
  if (how === 3 && at < bytes.length) {
    const copy = Buffer.from(bytes)
    copy[at]! ^= 1 << draws.below(8)
    return copy
  }
  if (how === 4) return Buffer.concat([before, Buffer.from(draws.one(odd), 'latin1'), after.subarray(1)])
  if (how === 5) {
    const from = draws.below(bytes.length + 1)
    return Buffer.concat([before, bytes.subarray(from, from + draws.between(1, 40)), after])
  }
  return Buffer.concat([before, Buffer.from(draws.one(odd), 'latin1'), after])
}

/** Good requests of a client that leaves in the midst of them, or behind them without a wait. */
function leaving(draws: Draws): Stream {
  const { bytes: all, waits, wanted } = goodRequests(draws)
  const isWhole = draws.once(4)
  const bytes = isWhole ? all : all.subarray(0, draws.between(1, all.length))
  const ending = draws.one(['end', 'reset', 'quiet end', 'quiet reset'] as const)
  const cuts = cutsIn(draws, bytes.length)
  const kept = waits.filter((place) => place <= bytes.length)
  return { kind: `leaving by ${ending}`, limits: 'usual', bytes, cuts, waits: kept, ending, wanted }
}

/** All in one, in a few pieces, or byte by byte, at least for a stretch. */
function cutsIn(draws: Draws, length: number): number[] {
  const how = draws.below(10)
  if (how < 3) return []
  if (how === 9) {
    const stretch = draws.once(4) ? 300 : 30
    const from = draws.below(Math.max(1, length - stretch))
    return Array.from({ length: Math.min(stretch, length) }, (_, i) => from + i)
  }
  return Array.from({ length: draws.between(1, how < 7 ? 3 : 10) }, () => draws.below(length + 1))
}
