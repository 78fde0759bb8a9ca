/** What a gateway of a careful owner asks of every request: a token, rules, and limits that are counted and never reached. */
import type { BenchIssuer } from './issuer.ts'
import type { HttpRequest } from './requests.ts'

const claims = { tenant: 'clinic', scope: 'openid models', azp: 'portal', jti: 'x'.repeat(200) }

/** Two rules before the one that fits. */
const access = [
  { effect: 'deny', who: { tenants: ['trial-*'] }, operations: ['infer'] },
  { who: { subjects: ['operator'] }, operations: ['admin.read'] },
  { who: { scopes: ['models'] }, operations: ['infer', 'metadata', 'stats'] },
]
const rate = 1e8
const rules = [
  { name: 'tenants', by: ['tenant'], rate },
  { name: 'callers', by: ['caller'], rate },
  { name: 'rows', by: ['caller', 'model'], cost: 'row', rate },
  { name: 'compute', by: ['tenant', 'route'], cost: 'computeMs', rate },
]

/** Settings of a gateway. */
export function guards({ option }: BenchIssuer): object {
  return { auth: { jwt: { issuers: [option] }, access }, limits: { rules } }
}

/** A request with a token in it, which a gateway that asks nobody does not look at. */
export async function shown(request: HttpRequest, issuer: BenchIssuer): Promise<HttpRequest> {
  const token = await issuer.mint(claims)
  return { ...request, headers: { ...request.headers, authorization: `Bearer ${token}` } }
}
