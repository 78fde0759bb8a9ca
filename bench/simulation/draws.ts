/** Random numbers that are the same in every run and on every machine: all of them follow from the text they are seeded with. */
import { seeded } from '../../test/support/draw.ts'

export type Draw = () => number

/** Uniform in [0, 1): 32 bits of state are plenty for some thousand draws. */
export function uniform(seed: string): Draw {
  return seeded(hash(seed))
}

/** Factors with mean 1 whose logarithm is normal: how much longer or shorter a batch takes than it should. */
export function lognormal(seed: string, sigma: number): Draw {
  const normal = standardNormal(uniform(seed))
  return () => Math.exp(sigma * normal() - (sigma * sigma) / 2)
}

/** Gaps between Poisson arrivals, mean 1. */
export function exponential(draw: Draw): Draw {
  return () => -Math.log(1 - draw())
}

/**
 * Gamma with a shape below 1, scaled to mean 1; its coefficient of variation is 1 / sqrt(shape). By Marsaglia and Tsang
 * (2000) for shape + 1, brought down by a power of a uniform draw.
 */
export function gamma(draw: Draw, shape: number): Draw {
  const normal = standardNormal(draw)
  const d = shape + 1 - 1 / 3
  const c = 1 / Math.sqrt(9 * d)
  return () => {
    for (;;) {
      const z = normal()
      const v = (1 + c * z) ** 3
      if (v <= 0 || Math.log(1 - draw()) >= (z * z) / 2 + d - d * v + d * Math.log(v)) continue
      return (d * v * (1 - draw()) ** (1 / shape)) / shape
    }
  }
}

function standardNormal(draw: Draw): Draw {
  return () => Math.sqrt(-2 * Math.log(1 - draw())) * Math.cos(2 * Math.PI * draw())
}

/** FNV-1a. */
function hash(text: string): number {
  let state = 0x811c9dc5
  for (let place = 0; place < text.length; place++) state = Math.imul(state ^ text.charCodeAt(place), 0x01000193)
  return state
}
