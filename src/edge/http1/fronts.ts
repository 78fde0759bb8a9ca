/** The fronts that there are. They serve the same, and nothing behind them knows which it is. */
import type { EdgeOptions } from '../options.ts'
import type { ProtocolTools } from '../exchange.ts'
import type { Http1Front } from './front.ts'
import { LeanFront } from './lean/front.ts'
import { NodeFront } from './node/front.ts'

const fronts = { lean: LeanFront, node: NodeFront } satisfies Record<EdgeOptions['http1'], unknown>

export function createHttp1(options: EdgeOptions, tools: ProtocolTools): Http1Front {
  return new fronts[options.http1](options, tools)
}
