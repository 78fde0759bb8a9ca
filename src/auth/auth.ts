/** Who is calling. With `auth: none` nobody is asked, which is safe only where no stranger can reach. */
import type { Call } from '../core/call.ts'
import type { Refusal } from '../core/refusal.ts'
import type { AuthOptions } from './options.ts'

interface Caller {
  /** Between whom the gateway is fair. */
  readonly name: string
}

export type Identify = (call: Call) => Caller | Refusal

/** Makes the function that tells who is calling; `none` is the only way there is so far: whoever has the address. */
export function createIdentify(_options: AuthOptions): Identify {
  return ({ peer }) => ({ name: peer })
}
