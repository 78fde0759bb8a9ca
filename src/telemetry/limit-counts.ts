/** What the limits count; plain numbers, read when somebody scrapes. */
import { Counter, Gauge, type Registry } from 'prom-client'
import { priorities, type Priority } from '../core/priority.ts'

type Instead = 'allow' | 'refuse' | 'local'

export class LimitCounts {
  /** By rule. */
  readonly refused = new Map<string, number>()
  readonly missed = new Map<string, Record<Instead, number>>()
  readonly shed = Object.fromEntries(priorities.map((each) => [each, 0])) as Record<Priority, number>
  keys: () => number = () => 0
  replaced: () => number = () => 0
  leases: () => number = () => 0
  /** Undefined where there is no Redis. */
  redis: { readonly isUp: boolean; readonly errors: number } | undefined

  refuse(rule: string): void {
    this.refused.set(rule, (this.refused.get(rule) ?? 0) + 1)
  }

  miss(rule: string, instead: Instead): void {
    let counts = this.missed.get(rule)
    if (!counts) this.missed.set(rule, (counts = { allow: 0, refuse: 0, local: 0 }))
    counts[instead]++
  }
}

export function registerLimits(counts: LimitCounts, registers: Registry[]): void {
  registerDecisions(counts, registers)
  registerBuckets(counts, registers)
  new Gauge({
    name: 'penstock_redis_up',
    help: 'Whether Redis can be asked: 1 if it can; 0 without a connection, or after several failures in a row.',
    registers,
    collect() {
      if (counts.redis) this.set(counts.redis.isUp ? 1 : 0)
    },
  })
  new Counter({
    name: 'penstock_redis_errors_total',
    help: 'Questions to Redis without a good answer within the budget.',
    registers,
    collect() {
      this.reset()
      this.inc(counts.redis?.errors ?? 0)
    },
  })
}

function registerDecisions(counts: LimitCounts, registers: Registry[]): void {
  new Counter({
    name: 'penstock_limit_refusals_total',
    help: 'Requests that a limit refused.',
    labelNames: ['limit'],
    registers,
    collect() {
      this.reset()
      for (const [limit, count] of counts.refused) this.inc({ limit }, count)
    },
  })
  new Counter({
    name: 'penstock_limit_misses_total',
    help: 'Decisions without Redis, because it could not be asked, by what held instead.',
    labelNames: ['limit', 'instead'],
    registers,
    collect() {
      this.reset()
      for (const [limit, missed] of counts.missed) {
        for (const [instead, count] of Object.entries(missed)) this.inc({ limit, instead }, count)
      }
    },
  })
  new Counter({
    name: 'penstock_overload_refusals_total',
    help: 'Requests refused because the event loop was late, by class.',
    labelNames: ['priority'],
    registers,
    collect() {
      this.reset()
      for (const [priority, count] of Object.entries(counts.shed)) this.inc({ priority }, count)
    },
  })
}

function registerBuckets(counts: LimitCounts, registers: Registry[]): void {
  new Gauge({
    name: 'penstock_limit_buckets',
    help: 'Places in use for buckets that are counted in this gateway, some of them full again.',
    registers,
    collect() {
      this.set(counts.keys())
    },
  })
  new Counter({
    name: 'penstock_limit_buckets_forgotten_total',
    help: 'Buckets that were forgotten before they were full again, for want of room: raise `limits.maxKeys`.',
    registers,
    collect() {
      this.reset()
      this.inc(counts.replaced())
    },
  })
  new Gauge({
    name: 'penstock_limit_leases',
    help: 'Shared buckets that this gateway has drawn units of.',
    registers,
    collect() {
      this.set(counts.leases())
    },
  })
}
