/**
 * Are a model's rows independent? A symbolic first axis does not prove it: a graph with a Softmax over axis 0 answers
 * [1, 1, 1] to a row alone and [.0003, .73, .88] to the same row beside another caller's. So a version whose manifest
 * does not say is tried at load: the same row alone, in company, and in another place must get the same answer.
 */
import type { Run, Work } from '../core/run.ts'
import type { Program } from '../core/signature.ts'
import { agree } from './agree.ts'
import { evenSize, sampleRows, spreads, trialSizes } from './sample-rows.ts'

export interface Independence {
  readonly independent: boolean
  readonly why: string
}

export async function probeRows(program: Program, run: Run): Promise<Independence> {
  for (const size of trialSizes) {
    let seen: Independence | undefined
    for (const [round, spread] of spreads.entries()) {
      const recipe = { sizeOf: evenSize(program, size), spread, seed: size * 1_000 + round }
      const verdict = await probeOnce(program, run, sampleRows(program, 3, recipe))
      if (verdict && !verdict.independent) return verdict
      seen ??= verdict
    }
    if (seen) return seen
  }
  return { independent: false, why: 'probe: the model takes no input that could be made up' }
}

/** Undefined when the rows could not be run at all, so that nothing was learnt. */
async function probeOnce(program: Program, run: Run, [a, b, c]: readonly Work[]): Promise<Independence | undefined> {
  const alone = await run({ ...program, batched: false }, [a!])
  if (alone.kind !== 'done') return undefined
  for (const [place, company] of [
    [a!, b!, c!],
    [c!, a!, b!],
    [b!, a!],
  ].entries()) {
    const together = await run(program, company)
    if (together.kind !== 'done') return { independent: false, why: 'probe: several rows cannot run together' }
    const own = together.outputs[company.indexOf(a!)]!
    if (!agree(alone.outputs[0]!, own)) {
      const where = place === 0 ? 'beside others' : 'in another place'
      return { independent: false, why: `probe: a row gets another answer ${where}` }
    }
  }
  return { independent: true, why: 'probe: a row gets the same answer alone, beside others and in another place' }
}
