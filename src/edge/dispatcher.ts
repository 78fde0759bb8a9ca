/**
 * What becomes of a request, whatever version of HTTP it came by: its target is looked up, and then it is run, or
 * answered from what is known, or refused. Knows the protocol's words and no policy.
 */
import { Arena } from '../core/arena.ts'
import type { Answer } from '../core/call.ts'
import type { Caller } from '../core/caller.ts'
import type { Clock } from '../core/clock.ts'
import { isRefusal, refuse, type Refusal } from '../core/refusal.ts'
import { infer } from '../pipeline.ts'
import { HttpCall, readDocument, type CallTools } from './call.ts'
import { sliceBytes } from './codecs/decoder.ts'
import { countOf } from './codecs/element-writers.ts'
import { AnswerEncoder, type Payload } from './codecs/response.ts'
import { Cors, isPreflight } from './cors.ts'
import { chooseEncoding, compress } from './compression.ts'
import { health, inform, View, type Question, type Said } from './metadata.ts'
import { accepts, readRequestId, readUrgency } from './negotiation.ts'
import { passOn } from './feedback.ts'
import type { EdgeOptions } from './options.ts'
import type { Exchange } from './exchange.ts'
import { Reply } from './reply.ts'
import {
  accessTo,
  allMethods,
  allowOf,
  findOperation,
  isOpen,
  noProxy,
  noSuchPath,
  type OpenOperation,
  type Operation,
} from './routes.ts'
import type { Serving } from './serving.ts'
import { Sweep } from './sweep.ts'
import { clientOf } from './transport/addresses.ts'
import type { FileProblem } from './transport/certificates.ts'
import type { Intake } from './transport/intake.ts'
import { Turns } from './turns.ts'

export interface Surroundings {
  readonly serving: Serving
  readonly clock: Clock
  /** Told of defects: errors that should have been refusals. */
  readonly onDefect: (error: unknown, requestId: string) => void
  /** Told of certificates that cannot be used; the ones before stay in use. */
  readonly onProblem: (problem: FileProblem) => void
}

/** How the edge is doing. */
interface State {
  readonly isDraining: () => boolean
  readonly intake: Pick<Intake, 'turnMs'>
}

/** Answers to inference may be either. */
const inferTypes = ['application/json', 'application/octet-stream']
const jsonOnly = ['application/json']
const noFields: readonly string[] = []
const nothing = () => undefined
/** A request and its answer are under way for so long, or for a part of what the client gives if that is less. */
const networkMs = 1
const networkPart = 0.05
/** Answers with no more elements in each output need not wait for a turn. */
const writtenAtOnce = 2_048

export class Dispatcher {
  readonly #options: EdgeOptions
  readonly #around: Surroundings
  readonly #isDraining: () => boolean
  readonly #intake: Pick<Intake, 'turnMs'>
  readonly #tools: CallTools
  readonly #cors: Cors | undefined
  #requests = 0

