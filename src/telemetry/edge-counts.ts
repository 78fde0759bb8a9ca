/** What the edge counts of connections; plain numbers, read when somebody scrapes. */
import { Counter, Gauge, type Registry } from 'prom-client'

export type RefusedConnection = 'total' | 'address' | 'proxy_header'
/** What is wrong with a certificate of a client; `crl`: there is no revocation list that holds now. */
export type CertificateFlaw = 'missing' | 'authority' | 'expired' | 'revoked' | 'purpose' | 'crl'
export type Protocol = 'http/1.1' | 'h2'

export class EdgeCounts {
  /** Open connections by what is spoken on them. */
  readonly open: Record<Protocol, number> = { 'http/1.1': 0, h2: 0 }
  readonly refused: Record<RefusedConnection, number> = { total: 0, address: 0, proxy_header: 0 }
  /** Connections that were ended with an answer where there was no request to answer, by its code. */
  readonly brokenOff = new Map<string, number>()
  /** Connections that are not read from at the moment, because more comes than the event loop can take. */
  parked: () => number = () => 0
  readonly handshakes = { ok: 0, failed: 0 }
  /** At handshakes, and of connections that were open. */
  readonly clientCertificates: Record<CertificateFlaw, number> = {
    missing: 0,
    authority: 0,
    expired: 0,
    revoked: 0,
    purpose: 0,
    crl: 0,
  }
  /** Bytes that bodies and tensors of requests hold at the moment. */
  heldBytes: () => number = () => 0
  /** Those in use. */
  certificates: readonly { readonly file: string; readonly expiresAt: Date }[] = []
}

export function registerEdge(counts: EdgeCounts, registers: Registry[]): void {
  registerTls(counts, registers)
  new Gauge({
    name: 'penstock_connections',
    help: 'Open connections of clients by protocol.',
    labelNames: ['protocol'],
    registers,
    collect() {
      for (const [protocol, count] of Object.entries(counts.open)) this.set({ protocol }, count)
    },
  })
  new Gauge({
    name: 'penstock_connections_parked',
    help: 'Open connections that are not read from at the moment, because more comes than the event loop can take.',
    registers,
    collect() {
      this.set(counts.parked())
    },
  })
  new Counter({
    name: 'penstock_connections_refused_total',
    help: 'Connections that were not taken up: over the limit in total or of one address, or without a sensible PROXY header.',
    labelNames: ['reason'],
    registers,
    collect() {
      this.reset()
      for (const [reason, count] of Object.entries(counts.refused)) this.inc({ reason }, count)
    },
  })
  new Counter({
    name: 'penstock_connections_broken_off_total',
    help: 'Connections over HTTP/1.1 that were ended with an answer where there was no request to answer: by the code of the refusal.',
    labelNames: ['code'],
    registers,
    collect() {
      this.reset()
      for (const [code, count] of counts.brokenOff) this.inc({ code }, count)
    },
  })
  new Gauge({
    name: 'penstock_held_bytes',
    help: 'Memory that bodies and tensors of requests hold.',
    registers,
    collect() {
      this.set(counts.heldBytes())
    },
  })
}

function registerTls(counts: EdgeCounts, registers: Registry[]): void {
  new Counter({
    name: 'penstock_tls_handshakes_total',
    help: 'TLS handshakes by outcome.',
    labelNames: ['outcome'],
    registers,
    collect() {
      this.reset()
      for (const [outcome, count] of Object.entries(counts.handshakes)) this.inc({ outcome }, count)
    },
  })
  new Counter({
    name: 'penstock_tls_client_certificates_refused_total',
    help: 'Clients that were not let in, or whose open connection was ended, because of their certificate.',
    labelNames: ['reason'],
    registers,
    collect() {
      this.reset()
      for (const [reason, count] of Object.entries(counts.clientCertificates)) this.inc({ reason }, count)
    },
  })
  new Gauge({
    name: 'penstock_tls_certificate_expiry_timestamp_seconds',
    help: 'When a certificate in use expires, in seconds since 1970.',
    labelNames: ['file'],
    registers,
    collect() {
      this.reset()
      for (const { file, expiresAt } of counts.certificates) this.set({ file }, expiresAt.getTime() / 1_000)
    },
  })
}
