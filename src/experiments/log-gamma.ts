/** ln of the gamma function, for x > 0: Stirling's series (DLMF 5.11.1), good from 10 on, and the recurrence below it. */
export function logGamma(x: number): number {
  let [shifted, product] = [x, 1]
  for (; shifted < 10; shifted++) product *= shifted
  const square = 1 / (shifted * shifted)
  const series = (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square * (1 / 1680 - square / 1188)))) / shifted
  return (shifted - 0.5) * Math.log(shifted) - shifted + 0.5 * Math.log(2 * Math.PI) + series - Math.log(product)
}

/** ln of the beta function. */
export function logBeta(a: number, b: number): number {
  return logGamma(a) + logGamma(b) - logGamma(a + b)
}
