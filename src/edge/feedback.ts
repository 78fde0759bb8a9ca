/** What is told of predictions, handed on in slices: a long list of it holds nobody up. */
import type { Caller } from '../core/caller.ts'
import { isRefusal } from '../core/refusal.ts'
import { sliceBytes } from './codecs/decoder.ts'
import type { Serving } from './serving.ts'
import type { Turns } from './turns.ts'

/** What becomes of a list. */
interface ToldAll {
  readonly counts: Readonly<Record<string, number>>
  readonly mistakes: readonly { readonly index: number; readonly message: string }[]
}

/** Each takes about ten microseconds, most of it for signatures. */
const sliceEntries = 50
/** A longer list is refused as a whole, which takes no time. */
const mostEntries = 1_000

export function passOn(
  serving: Pick<Serving, 'tell'>,
  { document, caller }: { readonly document: unknown; readonly caller: Caller },
  turns: Turns,
): unknown {
  const isLong = Array.isArray(document) && document.length > sliceEntries && document.length <= mostEntries
  if (!isLong) return serving.tell(document, caller)
  const entries: readonly unknown[] = document
  const counts: Record<string, number> = {}
  const mistakes: { index: number; message: string }[] = []
  let from = 0
  return turns.inSlices(sliceBytes, () => {
    const told = serving.tell(entries.slice(from, from + sliceEntries), caller)
    if (isRefusal(told)) return told
    const slice = told as ToldAll
    for (const [status, count] of Object.entries(slice.counts)) counts[status] = (counts[status] ?? 0) + count
    for (const { index, message } of slice.mistakes) mistakes.push({ index: from + index, message })
    from += sliceEntries
    return from >= entries.length ? { counts, mistakes } : undefined
  })
}
