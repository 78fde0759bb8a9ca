/** Certificates for tests, made when they are needed. */
import type { TestContext } from 'node:test'
import { issue, type Issued } from '../../src/cli/certificate.ts'
import { folderWith } from './gateway.ts'

const now = Date.now()

export function authority(name = 'test authority'): Issued {
  return issue({ subject: name, days: 30 }, now)
}

export function serverCertificate(by: Issued, ...names: readonly string[]): Issued {
  const own = names.length > 0 ? names : ['localhost', '127.0.0.1']
  return issue({ subject: own[0]!, days: 30, issued: { by, as: 'server', names: own } }, now)
}

export function clientCertificate(by: Issued, subject: string, ...names: readonly string[]): Issued {
  return issue({ subject, days: 30, issued: { by, as: 'client', names } }, now)
}

/** A folder with `NAME.pem` and `NAME-key.pem` for each certificate; it goes away with the test. */
export function certificateFolder(t: TestContext, certificates: Readonly<Record<string, Issued>>): Promise<string> {
  const files = Object.entries(certificates).flatMap(([name, { cert, key }]) => [
    [`${name}.pem`, cert],
    [`${name}-key.pem`, key],
  ])
  return folderWith(t, Object.fromEntries(files))
}

/** What `edge.tls` has to say about certificates in such a folder. */
export function pairsIn(folder: string, ...names: readonly string[]) {
  return names.map((name) => ({ cert: `${folder}/${name}.pem`, key: `${folder}/${name}-key.pem` }))
}
