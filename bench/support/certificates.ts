/** A certificate for the servers of one run, and who signed it. */
import { issue } from '../../src/cli/certificate.ts'

export interface Certificates {
  readonly ca: string
  readonly cert: string
  readonly key: string
}

export function makeCertificates(): Certificates {
  const now = Date.now()
  const by = issue({ subject: 'bench authority', days: 2 }, now)
  const issued = { by, as: 'server', names: ['localhost', '127.0.0.1'] } as const
  const { cert, key } = issue({ subject: 'localhost', days: 2, issued }, now)
  return { ca: by.cert, cert, key }
}
