// @ts-check
// Images that are looked at together: those of a sequence, with the name that fits them best.

/** @import {Photo} from "./types.js" */

/**
 * @typedef {object} Stack
 * @property {Photo[]} photos
 * @property {string} name that has the highest sum of scores
 * @property {number} score the mean score of the images with that name
 * @property {number} agreeing how many images have it
 */

/**
 * Images that follow each other and are of one sequence, as stacks; without `fold` each image is one of its own.
 * @param {Photo[]} photos
 * @param {boolean} fold
 * @returns {Stack[]}
 */
export function stacksOf(photos, fold) {
  /** @type {Photo[][]} */
  const groups = [];
  for (const photo of photos) {
    const last = groups.at(-1);
    if (fold && last && photo.sequence && last[0].sequence === photo.sequence) last.push(photo);
    else groups.push([photo]);
  }
  return groups.map(stackOf);
}

/**
 * Images as one stack, with its name.
 * @param {Photo[]} photos
 * @returns {Stack}
 */
export function stackOf(photos) {
  /** @type {Map<string, number[]>} scores by name */
  const names = new Map();
  for (const { predicted, predicted_score: score } of photos)
    if (predicted) names.set(predicted, [...(names.get(predicted) ?? []), score ?? 0]);
  /** @param {number[]} scores */
  const sum = (scores) => scores.reduce((a, b) => a + b, 0);
  const best = [...names].reduce((a, b) => (sum(b[1]) > sum(a[1]) ? b : a), ["", [0]]);
  return { photos, name: best[0], score: sum(best[1]) / best[1].length, agreeing: best[1].length };
}

/**
 * The images of a stack as a decision on the whole sees them: each named as the stack is.
 * @param {Stack} stack
 */
export const asOne = ({ photos, name, score }) =>
  photos.map((photo) => ({ ...photo, predicted: name, predicted_score: score }));

/**
 * Images in any order, those of a sequence named as one.
 * @param {Photo[]} photos
 */
export function namedBySequence(photos) {
  const keys = new Map(photos.map(({ sequence }, index) => [sequence, index]));
  const together = [...photos].sort((a, b) => (keys.get(a.sequence) ?? 0) - (keys.get(b.sequence) ?? 0));
  return stacksOf(together, true).flatMap(asOne);
}
