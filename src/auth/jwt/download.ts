/** A small document from elsewhere over HTTP: as little trust as possible in who answers. */
import { readFile } from 'node:fs/promises'
import { Agent, request } from 'undici'

export interface Place {
  readonly url: string
  /** PEM file of the authorities to trust instead of the usual ones; read each time, so that a new one is taken up. */
  readonly ca: string | undefined
}

const maxBytes = 1_048_576

/** What is there, as text, or what is wrong. Redirects are not followed: whoever can redirect could choose the keys. */
export async function download(
  { url, ca }: Place,
  signal: AbortSignal,
): Promise<{ readonly text: string } | { readonly problem: string }> {
  const authorities = ca === undefined ? undefined : await readFile(ca, 'utf8').catch(() => undefined)
  if (ca !== undefined && authorities === undefined) return { problem: `cannot be fetched: ${ca} cannot be read` }
  // One for each time: no connection that has gone stale in between, and no authority that has.
  const agent = new Agent({ maxResponseSize: maxBytes, connect: authorities === undefined ? {} : { ca: authorities } })
  try {
    const { statusCode, body } = await request(url, {
      dispatcher: agent,
      signal,
      headers: { accept: 'application/json' },
    })
    if (statusCode !== 200) return { problem: `cannot be fetched: the server answered with ${statusCode}` }
    return { text: await body.text() }
  } catch (error) {
    return { problem: `cannot be fetched: ${signal.aborted ? 'the server took too long' : reasonOf(error)}` }
  } finally {
    void agent.destroy()
  }
}

function reasonOf(error: unknown): string {
  const { code, name } = error as NodeJS.ErrnoException
  return code === 'UND_ERR_RES_EXCEEDED_MAX_SIZE' ? `the answer is longer than ${maxBytes} bytes` : (code ?? name)
}
