/** What will happen, earliest first; of two things at the same time the one that was planned first. A binary heap. */
interface Event {
  readonly at: number
  readonly order: number
  /** Unset when called off: it stays in the heap until its time, which is cheaper than searching for it. */
  callback: (() => void) | undefined
}

export class EventQueue {
  readonly #heap: Event[] = []
  #planned = 0

  /** Infinity if nothing is planned. */
  get nextAt(): number {
    return this.#heap[0]?.at ?? Infinity
  }

  /** What is returned calls it off. */
  plan(at: number, callback: () => void): () => void {
    const event: Event = { at, order: this.#planned++, callback }
    this.#heap.push(event)
    this.#raise(this.#heap.length - 1)
    return () => {
      event.callback = undefined
    }
  }

  /** Takes the earliest; undefined if it was called off. */
  take(): (() => void) | undefined {
    const heap = this.#heap
    const [first] = heap
    const last = heap.pop()
    if (heap.length > 0 && last) {
      heap[0] = last
      this.#sink(0)
    }
    return first?.callback
  }

  #raise(place: number): void {
    const heap = this.#heap
    const event = heap[place]!
    while (place > 0) {
      const parent = (place - 1) >> 1
      if (!isBefore(event, heap[parent]!)) break
      heap[place] = heap[parent]!
      place = parent
    }
    heap[place] = event
  }

  #sink(place: number): void {
    const heap = this.#heap
    const event = heap[place]!
    for (;;) {
      let child = 2 * place + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++
      if (!isBefore(heap[child]!, event)) break
      heap[place] = heap[child]!
      place = child
    }
    heap[place] = event
  }
}

function isBefore(a: Event, b: Event): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order)
}
