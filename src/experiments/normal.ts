/** Where the series in x is left for the continued fraction in 1/x. */
const tail = 3
const terms = 60

/** ln of the standard normal distribution function, exact to twelve digits in the lower tail too. */
export function logNormalCdf(x: number): number {
  if (x < -tail) return logTail(-x)
  if (x > tail) return Math.log1p(-Math.exp(logTail(x)))
  // 1/2 + density * (x + x^3/3 + x^5/15 + ...) (Abramowitz and Stegun 26.2.11).
  let [term, sum] = [x, x]
  for (let odd = 3; odd < 2 * terms; odd += 2) {
    term *= (x * x) / odd
    sum += term
  }
  return Math.log(0.5 + sum * Math.exp(logDensity(x)))
}

/** ln of the part above z: Laplace's continued fraction of Mills' ratio (Abramowitz and Stegun 26.2.14). */
function logTail(z: number): number {
  let below = z
  for (let k = terms; k > 0; k--) below = z + k / below
  return logDensity(z) - Math.log(below)
}

function logDensity(x: number): number {
  return -0.5 * (x * x + Math.log(2 * Math.PI))
}
