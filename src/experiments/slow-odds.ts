/** The log likelihood ratios of the test of slowness, which are the same in every test. */

/** Of the control's ratios: one for a shift of all runs, one for the slower ones, one for the tail. */
export const quantiles: readonly number[] = [0.5, 0.9, 0.99]
/**
 * Of the control's ratios too: beyond which one of the treatment's is slow. In the tail that is half as often, so twice as many
 * slow runs are put up with: a version that is run seldom is preempted more often, because the other's runs are always in its way.
 */
export const treatmentQuantiles: readonly number[] = [0.5, 0.95, 0.995]
/** More runs of the control in a block add little. */
export const mostControls = 8
/** By how much the odds to be slow may be higher: alternatives. */
const oddsRatios: readonly number[] = [1.5, 2, 4, 10, 40, 200]

export const alternatives = oddsRatios.length

/** Of a block, one for each alternative: by quantile, by runs of the control in it, and by what was slow (`outcomeOf`). */
export const blockOdds: readonly (readonly (readonly Float64Array[])[])[] = quantiles.map((quantile) =>
  Array.from({ length: mostControls + 1 }, (_, controls) =>
    Array.from({ length: 2 * (controls + 1) }, (_item, outcome) => ofBlock(1 - quantile, controls, outcome)),
  ),
)

/** `slowControls`: how many runs of the control were slow; `slowTreatment`: 1 if the treatment's was, else 0. */
export function outcomeOf(slowControls: number, slowTreatment: number): number {
  return 2 * slowControls + slowTreatment
}

/** `slow`: probability that a run of the control is slow, by design; the test holds whatever it is. */
function ofBlock(slow: number, controls: number, outcome: number): Float64Array {
  const slowControls = outcome >> 1
  return Float64Array.from(oddsRatios, (ratio) => {
    const treatment = (ratio * slow) / (ratio * slow + 1 - slow)
    const both = (controls * slow + treatment) / (controls + 1)
    return (
      slowControls * Math.log(slow / both) +
      (controls - slowControls) * Math.log((1 - slow) / (1 - both)) +
      Math.log(outcome % 2 === 1 ? treatment / both : (1 - treatment) / (1 - both))
    )
  })
}
