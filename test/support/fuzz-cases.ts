/** Cases for the fuzzer: requests by the grammar of the protocol, of which many are then broken, cut at random. */
import { numerics, type Datatype } from '../../src/core/datatype.ts'
import type { Dim, Signature } from '../../src/core/signature.ts'
import type { DecodeOptions } from '../../src/edge/codecs/decoder.ts'
import { elementCount } from '../../src/core/tensor.ts'
import { byteStrings } from './client.ts'
import { drawFrom } from './draw.ts'

export interface Case {
  readonly body: Buffer
  readonly contract: Signature
  /** Undefined if all of the body is JSON, 0 if none of it is. */
  readonly jsonBytes: number | undefined
  readonly isChunked: boolean
  readonly cuts: readonly number[]
  readonly options: DecodeOptions
}

const limits: DecodeOptions = {
  json: { maxDepth: 6, maxValues: 90 },
  tensors: { maxRows: 300, maxElements: 20_000, maxStrings: 2_000, maxRank: 4 },
  nonFinite: false,
}

/** More would only take longer. */
const mostElements = 30_000

const datatypes = [...Object.keys(numerics), 'BYTES'] as Datatype[]
const shapes: readonly (readonly Dim[])[] = [
  ['n'],
  ['n', 2],
  ['n', 'm'],
  ['n', 2, 'm'],
  ['n', 'm', 1, 'k'],
  [2, 3],
  [''],
  ['n', ''],
  [],
]

const numbers = (
  '-0 0 -0.0 0e0 1e-400 -1e-400 1E+5 0.1e1 01 -01 1. .5 - + 1e 1e+ 0x1 1e999 -1e999 1e39 3.4028235e38 1e22 1e23 5e-324' +
  ' 3.4028235677973366e38 3.4028235677973365e38 1e-45 7.006492321624085e-46 2.4703282292062328e-324 16777217' +
  ' 9007199254740991 9007199254740993 9007199254740993.0 9223372036854775807 9223372036854775808 -9223372036854775808' +
  ' -9223372036854775809 18446744073709551615 18446744073709551616 1e3 7.0 12345678901234567e2 4294967295 999999999' +
  ' 1000000000 1.00000017881393432617187499 1.00000017881393432617187501 0.1e400 100000e-5 255 256 -128 -129 32768 65536'
).split(' ')
const words = 'NaN Infinity -Infinity -NaN nan Inf null true false tru nul [] {} [1] {"a":1} "" "1"'.split(' ')
const texts = [
  '',
  'a',
  'ü',
  '字',
  '😀',
  '\\n',
  '\\u00e9',
  '\\ud83d\\ude00',
  '\\ud800',
  '\\"',
  '\\/',
  '\\\\',
  '],[',
  '\\u0000',
]
const tokens = [
  ...'{ } [ ] " , : - + . e E 0 1 9 \\ / u t f n N I \n \t \u0000 \u0001 ü 😀 [[ ]] }} "" ,, [1] \\u \\ud800'.split(
    ' ',
  ),
  ' ',
  '\r',
  '"data":',
  '"name":"x",',
  '"__proto__":1,',
  '"inputs":[],',
  '"datatype":"FP32",',
  '"shape":[1],',
  '1e5',
  '\ufeff',
]

type Way = 'flat' | 'nested'

/** All that is drawn for one case. */
export class CaseMaker {
  readonly #below: (limit: number) => number
  /** Whether there are so many elements that memory must grow for them. */
  readonly #isLarge: boolean

  constructor(seed: number, index: number) {
    this.#below = drawFrom((Math.imul(seed, 0x9e3779b1) + index) | 0)
    this.#isLarge = this.#oneIn(80)
  }

