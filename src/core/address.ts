/** Whether an address to listen on can be reached from this machine only (RFC 1122 section 3.2.1.3, RFC 4291 2.5.3). */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host)
}
