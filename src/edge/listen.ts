import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'

/** Starts to listen; settles with the port. Rejects with the system's error. */
export function listenOn(server: Server, { host, port }: { host: string; port: number }): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, () => {
      server.off('error', reject)
      resolve((server.address() as AddressInfo).port)
    })
  })
}
