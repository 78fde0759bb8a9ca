/** Whose requests go first when not all can be answered in time, from the most urgent class to the least. */
export const priorities = ['interactive', 'standard', 'bulk', 'shadow'] as const

export type Priority = (typeof priorities)[number]

/** 0 for the most urgent. */
export function rankOf(priority: Priority): number {
  return priorities.indexOf(priority)
}

/** The less urgent of two. */
export function lesser(a: Priority, b: Priority): Priority {
  return rankOf(a) > rankOf(b) ? a : b
}
