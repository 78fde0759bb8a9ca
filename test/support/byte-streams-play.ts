/** Sends a stream of bytes to a front, as a client that does not wait for answers, and tells what came of it. */
import { connect, type AddressInfo, type Socket } from 'node:net'
import { connect as connectTls, type SecureContext } from 'node:tls'
import type { Stream } from './byte-streams-parts.ts'
import type { SeenRequest, ServedConnection, ServedFront } from './front-pair.ts'

export interface Answer {
  readonly status: number
  /** In small letters and in order of their names, but for the date. */
  readonly fields: readonly string[]
  readonly connection: string
  readonly body: Buffer
  /** Whether no request in the pipeline has it as its answer: it is the front's own. */
  readonly isByHand: boolean
}

export interface Observed {
  readonly answers: readonly Answer[]
  /** What came behind the answers and is none. */
  readonly rest: Buffer
  /**
   * How the connection ended: by the front before all was sent or soon after, or after one more request; or not until the
   * client ended it. `stuck` if something went on for too long.
   */
  readonly end: 'ended' | 'ended late' | 'open' | 'stuck'
  readonly seen: readonly SeenRequest[]
  readonly problems: readonly string[]
}

export const sentinel = Buffer.from('GET /x/now?sentinel HTTP/1.1\r\nhost: sentinel\r\n\r\n')

/** So many turns in which nothing moves are the end of what moves. */
const quietTurns = 5
/** Nothing takes so long unless it is stuck; it decides nothing else. */
const stuckMs = 15_000

let nextTurn: Promise<void> | undefined

/** The next turn of the event loop; for all who wait the same. */
export function turn(): Promise<void> {
  nextTurn ??= new Promise((resolve) => {
    setImmediate(() => {
      nextTurn = undefined
      resolve()
    })
  })
  return nextTurn
}

/** One connection of a client, and the other side of it. */
class Client {
  readonly #front: ServedFront
  /** What is spoken on; the other is below TLS, or the same. */
  readonly #socket: Socket
  readonly #below: Socket
  readonly #received: Buffer[] = []
  #served: ServedConnection | undefined
  #isConnected = false
  #isEnded = false
  #isClosed = false
  /** What went on for too long. */
  stuckIn = ''

