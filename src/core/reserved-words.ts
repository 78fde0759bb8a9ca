/** Words that stand behind the address of a model in the protocol's paths: what is addressed cannot have them as its name. */
export const endings = ['ready', 'config', 'stats', 'infer'] as const

const reserved: ReadonlySet<string> = new Set([...endings, 'versions'])

export function isReserved(word: string): boolean {
  return reserved.has(word)
}
