/**
 * Golden cases: what a version's author has computed elsewhere, and what it must answer here before it is given requests.
 * They find what loads and runs and is wrong all the same: another opset, another provider, a mapping in the wrong order.
 */
import { readFile, stat } from 'node:fs/promises'
import type { Mistake } from '../core/document.ts'
import { elementAt } from '../core/elements.ts'
import type { Run } from '../core/run.ts'
import { showShape, type Program, type Signature } from '../core/signature.ts'
import { isStrings, stringAt, stringCount, type Tensor } from '../core/tensor.ts'
import { readCase, type GoldenCase, type Tolerance } from './golden-case.ts'
import type { Bundle } from './store.ts'

/** Most cases of a version, and most bytes of each. */
const maxCases = 64
const maxCaseBytes = 4 * 2 ** 20

export interface Trial {
  readonly bundle: Pick<Bundle, 'file' | 'golden'>
  readonly contract: Signature
  /** Its cases are read but not run if it is not repeatable: a run of it does more than answer. */
  readonly program: Program
}

/** Runs each case alone; returns what is wrong with the cases, or with the version by their word. */
export async function tryGolden({ bundle, contract, program }: Trial, run: Run): Promise<Mistake[]> {
  const { file: graph, golden } = bundle
  if (golden.length > maxCases)
    return [{ file: graph, message: `it has ${golden.length} golden cases: ${maxCases} are the most` }]
  const mistakes: Mistake[] = []
  // One after another, so that no more than one is held in memory.
  for (const file of golden) {
    const opened = await openCase(file, contract)
    if (typeof opened === 'string') mistakes.push({ file, message: opened })
    else if (program.repeatable) {
      const ran = await run(program, [opened.work])
      // A worker that died or hangs does so again, and takes its time.
      if (ran.kind !== 'done') return [...mistakes, { file, message: whyNot(ran) }]
      const message = differenceOf(opened, ran.outputs[0]!)
      if (message !== undefined) mistakes.push({ file, message })
    }
  }
  return mistakes
}

async function openCase(file: string, contract: Signature): Promise<GoldenCase | string> {
  try {
    const { size } = await stat(file)
    if (size > maxCaseBytes) return `it has ${size} bytes: ${maxCaseBytes} are the most for a golden case`
    return readCase(await readFile(file, 'utf8'), contract)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === undefined) throw error
    return `cannot be read (${code})`
  }
}

function whyNot(ran: Exclude<Awaited<ReturnType<Run>>, { kind: 'done' }>): string {
  if (ran.kind === 'failed') return `the model fails on it: ${ran.reason}`
  return ran.kind === 'lost' ? `the worker died of it: ${ran.reason}` : 'its worker died before it was run'
}

/** Where the answer is another than expected first. */
function differenceOf({ outputs, tolerance }: GoldenCase, answer: readonly Tensor[]): string | undefined {
  for (const expected of outputs) {
    const found = answer.find(({ name }) => name === expected.name)!
    const difference = compare(expected, found, tolerance)
    if (difference !== undefined) return `output "${expected.name}": ${difference}`
  }
  return undefined
}

function compare(expected: Tensor, found: Tensor, tolerance: Tolerance): string | undefined {
  const [wanted, got] = [expected, found].map(({ shape }) => showShape(shape))
  if (wanted !== got) return `expected shape ${wanted}, found ${got}`
  const count = countOf(expected)
  for (let i = 0; i < count; i++) {
    if (isSame(expected, found, i)) continue
    const [one, other] = [expected, found].map(({ datatype, data }) => elementAt(datatype, data, i))
    if (typeof one === 'number' && typeof other === 'number' && isFloat(expected) && isNear(one, other, tolerance))
      continue
    return `element ${i}: expected ${show(one!)}, found ${show(other!)}`
  }
  return undefined
}

function countOf({ data }: Tensor): number {
  return isStrings(data) ? stringCount(data) : data.length
}

/** To the bit, which strings that are no UTF-8 need. */
function isSame(expected: Tensor, found: Tensor, i: number): boolean {
  if (!isStrings(expected.data) || !isStrings(found.data))
    return Object.is((expected.data as Float64Array)[i], (found.data as Float64Array)[i])
  return Buffer.compare(stringAt(expected.data, i), stringAt(found.data, i)) === 0
}

function isFloat({ datatype }: Tensor): boolean {
  return datatype === 'FP16' || datatype === 'FP32' || datatype === 'FP64'
}

/** An expected number is finite; a distance that is not a number, or infinite, is none that is allowed. */
function isNear(expected: number, found: number, { absolute, relative }: Tolerance): boolean {
  return Math.abs(found - expected) <= absolute + relative * Math.abs(expected)
}

function show(element: number | bigint | boolean | string): string {
  if (typeof element !== 'string') return String(element)
  const text = JSON.stringify(element)
  return text.length > 60 ? `${text.slice(0, 57)}...` : text
}