  constructor(front: ServedFront, trust: SecureContext | undefined) {
    this.#front = front
    this.#below = connect({ port: front.port, host: '127.0.0.1', noDelay: true })
    this.#socket =
      trust === undefined
        ? this.#below
        : connectTls({ socket: this.#below, secureContext: trust, servername: 'localhost' })
    this.#below.on('error', () => (this.#isEnded = true))
    this.#socket.on(trust === undefined ? 'connect' : 'secureConnect', () => (this.#isConnected = true))
    this.#socket.on('data', (chunk: Buffer) => this.#received.push(chunk))
    this.#socket.on('error', () => (this.#isEnded = true))
    this.#socket.on('end', () => (this.#isEnded = true))
    this.#socket.on('close', () => (this.#isEnded = this.#isClosed = true))
  }

  get isEnded(): boolean {
    return this.#isEnded
  }

  get received(): Buffer {
    return Buffer.concat(this.#received)
  }

  get seen(): readonly SeenRequest[] {
    return this.#served?.seen ?? []
  }

  get problems(): readonly string[] {
    return this.#served?.problems ?? []
  }

  /** Settles when both sides are there. */
  async opened(): Promise<void> {
    await this.#until('opening', () => this.#isConnected && this.#find() !== undefined)
  }

  async send(bytes: Buffer): Promise<void> {
    if (this.#isEnded || bytes.length === 0) return
    this.#socket.write(bytes)
    await turn()
  }

  /** Settles when nothing moves any more, or the other side has ended the connection. */
  async quiet(): Promise<void> {
    let quiet = 0
    let before = -1
    await this.#until('moving', () => {
      const mark = this.#mark()
      quiet = mark >= 0 && mark === before ? quiet + 1 : 0
      before = mark
      return this.#isEnded || quiet >= quietTurns
    })
  }

  /** Ends the connection, and settles when both sides have. */
  async leave(how: 'end' | 'reset'): Promise<void> {
    if (how === 'end') this.#socket.end()
    else if (this.#below === this.#socket) this.#below.resetAndDestroy()
    else this.#socket.destroy()
    await this.closed()
  }

  async closed(): Promise<void> {
    await this.#until('closing', () => this.#isClosed && (!this.#served || this.#served.isClosed))
    this.#below.destroy()
    // What a request still does in later turns.
    while (this.#served && this.#served.waiting > 0) await turn()
  }

  #find(): ServedConnection | undefined {
    const { localAddress, localPort } = this.#below
    if (localAddress === undefined) return this.#served
    this.#served ??= this.#front.find({ address: localAddress, port: localPort } as AddressInfo)
    return this.#served
  }

  /** Another number whenever something has moved; -1 while something is on its way. */
  #mark(): number {
    const served = this.#served!
    const { socket } = served
    if (served.waiting > 0 || this.#socket.writableLength > 0 || socket.writableLength > 0) return -1
    if (socket.bytesRead !== this.#below.bytesWritten || socket.bytesWritten !== this.#below.bytesRead) return -1
    return served.steps + socket.bytesRead + socket.bytesWritten
  }

  async #until(what: string, isSo: () => boolean): Promise<void> {
    const from = performance.now()
    while (!this.stuckIn && !isSo()) {
      await turn()
      if (performance.now() - from > stuckMs) this.stuckIn = `${what}: ${this.#state()}`
    }
  }

  #state(): string {
    const { bytesRead, bytesWritten, localPort, writableLength } = this.#below
    const own = [this.#isConnected, this.#isEnded, this.#isClosed, localPort, bytesRead, bytesWritten, writableLength]
    const served = this.#served
    if (!served) return `${own.join()}, and nobody there`
    const { socket, waiting, isClosed, seen } = served
    const other = [isClosed, socket.bytesRead, socket.bytesWritten, socket.writableLength, waiting, seen.length]
    return `${own.join()} <> ${other.join()}`
  }
}

export async function play(stream: Stream, front: ServedFront, trust?: SecureContext): Promise<Observed> {
  const client = new Client(front, trust)
  await client.opened()
  const { bytes, cuts, waits, ending } = stream
  const places = [...new Set([...cuts, ...waits, bytes.length])].toSorted((a, b) => a - b)
  let from = 0
  for (const place of places) {
    await client.send(bytes.subarray(from, place))
    if (waits.includes(place)) await client.quiet()
    from = place
  }
  let end: Observed['end'] = 'open'
  if (ending === 'sentinel' || ending === 'quiet end' || ending === 'quiet reset') {
    await client.quiet()
    if (client.isEnded) end = 'ended'
    else if (ending === 'sentinel') {
      await client.send(sentinel)
      await client.quiet()
      if (client.isEnded) end = 'ended late'
    }
  }
  await client.leave(ending === 'reset' || ending === 'quiet reset' ? 'reset' : 'end')
  const { answers, rest } = answersIn(client.received)
  const problems = client.stuckIn ? [...client.problems, client.stuckIn] : client.problems
  return { answers, rest, end: client.stuckIn ? 'stuck' : end, seen: client.seen, problems }
}

const headEnd = Buffer.from('\r\n\r\n')
const statusLine = /^HTTP\/1\.1 (\d{3}) [ -~]+$/
const fieldLine = /^([\w-]+): ([\t -~\x80-\xff]*)$/

/** Takes answers off what was received, as strictly as can be. */
export function answersIn(received: Buffer): { readonly answers: readonly Answer[]; readonly rest: Buffer } {
  const answers: Answer[] = []
  let at = 0
  for (;;) {
    const end = received.indexOf(headEnd, at)
    if (end === -1) break
    const answer = answerAt(received, received.toString('latin1', at, end), end + 4)
    if (!answer) break
    answers.push(answer)
    at = end + 4 + answer.body.length
  }
  return { answers, rest: received.subarray(at) }
}

function answerAt(received: Buffer, head: string, bodyAt: number): Answer | undefined {
  const [first, ...lines] = head.split('\r\n')
  const status = Number(statusLine.exec(first!)?.[1])
  const fields = lines.map((line) => fieldLine.exec(line))
  if (Number.isNaN(status) || fields.includes(null)) return undefined
  const named = (name: string) => fields.filter((field) => field![1]!.toLowerCase() === name).map((field) => field![2]!)
  const hasBody = status >= 200 && status !== 204 && named('x-method').length === 0
  const length = hasBody ? Number(named('content-length').join()) : 0
  const needsLength = hasBody && named('content-length').length !== 1
  if (needsLength || named('transfer-encoding').length > 0 || bodyAt + length > received.length) return undefined
  return {
    status,
    fields: fields
      .map((field) => `${field![1]!.toLowerCase()}: ${field![2]!}`)
      .filter((field) => !field.startsWith('date: '))
      .toSorted(),
    connection: named('connection').join(),
    body: received.subarray(bodyAt, bodyAt + length),
    isByHand: status >= 200 && named('x-number').length === 0,
  }
}
