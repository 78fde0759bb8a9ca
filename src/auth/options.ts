import * as z from 'zod'

export const authOptions = z
  .literal('none')
  .describe('Who may call. `none` lets everybody in, and therefore serves on loopback addresses only.')

export type AuthOptions = z.output<typeof authOptions>
