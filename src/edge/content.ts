/** What a request's head says about its body. */
import type { IncomingHttpHeaders } from 'node:http'
import { refuse, type Refusal } from '../core/refusal.ts'
import { readEncoding, type Encoding } from './compression.ts'

export interface Content {
  /** Bytes of JSON before the binary tensors; undefined if all of it is JSON. */
  readonly jsonBytes: number | undefined
  /** Of the body once it is decompressed; undefined if only its end will tell. */
  readonly length: number | undefined
  /** How it is compressed, if it is. */
  readonly encoding: Encoding | undefined
}

export interface BodyLimits {
  readonly maxBytes: number
  readonly maxInflatedBytes: number
  readonly maxInflation: number
}

/** The usual way to write it, told at a glance from what has to be looked at. */
const plainJson = 'application/json'
const jsonTypes = /^application\/(json|octet-stream)\s*(;|$)/i
/** Quotes around a parameter mean nothing (RFC 9110 section 5.6.6). */
const otherCharset = /;\s*charset\s*=(?!\s*"?(utf-8|us-ascii)"?\s*(;|$))/i

/** Reads the head's fields, or says what is wrong with them. */
export function readContent(headers: IncomingHttpHeaders, limits: BodyLimits): Content | Refusal {
  const type = headers['content-type']
  if (type !== undefined && type !== plainJson && (!jsonTypes.test(type) || otherCharset.test(type))) {
    return refuse(
      'unsupported_media',
      'send "content-type: application/json" in UTF-8 (or application/octet-stream with binary data)',
    )
  }
  const encoding = readEncoding(headers['content-encoding'])
  if (encoding === 'unknown') {
    return refuse('unsupported_media', 'this "content-encoding" is not spoken here: send gzip, deflate, zstd or none')
  }
  const sent = headers['content-length'] === undefined ? undefined : Number(headers['content-length'])
  if (sent !== undefined && sent > limits.maxBytes) return tooLarge(limits.maxBytes)
  const length = encoding ? undefined : sent
  const jsonBytes = readJsonLength(headers, length ?? (encoding ? limits.maxInflatedBytes : limits.maxBytes))
  if (jsonBytes === 'broken') {
    return refuse('invalid', '"inference-header-content-length" must be the number of JSON bytes in the body')
  }
  return { jsonBytes, length, encoding }
}

function readJsonLength(headers: IncomingHttpHeaders, most: number): number | undefined | 'broken' {
  const text = headers['inference-header-content-length']
  if (text === undefined) return undefined
  return typeof text === 'string' && /^\d{1,15}$/.test(text) && Number(text) <= most ? Number(text) : 'broken'
}

export function tooLarge(maxBytes: number): Refusal {
  return refuse('too_large', `the body is larger than ${maxBytes} bytes`)
}
