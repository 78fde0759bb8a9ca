/** Whose requests go first when not all can be answered in time, from the most urgent class to the least. */
export const priorities = ['interactive', 'standard', 'bulk', 'shadow'] as const

export type Priority = (typeof priorities)[number]

/** The less urgent of two. */
export function lesser(a: Priority, b: Priority): Priority {
  return priorities.indexOf(a) > priorities.indexOf(b) ? a : b
}
