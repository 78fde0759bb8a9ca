/**
 * The connection that a request came by, as the gateway itself sees it: one object for as long as the connection is open,
 * so that what is found out about it can be kept with it.
 */
export interface Origin {
  /** The address at the other end of the socket, whatever headers say. */
  readonly address: string
  /** What the client proved to be at the TLS handshake; undefined without TLS or without a certificate. */
  readonly certificate: ClientCertificate | undefined
}

/** Verified against the authorities of the listener. */
export interface ClientCertificate {
  /** Of the subject, the common name; empty if it has none, several, or one that is not plain text. */
  readonly commonName: string
  /** Of the subject, the organisations. */
  readonly organizations: readonly string[]
  /** Subject alternative names that are URIs; none if one of them is not as RFC 3986 has them. */
  readonly uris: readonly string[]
  /** Milliseconds since 1970. */
  readonly expiresAt: number
}

/** The fields of a request head, by name in lower case, as `node:http` joins them. */
export type Headers = Readonly<Record<string, string | string[] | undefined>>