  constructor(options: EdgeOptions, around: Surroundings, { isDraining, intake }: State) {
    const { clock } = around
    const { body, json, tensors, cors } = options
    this.#options = options
    this.#around = around
    this.#isDraining = isDraining
    this.#intake = intake
    this.#tools = {
      limits: body,
      turns: new Turns(clock),
      sweep: new Sweep(clock),
      arena: new Arena(body.maxHeldBytes),
      decoding: { json, tensors, nonFinite: json.nonFinite === 'literal' },
    }
    this.#cors = cors && new Cors(cors, around.serving.proofs.apiKey)
    const { arena } = this.#tools
    around.serving.counts.heldBytes = () => arena.heldBytes
  }

  /** Answers, sooner or later. `flaw` is what the protocol itself has against the request. */
  readonly handle = (exchange: Exchange, flaw?: Refusal): void => {
    const { headers } = exchange
    const requestId = readRequestId(headers['x-request-id']) ?? this.#nextId()
    const reply = new Reply(exchange, requestId, this.#cors?.fields(headers) ?? noFields)
    try {
      const operation = flaw ? undefined : findOperation(exchange.target, exchange.host)
      const client = this.#around.serving.screen(headers, exchange.origin, exchange.peer)
      // That of a connection has this form already.
      const peer = client === exchange.peer ? client : clientOf(client)
      if (!operation) this.#handleOddity(exchange, reply, flaw)
      else if (isInference(operation, exchange.method))
        this.#handleInfer(exchange, { address: operation.address, peer }, reply)
      else
        this.#handleQuestion(exchange, { ...operation, peer }, reply).catch((error: unknown) =>
          reply.refusal(this.#defect(error, requestId)),
        )
    } catch (error) {
      reply.refusal(this.#defect(error, requestId))
    }
  }

  #handleOddity({ method, target }: Exchange, reply: Reply, flaw: Refusal | undefined): void {
    if (flaw) reply.refusal(flaw)
    else if (method === 'CONNECT') reply.refusal(noProxy(), ['allow', allMethods])
    else if (method === 'OPTIONS' && target === '*') reply.empty(204, ['allow', allMethods])
    else reply.refusal(noSuchPath())
  }

  #handleInfer(exchange: Exchange, asked: Inferring, reply: Reply): void {
    if (!accepts(exchange.headers.accept, inferTypes)) reply.refusal(notAcceptable())
    else
      this.#infer(exchange, asked, reply).catch((error: unknown) => reply.refusal(this.#defect(error, reply.requestId)))
  }

  /** Everything but inference, and what is asked with a method that does not fit. */
  async #handleQuestion(exchange: Exchange, asked: Asked<Operation>, reply: Reply): Promise<void> {
    const { serving } = this.#around
    const { method, headers, origin } = exchange
    const isDraining = this.#isDraining()
    const tell = (ask: () => Said | Refusal | undefined) => this.#tell(exchange, asked.kind, reply, ask)
    if (isOpen(asked)) return tell(() => health(asked.kind, serving, isDraining))
    // A browser asks whether it may before it shows who is calling: it is told nothing but what the path takes.
    if (isPreflight(exchange)) return tell(nothing)
    const caller = await serving.steps.identify({ headers, origin, peer: asked.peer })
    if (isRefusal(caller)) return method === 'OPTIONS' ? tell(nothing) : reply.refusal(caller)
    const found = 'address' in asked ? find(serving, caller, asked) : undefined
    if (isRefusal(found)) return reply.refusal(found)
    if (asked.kind === 'feedback' && method === 'POST') return this.#takeFeedback(exchange, caller, reply)
    return tell(() => (isQuestion(asked) ? inform(asked, new View(serving, caller), isDraining) : undefined))
  }

  /** Tells what is asked, if it is asked in the right way; undefined if that cannot be asked. */
  #tell(exchange: Exchange, kind: Operation['kind'], reply: Reply, ask: () => Said | Refusal | undefined): void {
    const { method, headers } = exchange
    const allow = allowOf(kind)
    const said = method === 'GET' || method === 'HEAD' ? ask() : undefined
    if (method === 'OPTIONS')
      reply.empty(204, ['allow', allow, ...(this.#cors?.preflight(exchange, allow) ?? noFields)])
    else if (!said) reply.refusal(refuse('method_not_allowed', `this path takes ${allow}`), ['allow', allow])
    else if (!accepts(headers.accept, jsonOnly)) reply.refusal(notAcceptable())
    else if (isRefusal(said)) reply.refusal(said)
    else reply.json(said.status, said.body)
  }

  /** What is told of predictions counts against the limits of whoever tells it. */
  async #takeFeedback(exchange: Exchange, caller: Caller, reply: Reply): Promise<void> {
    const { serving, clock } = this.#around
    const { limits } = serving.steps
    if (!accepts(exchange.headers.accept, jsonOnly)) return reply.refusal(notAcceptable())
    const permit = await limits.admit({ caller, route: 'feedback', model: '', priority: 'standard' })
    if (isRefusal(permit)) return reply.refusal(permit)
    try {
      const body = await readDocument(exchange, clock.now() + this.#options.body.timeoutMs, this.#tools)
      const taken = isRefusal(body) ? body : await passOn(serving, { ...body, caller }, this.#tools.turns)
      if (exchange.gone) return
      if (isRefusal(taken)) reply.refusal(taken)
      else reply.json(200, taken)
    } finally {
      permit.release(0)
    }
  }

  async #infer(exchange: Exchange, { address, peer }: Inferring, reply: Reply): Promise<void> {
    const { serving } = this.#around
    const { deadlineMs, body } = this.#options
    const { requestId } = reply
    const journal = serving.open()
    exchange.onClosed(() => journal.close())
    const { arrivedAt } = journal
    const urgency = readUrgency(exchange.headers)
    if (isRefusal(urgency)) {
      journal.settle(urgency.code)
      reply.refusal(urgency)
      return
    }
    const { timeoutMs, priority } = urgency
    const deadline = arrivedAt + Math.min(deadlineMs, timeoutMs - this.#underWayMs(timeoutMs))
    const facts = { requestId, address, peer, arrivedAt, deadline, bodyDeadline: arrivedAt + body.timeoutMs, priority }
    const call = new HttpCall(exchange, facts, this.#tools)
    let payload: Payload | Refusal
    try {
      const answer = await infer(call, serving.steps, journal)
      if (!isRefusal(answer)) reply.answer = answer
      // Its inputs are copied into a batch by now, or nobody will run them.
      call.release()
      const encoded = isRefusal(answer) ? answer : this.#encode(answer)
      // What is large is encoded in slices.
      payload = encoded instanceof Promise ? await encoded : encoded
    } catch (error) {
      call.release()
      payload = this.#defect(error, requestId)
    }
    journal.settle(isRefusal(payload) ? payload.code : reply.answer?.fallback ? 'fallback' : 'ok')
    if (exchange.gone) return
    if (isRefusal(payload)) reply.refusal(payload)
    else if (this.#isLarge(payload)) await this.#sendCompressed(exchange, payload, reply)
    else reply.payload(payload)
  }

  /**
   * Of the time that a client gives, what goes before the request is read and after it is answered: nobody knows it better
   * than a guess at the network, and a turn of the event loop.
   */
  #underWayMs(timeoutMs: number): number {
    return timeoutMs === Infinity ? 0 : Math.min(networkMs, networkPart * timeoutMs) + this.#intake.turnMs
  }

  #encode(answer: Answer): Payload | Refusal | Promise<Payload | Refusal> {
    const encoder = new AnswerEncoder(answer, this.#tools.decoding)
    const { turns } = this.#tools
    const isSmall = answer.outputs.every(({ data }) => countOf(data) <= writtenAtOnce)
    const whole = isSmall || turns.take(sliceBytes) ? encoder.next() : undefined
    return whole ?? turns.inSlices(sliceBytes, () => encoder.next())
  }

  #isLarge({ pieces }: Payload): boolean {
    const { compressBytes } = this.#options
    return compressBytes > 0 && pieces.reduce((sum, { length }) => sum + length, 0) >= compressBytes
  }

  async #sendCompressed(exchange: Exchange, { pieces, jsonBytes }: Payload, reply: Reply): Promise<void> {
    const encoding = chooseEncoding(exchange.headers['accept-encoding'])
    const sent = encoding ? await compress(pieces, encoding) : pieces
    if (!exchange.gone) reply.payload({ pieces: sent, jsonBytes }, encoding)
  }

  /** What should have been a refusal and was thrown. */
  #defect(error: unknown, requestId: string): Refusal {
    this.#around.onDefect(error, requestId)
    return refuse('internal', 'a defect of the gateway; its log says more')
  }

  #nextId(): string {
    return `${processTag}-${(this.#requests++).toString(36)}`
  }
}

/** An operation, and whose request it is. */
type Asked<O extends Operation> = O & { readonly peer: string }

type Inferring = Pick<Asked<Inference>, 'address' | 'peer'>

/** What an address stands for to a caller, or why for nothing. */
function find({ steps: { router, access } }: Serving, caller: Caller, { kind, address }: ModelQuestion): unknown {
  const route = router.route(address)
  if (isRefusal(route)) return route
  return access.bars(caller, accessTo(kind), route, address) ?? router.standard(route)
}

type ModelQuestion = Extract<Operation, { address: unknown }>
type Inference = ModelQuestion & { readonly kind: 'infer' }

function isInference(operation: Operation, method: string): operation is Inference {
  return operation.kind === 'infer' && method === 'POST'
}

function isQuestion(operation: Exclude<Operation, { kind: OpenOperation }>): operation is Question {
  return operation.kind !== 'infer' && operation.kind !== 'feedback'
}

function notAcceptable(): Refusal {
  return refuse('not_acceptable', 'the answer is application/json: let "accept" include it')
}

/** Tells this process's requests from another's in a log that holds both. */
const processTag = Math.floor(performance.timeOrigin).toString(36)
