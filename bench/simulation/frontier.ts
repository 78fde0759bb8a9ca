/**
 * What a machine can have achieved when it has seen the first so many requests of a trace: for each number of lost
 * requests the earliest that it can be idle again. To lose more only pays if it gets idle earlier, and to be idle before
 * the next request comes pays nothing; so the list of what is worth considering is short.
 */
export class Frontier {
  /** The fewest that can be lost so far. */
  readonly lost: number
  /** By how many more are lost: when the machine is idle. Falls, and ends once that is before the next arrival. */
  readonly idleAt: readonly number[]

  constructor(lost: number, idleAt: readonly number[]) {
    this.lost = lost
    this.idleAt = idleAt
  }

  /** The earliest the machine can be idle with at most so many lost; Infinity if it cannot do with so few. */
  at(lost: number): number {
    if (lost < this.lost) return Infinity
    return this.idleAt[Math.min(lost - this.lost, this.idleAt.length - 1)]!
  }

  /** From what can be achieved with exactly so many lost; `nextAt` is the next arrival. */
  static build(fewest: number, nextAt: number, idleAtWith: (lost: number) => number): Frontier {
    let lost = fewest
    let earliest = idleAtWith(lost)
    while (earliest === Infinity) earliest = idleAtWith(++lost)
    const idleAt = [earliest]
    while (earliest > nextAt) {
      earliest = Math.min(earliest, idleAtWith(lost + idleAt.length))
      idleAt.push(earliest)
    }
    return new Frontier(lost, idleAt)
  }
}
