/** What the tests' helpers open belongs to a test; here it belongs to a stack that is disposed of. */
import type { TestContext } from 'node:test'

export function ownerOf(stack: AsyncDisposableStack): TestContext {
  return { after: (end: () => Promise<void> | void) => stack.defer(end) } as unknown as TestContext
}
