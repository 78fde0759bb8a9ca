/** Which of the fronts serves. */
import * as z from 'zod'

export const http1Fronts = ['lean', 'node'] as const

export const http1Option = z
  .enum(http1Fronts)
  .default('lean')
  .describe(
    'What serves HTTP/1.1: `lean`, on bare sockets with a parser of the same origin as that of Node, or `node`, which is `node:http`. They serve the same; `lean` takes less CPU and memory for it.',
  )
