/** The parameters of a request that mean something to us, and those that must not be ignored. */
import type { InferRequest } from '../../core/call.ts'
import { priorities } from '../../core/priority.ts'
import { isObject } from './scanner.ts'

type Parameters = Pick<InferRequest, 'timeoutMs' | 'priority'>

const none: Parameters = { timeoutMs: undefined, priority: undefined }
const sequenceKeys = ['sequence_id', 'sequence_start', 'sequence_end']
/** Triton counts from 1, the most urgent, and lets 0 stand for the usual. Whatever is beyond is as patient as can be. */
const levels = [undefined, 'interactive', 'standard', 'bulk'] as const

/** Returns what is wrong, if something is. */
export function readParameters(parameters: unknown): Parameters | string {
  if (parameters === undefined) return none
  if (!isObject(parameters)) return '"parameters" must be an object'
  const { timeout, priority } = parameters
  // Those that would change the answer and that nobody here acts on: to ignore them would be to lie.
  const sequence = sequenceKeys.find((key) => parameters[key])
  if (sequence) return `parameter "${sequence}": sequences are not supported; feed state tensors back as inputs`
  if (Object.keys(parameters).some((key) => key.startsWith('triton_')))
    return 'parameters that begin with "triton_" are reserved'
  if (timeout !== undefined && !isCount(timeout)) return 'parameter "timeout" must be a whole number of microseconds'
  const isNamed = priorities.slice(0, -1).some((each) => each === priority)
  if (priority !== undefined && !isNamed && !isCount(priority))
    return 'parameter "priority" must be 0 as usual, 1 or "interactive", 2 or "standard", 3 or "bulk"'
  return {
    timeoutMs: timeout ? timeout / 1_000 : undefined,
    priority: isCount(priority) ? levels[Math.min(priority, levels.length - 1)] : (priority as Parameters['priority']),
  }
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}
