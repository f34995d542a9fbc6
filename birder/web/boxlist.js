// @ts-check
// The boxes of an image as a list: their order, their names, and which comes next.

/** @import {BoxOnImage} from "./types.js" */

/** The column of what a person says of a box itself, and what can be said. */
export const SAID = "box";
export const RIGHT = "right";
export const WRONG = "wrong";

/**
 * What a box is called: by its label, else by what is predicted, else by its detector.
 * @param {BoxOnImage} box
 */
export const nameOf = ({ label, predicted, category }) => label || (predicted ? `${predicted}?` : category) || "box";

/**
 * From left to right.
 * @param {BoxOnImage[]} boxes
 */
export const inOrder = (boxes) => [...boxes].sort((a, b) => a.place.x - b.place.x || a.place.y - b.place.y);

/**
 * The box after or before one, around the ends; the first or last if the one is not a box. Undefined if there is no other.
 * @param {BoxOnImage[]} boxes
 * @param {string} id
 * @param {1 | -1} by
 */
export function neighbourOf(boxes, id, by) {
  const at = boxes.findIndex((box) => box.id === id);
  const next = at < 0 ? boxes.at(by > 0 ? 0 : -1) : boxes[(at + by + boxes.length) % boxes.length];
  return next?.id === id ? undefined : next;
}
