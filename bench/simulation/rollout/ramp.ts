/** The steps of a rollout that are simulated. */
export const shares = [0.01, 0.05, 0.1, 0.25, 0.5]
export const lastShare = 0.5

/** So long each; it stays at the last. What becomes of requests does not matter to it, unless it is rolled back. */
export function rampOf(holdS: number) {
  return shares.map((share) => ({
    share,
    holdS: share < lastShare ? holdS : 86_400,
    minRequests: 0,
    below: 'off' as const,
  }))
}
