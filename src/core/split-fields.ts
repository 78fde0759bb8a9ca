/** Header fields about the split of a model. */

/** In a request the arm that it asks for, and in an answer the one that it went to. */
export const armField = 'x-penstock-arm'
/** The version of that arm. */
export const versionField = 'x-penstock-version'
/** What the prediction is called in feedback about it. */
export const predictionField = 'x-penstock-prediction'
