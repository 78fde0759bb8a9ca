/**
 * Clients in a process of its own that put a number into each request, and look for it in the answer: whether every request
 * is answered, once, and with its own answer. Some ask again a while after each answer; others when it is due, whatever
 * became of the last, and their latency counts from then.
 */
import { constants, setPriority } from 'node:os'
import { connect, type Socket } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import { seeded } from '../../test/support/draw.ts'
import { numberedRequest, type Asked } from './numbers.ts'
import { onTheWire } from './requests.ts'
import { percentilesOf } from './open-loop/tally.ts'

export interface ClientsOrder {
  /** Their figures are counted together. */
  readonly group: string
  readonly clients: number
  readonly asked: Asked
  /** Pause behind each answer; or how many requests are due in a second, of all clients together. */
  readonly pace: { readonly pauseMs: number } | { readonly perSecond: number }
}

export type NumberedOrder =
  | { readonly kind: 'open'; readonly port: number; readonly clients: readonly ClientsOrder[] }
  | { readonly kind: 'start' }
  /** Lets everything be answered, and reports what there was since `start`. */
  | { readonly kind: 'stop' }

export interface GroupReport {
  readonly requests: number
  readonly ok: number
  /** By status, other than 200. */
  readonly refused: Readonly<Record<string, number>>
  /** 200 with anything else than this request's answer. */
  readonly wrong: number
  /** No answer: the connection ended first, or nothing came for very long. */
  readonly lost: number
  /** Bytes that came when nothing was asked. */
  readonly surplus: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly maxMs: number
}

const answerWithinMs = 30_000

class Tally {
  requests = 0
  ok = 0
  wrong = 0
  lost = 0
  surplus = 0
  readonly refused: Record<string, number> = {}
  readonly latencies: number[] = []

  report(): GroupReport {
    const { requests, ok, wrong, lost, surplus, refused, latencies } = this
    const { p50, p99 } = percentilesOf(latencies)
    const maxMs = latencies.reduce((most, each) => Math.max(most, each), 0)
    return { requests, ok, wrong, lost, surplus, refused, p50Ms: p50, p99Ms: p99, maxMs }
  }
}

interface Answer {
  readonly status: number
  readonly head: string
  readonly body: Buffer
}

class Connection {
  /** Told of bytes that nobody asked for. */
  onSurplus: () => void = () => {}
  readonly #socket: Socket
  #chunks: Buffer[] = []
  #settle: ((answer: Answer | undefined) => void) | undefined

  constructor(port: number) {
    this.#socket = connect({ port, host: '127.0.0.1', noDelay: true })
    this.#socket.on('data', (chunk: Buffer) => this.#take(chunk))
    this.#socket.on('error', () => undefined)
    this.#socket.on('close', () => this.#done(undefined))
  }

  get isOpen(): boolean {
    return !this.#socket.destroyed
  }

  /** Undefined if there is no answer. */
  ask(request: Uint8Array): Promise<Answer | undefined> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#socket.destroy(), answerWithinMs)
      this.#settle = (answer) => {
        clearTimeout(timer)
        resolve(answer)
      }
      if (this.isOpen) this.#socket.write(request)
      else this.#done(undefined)
    })
  }

  #take(chunk: Buffer): void {
    if (!this.#settle) return this.onSurplus()
    this.#chunks.push(chunk)
    const all = this.#chunks.length === 1 ? chunk : Buffer.concat(this.#chunks)
    this.#chunks = [all]
    const headEnd = all.indexOf('\r\n\r\n')
    if (headEnd < 0) return
    const head = all.toString('latin1', 0, headEnd)
    const bodyAt = headEnd + 4
    const end = bodyAt + Number(/\r\ncontent-length: (\d+)/i.exec(head)?.[1])
    if (all.length < end) return
    if (all.length > end) this.onSurplus()
    this.#done({ status: Number(head.slice(9, 12)), head, body: all.subarray(bodyAt, end) })
  }

  #done(answer: Answer | undefined): void {
    const settle = this.#settle
    this.#settle = undefined
    this.#chunks = []
    settle?.(answer)
  }
}

/** All clients draw from it: no number is used twice. */
let lastNumber = 0
let tallies = new Map<string, Tally>()
let running: Promise<void>[] = []
let isRunning = false
const clients: Client[] = []

function tallyOf(group: string): Tally {
  const known = tallies.get(group)
  if (known) return known
  const fresh = new Tally()
  tallies.set(group, fresh)
  return fresh
}

class Client {
  readonly #order: ClientsOrder
  readonly #port: number
  readonly #draw: () => number
  #connection: Connection

  constructor(order: ClientsOrder, port: number, seed: number) {
    this.#order = order
    this.#port = port
    this.#draw = seeded(seed)
    this.#connection = this.#connect()
  }

  /** Asks until it is told to stop. */
  async go(): Promise<void> {
    const { pace, clients: among } = this.#order
    const gap = () =>
      'pauseMs' in pace ? pace.pauseMs : (-Math.log(1 - this.#draw()) * among * 1_000) / pace.perSecond
    let dueAt = performance.now() + this.#draw() * gap()
    for (;;) {
      const early = dueAt - performance.now()
      if (early > 0) await pause(early)
      if (!isRunning) return
      await this.#askOnce('pauseMs' in pace ? performance.now() : dueAt)
      dueAt = ('pauseMs' in pace ? performance.now() : dueAt) + gap()
    }
  }

  async #askOnce(dueAt: number): Promise<void> {
    const { group, asked } = this.#order
    const tally = tallyOf(group)
    const number = ++lastNumber
    const { request, expected } = numberedRequest(asked, number)
    tally.requests++
    if (!this.#connection.isOpen) this.#connection = this.#connect()
    const answer = await this.#connection.ask(onTheWire(`127.0.0.1:${this.#port}`, request))
    if (!answer) {
      tally.lost++
    } else if (answer.status !== 200) {
      tally.refused[answer.status] = (tally.refused[answer.status] ?? 0) + 1
    } else if (isOwn(answer, number, expected)) {
      tally.ok++
      tally.latencies.push(performance.now() - dueAt)
    } else {
      tally.wrong++
    }
  }

  #connect(): Connection {
    const connection = new Connection(this.#port)
    connection.onSurplus = () => tallyOf(this.#order.group).surplus++
    return connection
  }
}

function isOwn({ head, body }: Answer, number: number, expected: Uint8Array): boolean {
  const jsonBytes = Number(/\r\ninference-header-content-length: (\d+)/i.exec(head)?.[1])
  const json = body.toString('utf8', 0, jsonBytes)
  return json.includes(`"id":"${number}"`) && body.subarray(jsonBytes).equals(expected)
}

async function obey(order: NumberedOrder): Promise<unknown> {
  if (order.kind === 'open') {
    for (const each of order.clients) {
      for (let i = 0; i < each.clients; i++) clients.push(new Client(each, order.port, clients.length + 1))
    }
  } else if (order.kind === 'start') {
    tallies = new Map()
    isRunning = true
    running = clients.map((client) => client.go())
  } else {
    isRunning = false
    await Promise.all(running)
    return Object.fromEntries([...tallies].map(([group, tally]) => [group, tally.report()]))
  }
  return true
}

/** As other machines would not wait for a core behind the server. */
function goFirst(): void {
  try {
    setPriority(constants.priority.PRIORITY_HIGHEST)
  } catch {
    // Needs CAP_SYS_NICE.
  }
}

goFirst()
process.on('message', (order) => {
  void obey(order as NumberedOrder).then((reply) => process.send!(reply))
})
