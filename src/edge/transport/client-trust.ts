/** Which clients' certificates are good: the authorities and revocation lists of a moment. */
import type { X509Certificate } from 'node:crypto'
import type { CertificateFlaw } from '../../telemetry/edge-counts.ts'
import { chainsOf, linkOf, type Chain, type Link } from './chain.ts'
import type { RevocationLists } from './revocation.ts'

/** A certificate that a client has shown, and what it sent along with it. */
export class ShownCertificate {
  readonly certificate: X509Certificate
  readonly leaf: Link | undefined
  readonly sent: readonly Link[]
  /** Authorities in the chain that OpenSSL has taken. What they may sign for was looked at then, and is not here. */
  vouched: ReadonlySet<string> = new Set()
  /** By whom it was judged, and how. */
  judged: { readonly by: ClientTrust; readonly standing: Standing } | undefined

  constructor(certificate: X509Certificate) {
    this.certificate = certificate
    this.leaf = linkOf(certificate)
    const sent: Link[] = []
    for (let each = certificate.issuerCertificate; each && sent.length < mostSent; each = each.issuerCertificate) {
      const link = linkOf(each)
      if (link) sent.push(link)
    }
    this.sent = sent
  }
}

/** As many as a chain may have. */
const mostSent = 10

/** Until when it is good, milliseconds since 1970; or what is wrong with it. */
export type Standing = { readonly until: number } | { readonly flaw: CertificateFlaw }

export class ClientTrust {
  readonly #authorities: readonly Link[]
  readonly #lists: RevocationLists | undefined

  constructor(authorities: readonly X509Certificate[], lists: RevocationLists | undefined) {
    this.#authorities = authorities.flatMap((each) => linkOf(each) ?? [])
    this.#lists = lists
  }

  /**
   * `now` is in milliseconds since 1970. With `isVouched` OpenSSL has just found it good with the same authorities: the
   * chain that there is, if there is only one, is the one that it has taken.
   */
  judge(shown: ShownCertificate, now: number, isVouched = false): Standing {
    const before = shown.judged?.by === this ? shown.judged.standing : undefined
    if (before && 'until' in before && now < before.until) return before
    const standing = this.#standingOf(shown, now, isVouched)
    shown.judged = { by: this, standing }
    return standing
  }

  /** Whose clients cannot get in for want of a revocation list, if there are to be any. */
  unlisted(now: number): string | undefined {
    const lists = this.#lists
    if (!lists) return undefined
    const without = this.#authorities.find(({ certificate }) => !lists.of(certificate, now))
    return without?.certificate.subject.replaceAll('\n', ', ') ?? lists.lapsed(now)
  }

  #standingOf(shown: ShownCertificate, now: number, isVouched: boolean): Standing {
    const { leaf, sent } = shown
    let flaw: CertificateFlaw = 'authority'
    if (!leaf) return { flaw }
    const good: { readonly chain: Chain; readonly until: number }[] = []
    for (const chain of chainsOf(leaf, this.#authorities, sent)) {
      const standing = this.#standingIn(chain, now)
      if ('until' in standing) good.push({ chain, ...standing })
      else ({ flaw } = standing)
    }
    if (isVouched) shown.vouched = new Set(good.length === 1 ? good[0]!.chain.map(({ id }) => id) : [])
    const isFree = ({ id, isLimited }: Link) => isVouched || !isLimited || shown.vouched.has(id)
    const found = good.find(({ chain }) => chain.slice(1).every(isFree))
    return found ? { until: found.until } : { flaw }
  }

  /** OpenSSL wants a list for each certificate in the chain, also for the authority at its end, which signs its own. */
  #standingIn(chain: Chain, now: number): Standing {
    let until = Infinity
    for (const [i, link] of chain.entries()) {
      if (now < link.from || link.until <= now) return { flaw: 'expired' }
      until = Math.min(until, link.until)
      if (!this.#lists) continue
      const list = this.#lists.of((chain[i + 1] ?? link).certificate, now)
      if (!list) return { flaw: 'crl' }
      if (list.serials.has(link.fields.serial)) return { flaw: 'revoked' }
      until = Math.min(until, list.until)
    }
    return { until }
  }
}
