/** Draws for simulations of many millions of events: 128 bits of state, so that thousands of streams do not overlap. */
import type { Draw } from '../draws.ts'

/** Uniform in [0, 1), by the text it is seeded with (sfc32 of PractRand by Chris Doty-Humphrey). */
export function drawsOf(seed: string): Draw {
  let [a, b, c, count] = [hash(seed, 1), hash(seed, 2), hash(seed, 3), 1]
  const next = () => {
    const mixed = (((a + b) | 0) + count) | 0
    count = (count + 1) | 0
    a = b ^ (b >>> 9)
    b = (c + (c << 3)) | 0
    c = (((c << 21) | (c >>> 11)) + mixed) | 0
    return (mixed >>> 0) / 2 ** 32
  }
  for (let i = 0; i < 12; i++) next()
  return next
}

/** How many events there are, if `mean` are expected. */
export function poisson(draw: Draw, mean: number): number {
  // Beyond this exp(-mean) has too few digits; a sum of such numbers is one too.
  if (mean > 30) return poisson(draw, mean / 2) + poisson(draw, mean / 2)
  const least = Math.exp(-mean)
  let count = 0
  for (let product = draw(); product > least; product *= draw()) count++
  return count
}

/** By Box and Muller. */
export function normal(draw: Draw): number {
  return Math.sqrt(-2 * Math.log(1 - draw())) * Math.cos(2 * Math.PI * draw())
}

/** FNV-1a, with what makes it several hashes before the text, and its bits mixed once more. */
function hash(text: string, which: number): number {
  let state = Math.imul(0x811c9dc5 ^ which, 0x01000193)
  for (let place = 0; place < text.length; place++) state = Math.imul(state ^ text.charCodeAt(place), 0x01000193)
  state = Math.imul(state ^ (state >>> 16), 0x85ebca6b)
  return state ^ (state >>> 13)
}
