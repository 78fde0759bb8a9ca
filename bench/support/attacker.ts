/** Attacks a server from a process of its own, for a while. */
import { setTimeout as pause } from 'node:timers/promises'
import { attacks, type Victim } from './attacks.ts'

export interface AttackOrder {
  readonly name: string
  readonly victim: Victim
  readonly ms: number
}

/** Settles with how many times it was done. */
async function attack({ name, victim, ms }: AttackOrder): Promise<number> {
  const { run, atOnce } = attacks.find((each) => each.name === name)!
  const until = performance.now() + ms
  let count = 0
  const goOn = async () => {
    while (performance.now() < until) {
      await run(victim, until).catch(() => pause(5))
      count++
    }
  }
  await Promise.all(Array.from({ length: atOnce }, goOn))
  return count
}

// What an attack leaves behind on connections that end is nobody's business.
process.on('uncaughtException', () => undefined)
process.on('message', (order) => {
  void attack(order as AttackOrder).then((count) => process.send!(count))
})
