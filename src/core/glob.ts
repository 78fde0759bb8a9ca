/** Patterns of names in rules: `*` stands for anything but a slash, `**` for anything. */
import * as z from 'zod'

export type Matches = (text: string) => boolean

/** More would let a long name cost more than a look. */
const mostStars = 4

export const glob = z
  .string()
  .min(1)
  .max(2_048)
  .refine((pattern) => (pattern.match(/\*+/g) ?? []).length <= mostStars, {
    error: `expected a pattern with at most ${mostStars} stars`,
  })

/** Whether any of some patterns stands for a text as a whole; a list that is not there stands for all. */
export function matcherOf(patterns: readonly string[] | undefined): Matches {
  if (!patterns || patterns.includes('**')) return () => true
  const names = new Set(patterns.filter((pattern) => !pattern.includes('*')))
  const wild = patterns.filter((pattern) => pattern.includes('*')).map(toExpression)
  return (text) => names.has(text) || wild.some((expression) => expression.test(text))
}

function toExpression(pattern: string): RegExp {
  const parts = pattern.split(/(\*+)/).map((part) => {
    if (part === '*') return '[^/]*'
    return part.startsWith('*') ? '.*' : RegExp.escape(part)
  })
  return new RegExp(`^${parts.join('')}$`, 's')
}
