/**
 * llhttp, the parser that Node has too, as the WebAssembly build that the package `undici` carries: a
 * release of its own, which differs from that of `node:http` in few things (`byte-streams-differences.ts` among the
 * tests lists them). It stops where a head ends, and where a message does.
 */
import { createRequire } from 'node:module'
import { ERROR, METHODS, TYPE } from 'undici/lib/llhttp/constants.js'

/** Told where in the bytes that are being parsed something is; a thing may come in several parts. */
export interface Spans {
  target(from: number, to: number): void
  name(from: number, to: number): void
  value(from: number, to: number): void
  /** Of a body in chunks. */
  data(from: number, to: number): void
}

export type Outcome =
  /** All was taken, and more is needed. */
  | 'partial'
  /** The head, or the message, ends at `position`. */
  | 'whole'
  /** This is not HTTP/1.1. */
  | 'broken'

interface Exports {
  readonly memory: { readonly buffer: ArrayBuffer }
  malloc(bytes: number): number
  llhttp_alloc(type: number): number
  llhttp_free(state: number): void
  llhttp_reset(state: number): void
  llhttp_resume(state: number): void
  llhttp_execute(state: number, at: number, length: number): number
  llhttp_get_error_pos(state: number): number
  llhttp_get_method(state: number): number
  llhttp_get_http_major(state: number): number
  llhttp_get_http_minor(state: number): number
}

/** What is used of it here; the types of Node have none for it. */
declare const WebAssembly: {
  readonly Module: new (code: Uint8Array) => object
  readonly Instance: new (module: object, imports: object) => { readonly exports: Exports }
}

type Callback = (state: number, at: number, length: number) => number

/** So many bytes at most are parsed at once. */
export const windowBytes = 65_536

const proceed = 0
const pause = ERROR['PAUSED']!
/** Likewise, where the client has offered another protocol. */
const pauseForUpgrade = ERROR['PAUSED_UPGRADE']!
const methodNames = new Map(Object.entries(METHODS).map(([name, code]) => [code, name]))

/** Callbacks do not say whose they are but by number; nothing is parsed meanwhile. */
let spans: Spans
const wasm = instantiate()
const input = wasm.malloc(windowBytes)
/** Where what is parsed has to be. */
let window = new Uint8Array(wasm.memory.buffer, input, windowBytes)

export class Llhttp {
  /** Where in the bytes it stopped. */
  position = 0
  readonly #state = wasm.llhttp_alloc(TYPE['REQUEST']!)

  /** Parses at most `windowBytes`. */
  execute(bytes: Uint8Array, told: Spans): Outcome {
    // Memory that has grown is another one.
    if (window.length === 0) window = new Uint8Array(wasm.memory.buffer, input, windowBytes)
    window.set(bytes)
    spans = told
    const code = wasm.llhttp_execute(this.#state, input, bytes.length)
    this.position = code === 0 ? bytes.length : wasm.llhttp_get_error_pos(this.#state) - input
    if (code === 0) return 'partial'
    return code === pause || code === pauseForUpgrade ? 'whole' : 'broken'
  }

  /** Goes on behind the head. */
  resume(): void {
    wasm.llhttp_resume(this.#state)
  }

  /** Begins with a new message. */
  reset(): void {
    wasm.llhttp_reset(this.#state)
  }

  free(): void {
    wasm.llhttp_free(this.#state)
  }

  get method(): string {
    return methodNames.get(wasm.llhttp_get_method(this.#state))!
  }

  get version(): string {
    const major = wasm.llhttp_get_http_major(this.#state)
    const minor = wasm.llhttp_get_http_minor(this.#state)
    return major === 1 && minor === 1 ? '1.1' : `${major}.${minor}`
  }
}

function instantiate(): Exports {
  const code = createRequire(import.meta.url)('undici/lib/llhttp/llhttp_simd-wasm.js') as Uint8Array
  const tell =
    (name: keyof Spans): Callback =>
    (_, at, length) => {
      spans[name](at - input, at - input + length)
      return proceed
    }
  const env: Record<string, Callback> = {
    wasm_on_message_begin: () => proceed,
    wasm_on_url: tell('target'),
    wasm_on_status: () => proceed,
    wasm_on_header_field: tell('name'),
    wasm_on_header_value: tell('value'),
    wasm_on_headers_complete: () => pause,
    wasm_on_body: tell('data'),
    wasm_on_message_complete: () => pause,
  }
  return new WebAssembly.Instance(new WebAssembly.Module(code), { env }).exports
}
