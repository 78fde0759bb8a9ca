/** What is assigned to an arm as a whole. */
import type { Call } from '../core/call.ts'
import type { Caller } from '../core/caller.ts'
import { longestUnit, type SplitOptions } from './split-options.ts'

export type UnitKind = SplitOptions['unit']['by']

export interface Unit {
  /** Equal for what is assigned together. Not bounded by itself: a caller's name is as long as identification lets it be. */
  readonly key: string
  /** `request` also for who has not what the split goes by. */
  readonly kind: UnitKind
}

/** A caller as far as it matters here. */
export type ClaimingCaller = Pick<Caller, 'name' | 'claims'>

export interface UnitTerms {
  /** Milliseconds since 1970. */
  readonly epochMs: number
  /** The gateway's own number of the request: a client may choose the one that it sees, and so its arm. */
  readonly draw: string
}

/** Also between the parts of what is hashed: it is in no header and no name of an arm. */
export const separator = '\u001F'

export function unitOf(
  options: SplitOptions['unit'],
  call: Pick<Call, 'headers'>,
  caller: ClaimingCaller,
  { epochMs, draw }: UnitTerms,
): Unit {
  if (options.by === 'request') return { key: draw, kind: 'request' }
  const value = lastingValue(options, call, caller)
  if (value === undefined) return { key: draw, kind: 'request' }
  const { windowS } = options
  if (windowS === undefined) return { key: value, kind: options.by }
  return { key: `${value}${separator}${Math.floor(epochMs / 1_000 / windowS)}`, kind: options.by }
}

type Lasting = Exclude<SplitOptions['unit'], { by: 'request' }>

function lastingValue(options: Lasting, { headers }: Pick<Call, 'headers'>, caller: ClaimingCaller) {
  switch (options.by) {
    case 'caller':
      // Without identification the name is an address, behind which many may be, but it is still one unit.
      return caller.name === '' ? undefined : caller.name
    case 'claim':
      return usable(caller.claims[options.name])
    case 'header':
      return usable(headers[options.name])
  }
}

/** A list stands for nobody, and so do what is too long to be a name and what every object inherits. */
function usable(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' && value.length <= longestUnit ? value : undefined
}
