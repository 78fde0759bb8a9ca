/** What is counted of who calls; plain numbers, read when somebody scrapes. Labels are of short closed lists. */
import { Counter, Gauge, type Registry } from 'prom-client'

/** Of the tokens that are known, and of those that vouch for them. */
export interface TokenState {
  readonly hits: number
  readonly misses: number
  readonly verifying: number
  readonly issuers: readonly {
    readonly issuer: string
    readonly ageS: number
    readonly failures: number
    readonly brokenKeys: number
  }[]
  readonly revocationsAgeS: number | undefined
}

/** Counts by the values of one label or two. */
class Tally {
  readonly #counts = new Map<string, Map<string, number>>()

  add(first: string, second: string = ''): void {
    const own = this.#counts.get(first)
    if (own) own.set(second, (own.get(second) ?? 0) + 1)
    else this.#counts.set(first, new Map([[second, 1]]))
  }

  get entries(): { readonly values: readonly [string, string]; readonly count: number }[] {
    return [...this.#counts].flatMap(([first, own]) =>
      [...own].map(([second, count]) => ({ values: [first, second] as const, count })),
    )
  }
}

export class AuthCounts {
  readonly tallies = { identified: new Tally(), refused: new Tally(), untrusted: new Tally(), denied: new Tally() }
  /** Undefined where no tokens are taken. */
  tokens: () => TokenState | undefined = () => undefined

  identified(method: string): void {
    this.tallies.identified.add(method)
  }

  refused(method: string, reason: string): void {
    this.tallies.refused.add(method, reason)
  }

  /** A known caller wanted what it may not. */
  denied(operation: string): void {
    this.tallies.denied.add(operation)
  }

  /** A field of a request head that claims what its sender may not say. */
  untrusted(header: string, reason: string): void {
    this.tallies.untrusted.add(header, reason)
  }
}

export function registerAuth(counts: AuthCounts, registers: Registry[]): void {
  registerTallies(counts, registers)
  registerTokens(counts, registers)
  registerIssuers(counts, registers)
}

function registerTallies({ tallies }: AuthCounts, registers: Registry[]): void {
  const tallied = [
    {
      name: 'penstock_identified_total',
      help: 'Requests whose caller is known, by how.',
      labelNames: ['method'],
      tally: tallies.identified,
    },
    {
      name: 'penstock_unidentified_total',
      help: 'Requests whose proof of who calls is not good, by kind of proof and reason.',
      labelNames: ['method', 'reason'],
      tally: tallies.refused,
    },
    {
      name: 'penstock_access_denials_total',
      help: 'Requests that access denied to who sent them, by operation; also where they were answered as if nothing was there.',
      labelNames: ['operation'],
      tally: tallies.denied,
    },
    {
      name: 'penstock_untrusted_headers_total',
      help: 'Fields that claim what only a trusted proxy may say, and were left out.',
      labelNames: ['header', 'reason'],
      tally: tallies.untrusted,
    },
  ]
  for (const { name, help, labelNames, tally } of tallied) {
    new Counter({
      name,
      help,
      labelNames,
      registers,
      collect() {
        this.reset()
        for (const { values, count } of tally.entries)
          this.inc(Object.fromEntries(labelNames.map((label, i) => [label, values[i]!])), count)
      },
    })
  }
}

function registerTokens(counts: AuthCounts, registers: Registry[]): void {
  new Counter({
    name: 'penstock_token_lookups_total',
    help: 'Tokens that were looked up among the verified ones, by outcome.',
    labelNames: ['outcome'],
    registers,
    collect() {
      this.reset()
      const { hits = 0, misses = 0 } = counts.tokens() ?? {}
      this.inc({ outcome: 'hit' }, hits)
      this.inc({ outcome: 'miss' }, misses)
    },
  })
  new Gauge({
    name: 'penstock_token_verifications',
    help: 'Signatures of tokens that are being verified.',
    registers,
    collect() {
      this.set(counts.tokens()?.verifying ?? 0)
    },
  })
  new Gauge({
    name: 'penstock_token_revocations_age_seconds',
    help: 'Time since the list of revoked tokens was last read; +Inf if it never was.',
    // A label, so that nothing is shown where there is no such list.
    labelNames: ['list'],
    registers,
    collect() {
      this.reset()
      const age = counts.tokens()?.revocationsAgeS
      if (age !== undefined) this.set({ list: 'redis' }, age)
    },
  })
}

function registerIssuers(counts: AuthCounts, registers: Registry[]): void {
  const issuers = () => counts.tokens()?.issuers ?? []
  new Gauge({
    name: 'penstock_issuer_keys_age_seconds',
    help: 'Time since the keys of an issuer of tokens were last seen; +Inf if they never were.',
    labelNames: ['issuer'],
    registers,
    collect() {
      this.reset()
      for (const { issuer, ageS } of issuers()) this.set({ issuer }, ageS)
    },
  })
  new Gauge({
    name: 'penstock_issuer_keys_broken',
    help: 'Keys of an issuer of tokens that make no sense.',
    labelNames: ['issuer'],
    registers,
    collect() {
      this.reset()
      for (const { issuer, brokenKeys } of issuers()) this.set({ issuer }, brokenKeys)
    },
  })
  new Counter({
    name: 'penstock_issuer_keys_failures_total',
    help: 'Times that the keys of an issuer of tokens could not be had.',
    labelNames: ['issuer'],
    registers,
    collect() {
      this.reset()
      for (const { issuer, failures } of issuers()) this.inc({ issuer }, failures)
    },
  })
}
