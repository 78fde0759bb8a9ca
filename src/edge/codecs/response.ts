/** An answer onto the wire: JSON, and binary tensors behind it where they were asked for. */
import type { Answer, WantedOutput } from '../../core/call.ts'
import { refuse, type Refusal } from '../../core/refusal.ts'
import { isStrings, stringAt, stringCount, type Tensor } from '../../core/tensor.ts'
import { writeBinary } from './binary.ts'

export interface Payload {
  readonly body: string | Uint8Array
  /** How many bytes of the body are JSON, if others follow. */
  readonly jsonBytes: number | undefined
}

export function encodeAnswer({ model, version, id, outputs, wanted }: Answer): Payload | Refusal {
  const tensors: string[] = []
  const binaries: Uint8Array[] = []
  for (const { name, binary } of wanted) {
    const tensor = outputs.find((output) => output.name === name)!
    const bytes = binary ? writeBinary(tensor.data) : undefined
    const data = bytes ? `"parameters":{"binary_data_size":${bytes.byteLength}}` : jsonData(tensor)
    if (data === undefined) return notFinite(name)
    tensors.push(`{"name":${quoted(name)},"datatype":"${tensor.datatype}","shape":[${tensor.shape.join()}],${data}}`)
    if (bytes) binaries.push(bytes)
  }
  const head = `{"model_name":${quoted(model)},"model_version":${quoted(version)},`
  const echo = id === undefined ? '' : `"id":${JSON.stringify(id)},`
  const json = `${head}${echo}"outputs":[${tensors.join()}]}`
  if (!hasBinary(wanted)) return { body: json, jsonBytes: undefined }
  const jsonPart = Buffer.from(json)
  return { body: Buffer.concat([jsonPart, ...binaries]), jsonBytes: jsonPart.byteLength }
}

function hasBinary(wanted: readonly WantedOutput[]): boolean {
  return wanted.some(({ binary }) => binary)
}

function notFinite(name: string): Refusal {
  return refuse('model_failed', `output "${name}" holds NaN or Infinity, which JSON cannot carry: ask for binary data`)
}

const utf8 = new TextDecoder('utf-8', { ignoreBOM: true })

/** Undefined if an element has no form in JSON. */
function jsonData({ datatype, data }: Tensor): string | undefined {
  if (isStrings(data)) {
    const elements = Array.from({ length: stringCount(data) }, (_, i) => JSON.stringify(utf8.decode(stringAt(data, i))))
    return `"data":[${elements.join()}]`
  }
  if (datatype === 'BOOL') return `"data":[${Array.from(data as Uint8Array, (bit) => bit === 1).join()}]`
  const float = data instanceof Float32Array || data instanceof Float64Array
  const text = float && data.includes(0) ? joinWithSigns(data) : data.join()
  // NaN, Infinity: no finite number is written with a capital letter.
  return /[NI]/.test(text) ? undefined : `"data":[${text}]`
}

/** `join` writes minus zero as 0, which is another number. */
function joinWithSigns(data: Float32Array | Float64Array): string {
  return Array.from(data, (element) => (Object.is(element, -0) ? '-0' : element)).join()
}

/** Names of models, versions and outputs as JSON. There are only so many of them. */
const quotes = new Map<string, string>()
function quoted(name: string): string {
  let text = quotes.get(name)
  if (text === undefined) quotes.set(name, (text = JSON.stringify(name)))
  return text
}
