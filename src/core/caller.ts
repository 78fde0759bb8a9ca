/** Who is calling: what identification has found out, and everything behind it goes by. */
export interface Caller {
  /**
   * Between whom the gateway is fair, and whom a limit per caller counts: unique over all ways of identification, such as
   * `https://login.example.com/alice` or `key:robot`.
   */
  readonly name: string
  readonly method: IdentityMethod
  /** Empty if it has none. */
  readonly tenant: string
  /** Unique within its way of identification only; empty for who showed nothing. */
  readonly subject: string
  readonly scopes: readonly string[]
  /** What else its token says of it in plain values, by name. */
  readonly claims: Readonly<Record<string, string>>
  /** The SPIFFE id of the workload at the other end, if it has proved one. */
  readonly spiffe: string | undefined
  /** That of the workload through which it calls, where a trusted proxy of the mesh names both. */
  readonly peer?: string | undefined
  /** How much of an answer it may see; undefined leaves that to the route. */
  readonly profile: string | undefined
}

/** How a caller was identified; `none` for who showed nothing where nothing is asked. */
export const identityMethods = ['jwt', 'api-key', 'mtls', 'mesh', 'none'] as const
export type IdentityMethod = (typeof identityMethods)[number]

/** Who has shown nothing, and is known by a name of the gateway's own making, such as its address. */
export function strangerCalled(name: string): Caller {
  return {
    name,
    method: 'none',
    tenant: '',
    subject: '',
    scopes: [],
    claims: {},
    spiffe: undefined,
    profile: undefined,
  }
}

/** What somebody wants to do. */
export const operations = ['infer', 'metadata', 'stats', 'admin.read', 'admin.write'] as const
export type Operation = (typeof operations)[number]