  make(): Case {
    const contract = this.#contract()
    const isRaw = this.#oneIn(20)
    const { json, tail } = isRaw ? this.#raw(contract) : this.#request(contract)
    const broken = this.#oneIn(2) ? json : this.#mangle(json)
    const behind = this.#oneIn(12) ? this.#mangle(tail) : tail
    const body = Buffer.concat([broken, behind])
    const isAllJson = tail.length === 0 && this.#oneIn(2)
    const jsonBytes = isRaw ? 0 : isAllJson ? undefined : this.#nearly(broken.length)
    const options = this.#oneIn(4) ? { ...limits, nonFinite: true } : limits
    return { body, contract, jsonBytes, isChunked: this.#oneIn(3), cuts: this.#cuts(body.length), options }
  }

  #oneIn(many: number): boolean {
    return this.#below(many) === 0
  }

  #oneOf<T>(list: readonly T[]): T {
    return list[this.#below(list.length)]!
  }

  #shuffled<T>(list: readonly T[]): T[] {
    return list
      .map((each) => ({ each, at: this.#below(1e6) }))
      .toSorted((a, b) => a.at - b.at)
      .map(({ each }) => each)
  }

  #nearly(number: number): number {
    return this.#oneIn(40) ? Math.max(1, number + this.#below(5) - 2) : Math.max(1, number)
  }

  #contract(): Signature {
    const names = this.#oneIn(3) ? ['x', 'b', 'c'].slice(0, 2 + this.#below(2)) : ['x']
    const inputs = names.map((name) => ({ name, datatype: this.#oneOf(datatypes), shape: this.#oneOf(shapes) }))
    const output = { name: 'y', datatype: 'FP32', shape: ['n'] } as const
    const half = { name: 'h', datatype: 'FP16', shape: ['n'] } as const
    return { inputs, outputs: this.#oneIn(8) ? [output, half] : [output] }
  }

  #size(): number {
    if (this.#isLarge) return 10 + this.#below(50)
    if (this.#oneIn(150)) return 1 + this.#below(310)
    return this.#oneIn(60) ? this.#below(2) * 60 : 1 + this.#below(3)
  }

  #request({ inputs }: Signature): { json: Buffer; tail: Buffer } {
    const bound = new Map<string, number>()
    const tails: Buffer[] = []
    const listed = this.#oneIn(40) ? [...inputs, this.#oneOf(inputs)] : this.#shuffled(inputs)
    if (this.#oneIn(60)) listed.pop()
    const described = listed.map(({ name, datatype, shape: dims }) => {
      const shape = dims.map((dim) => {
        if (typeof dim === 'number') return dim
        if (dim === '' || this.#oneIn(80)) return this.#size()
        if (!bound.has(dim)) bound.set(dim, this.#size())
        return bound.get(dim)!
      })
      if (this.#oneIn(100)) shape.push(1)
      if (elementCount(shape) > mostElements) shape.fill(1)
      const keys = [`"name":"${this.#oneIn(80) ? 'z' : name}"`, `"datatype":"${this.#oneIn(80) ? 'FP32' : datatype}"`]
      keys.push(`"shape":${this.#space()}[${shape.join()}]`)
      const count = elementCount(shape)
      if (datatype === 'FP16' ? !this.#oneIn(10) : this.#oneIn(4)) {
        const wire = this.#wire(datatype, count)
        tails.push(wire)
        keys.push(`"parameters":{"binary_data_size":${this.#oneIn(40) ? this.#below(20) : wire.length}}`)
      } else keys.push(`"data":${this.#space()}${this.#data(datatype, shape)}`)
      if (this.#oneIn(10)) keys.push(`"odd":${this.#value(2)}`)
      return this.#object(keys)
    })
    const keys = [`"inputs":${this.#list(described)}`]
    if (this.#oneIn(3)) keys.push(`"id":"${this.#text()}"`)
    if (this.#oneIn(6))
      keys.push(
        `"parameters":{"${this.#oneOf(['binary_data_output', 'a', 'sequence_id'])}":${this.#oneOf(['true', 'false', '0'])}}`,
      )
    if (this.#oneIn(6))
      keys.push(`"outputs":[{"name":"y","parameters":{"binary_data":${this.#oneOf(['true', 'false', '1'])}}}]`)
    if (this.#oneIn(6)) keys.push(`"${this.#text()}":${this.#value(0)}`)
    return { json: Buffer.from(`${this.#space()}${this.#object(keys)}${this.#space()}`), tail: Buffer.concat(tails) }
  }

  #raw({ inputs }: Signature): { json: Buffer; tail: Buffer } {
    const { datatype, shape } = inputs[0]!
    const count = elementCount(shape.filter((dim) => typeof dim === 'number')) * this.#size()
    const wire = this.#wire(datatype, count)
    return { json: Buffer.alloc(0), tail: datatype === 'BYTES' ? wire.subarray(4) : wire }
  }

  #wire(datatype: Datatype, count: number): Buffer {
    if (datatype === 'BYTES') {
      const one = () => byteStrings(this.#oneOf(texts).repeat(this.#below(3)))
      return Buffer.concat(Array.from({ length: count }, one))
    }
    const wire = Buffer.alloc(count * numerics[datatype].bytes)
    const top = datatype === 'BOOL' ? 2 : 256
    for (let i = 0; i < wire.length; i++) wire[i] = this.#below(top)
    return wire
  }

  #data(datatype: Datatype, shape: readonly number[]): string {
    const way: Way = shape.length > 1 && this.#oneIn(2) ? 'nested' : 'flat'
    if (way === 'nested') return this.#nested(datatype, shape)
    const count = elementCount(shape) + (this.#oneIn(40) ? this.#below(3) - 1 : 0)
    return this.#list(Array.from({ length: Math.max(0, count) }, () => this.#element(datatype)))
  }

  #nested(datatype: Datatype, [size, ...rest]: readonly number[]): string {
    const length = this.#oneIn(200) ? this.#below(4) : size!
    const isLast = rest.length === 0 || this.#oneIn(200)
    const parts = Array.from({ length }, () => (isLast ? this.#element(datatype) : this.#nested(datatype, rest)))
    return this.#list(parts)
  }

  #element(datatype: Datatype): string {
    if (this.#oneIn(150)) return this.#oneOf(words)
    if (datatype === 'BYTES') return this.#oneIn(2_000) ? `"${this.#text().repeat(700)}"` : `"${this.#text()}"`
    if (datatype === 'BOOL') return this.#oneOf(['true', 'false'])
    if (this.#oneIn(400)) return this.#long()
    if (numerics[datatype].float) return this.#oneIn(40) ? this.#oneOf(words.slice(0, 3)) : this.#number()
    if (this.#oneIn(30)) return this.#number()
    const { min, max } = numerics[datatype]
    if (this.#oneIn(8))
      return String(this.#oneOf([min, max, min, max, 0n, 7n]) + BigInt(this.#oneIn(12) ? this.#below(3) - 1 : 0))
    return String(this.#below(Math.min(Number(max) + 1, 2 ** 53)))
  }

  #number(): string {
    const kind = this.#below(6)
    if (kind === 0) return this.#oneIn(4) ? this.#oneOf(numbers) : String(this.#below(1000))
    if (kind === 1) return String(Math.fround((this.#below(2 ** 30) / 2 ** 15 - 2 ** 14) / (1 + this.#below(99))))
    if (kind === 2)
      return `${this.#oneOf(['', '-'])}${this.#below(1e9)}.${this.#below(1e9)}${this.#below(1e9)}${this.#oneOf(['', '', `e${this.#below(60) - 30}`])}`
    if (kind === 3) return (this.#below(2e9) / 1e7 - 100).toFixed(this.#below(12))
    if (kind === 4) return `0.${'0'.repeat(this.#below(12))}${this.#below(2 ** 31)}`
    return String((this.#below(2 ** 31) / 2 ** 20) * 2 ** (this.#below(200) - 100))
  }

  /** About as long as a number may be. */
  #long(): string {
    const length = 2_048 + this.#below(9) - 4
    const start = this.#oneOf(['1.', '0.', '-0.', '1', '0', '1e', '1e-', '0.0e+0', '1.5x', '"', '-', ''])
    return start.padEnd(length, this.#oneOf(['0', '1', '3', '0', 'x', '[']))
  }

  #text(): string {
    return Array.from({ length: this.#below(4) }, () => this.#oneOf(texts)).join('')
  }

  #value(depth: number): string {
    const kind = this.#below(depth > 4 ? 4 : 6)
    if (kind === 0) return this.#oneIn(20) ? this.#long() : this.#number()
    if (kind === 1) return this.#oneOf(words)
    if (kind <= 3) return `"${this.#text()}"`
    const parts = Array.from({ length: this.#below(this.#oneIn(20) ? 90 : 4) }, () => this.#value(depth + 1))
    return kind === 4
      ? this.#list(parts)
      : this.#object(parts.map((part, i) => `"${this.#oneIn(9) ? this.#text() : i}":${part}`))
  }

  #space(): string {
    return this.#oneIn(6) ? this.#oneOf([' ', '\n', '\r\n\t', '  ', ' '.repeat(70)]) : ''
  }

  #list(parts: readonly string[]): string {
    if (parts.length > 50) return `[${parts.join(this.#oneOf([',', ', ', ',\n']))}]`
    return `[${parts.map((part) => `${this.#space()}${part}${this.#space()}`).join()}]`
  }

  #object(keys: readonly string[]): string {
    return `{${this.#shuffled(keys)
      .map((key) => `${this.#space()}${key}${this.#space()}`)
      .join()}}`
  }

  #mangle(bytes: Buffer): Buffer {
    let mangled: Buffer = Buffer.from(bytes)
    for (let i = this.#below(3); i >= 0; i--) mangled = this.#mangleOnce(mangled)
    return mangled
  }

  #mangleOnce(bytes: Buffer): Buffer {
    const at = this.#below(bytes.length + 1)
    const [before, behind] = [bytes.subarray(0, at), bytes.subarray(at)]
    const some = behind.subarray(0, 1 + this.#below(this.#oneIn(4) ? 60 : 4))
    const kind = this.#below(9)
    if (kind === 0) return before
    if (kind === 1) return Buffer.concat([before, behind.subarray(some.length)])
    if (kind <= 3) return Buffer.concat([before, Buffer.from(this.#oneOf(tokens)), behind])
    if (kind === 4) return Buffer.concat([before, Buffer.from(this.#oneIn(30) ? this.#long() : this.#number()), behind])
    if (kind === 5) return Buffer.concat([before, some, behind])
    if (kind === 6)
      return Buffer.concat([
        before,
        ...Array<Buffer>(this.#oneIn(30) ? 2_100 : this.#below(40)).fill(some.subarray(0, 3)),
        behind,
      ])
    if (kind === 7) return Buffer.concat([before, Buffer.of(this.#below(256)), behind.subarray(this.#below(2))])
    const flipped = Buffer.from(bytes)
    if (at < bytes.length) flipped[at]! ^= 1 << this.#below(8)
    return flipped
  }

  #cuts(length: number): number[] {
    if (length < 2) return []
    const kind = this.#below(8)
    if (kind === 0 && length < 3_000) return Array.from({ length: length - 1 }, (_, i) => i + 1)
    const step = 1 + this.#below(700)
    if (kind === 1) return Array.from({ length: Math.ceil(length / step) - 1 }, (_, i) => (i + 1) * step)
    const cuts = Array.from({ length: 1 + this.#below(6) }, () => 1 + this.#below(length - 1))
    return [...new Set(cuts)].toSorted((a, b) => a - b)
  }
}
