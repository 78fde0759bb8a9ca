/** Who is calling. With `auth: none` everybody is the same nobody, which is safe only where no stranger can reach. */
import type { Call } from '../core/call.ts'
import type { Refusal } from '../core/refusal.ts'
import type { AuthOptions } from './options.ts'

interface Caller {
  readonly subject: string
}

export type Identify = (call: Call) => Caller | Refusal

const anonymous: Caller = { subject: 'anonymous' }

/** Makes the function that tells who is calling; `none` is the only way there is so far. */
export function createIdentify(_options: AuthOptions): Identify {
  return () => anonymous
}
