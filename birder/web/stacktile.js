// @ts-check
// A folded sequence as a tile of the gallery: how many images it has, what they are called, and whether they are selected.

import { el, fill } from "./dom.js";
import { count, fileName, images, percent } from "./format.js";
import { selection } from "./selection.js";
import { stackOf } from "./stacks.js";

/** @import {Collection, Photo, StackAnswer, State} from "./types.js" */

const NAMED = 2; // labels of one stack on its tile

/**
 * Whether a collection has sequences.
 * @param {Collection} collection
 */
export const hasSequences = ({ columns }) => columns.some(({ name, filled }) => name === "sequence" && filled > 0);

/**
 * Whether the gallery is to show the images of a sequence as one.
 * @param {State} state
 */
export const folds = ({ folded }) => folded === "yes";

/** @param {Photo} photo */
const isStack = (photo) => photo.stack !== undefined && photo.stack.count > 1;

/**
 * Whether an image, or all of its stack, is selected.
 * @param {Photo} photo
 */
export const isSelected = (photo) => (photo.stack?.photos ?? [photo]).every(({ id }) => selection.has(id));

/**
 * Draw how many images a tile stands for, and how many of them are selected if not all; nothing on a single image.
 * @param {HTMLElement} frame
 * @param {Photo | undefined} photo
 */
export function drawMark(frame, photo) {
  const there = /** @type {HTMLElement | null} */ (frame.querySelector(".stack-mark"));
  frame.classList.toggle("stacked", photo !== undefined && isStack(photo));
  if (!photo?.stack || !isStack(photo)) {
    there?.remove();
    return;
  }
  const { photos, count: all } = photo.stack;
  const chosen = photos.filter(({ id }) => selection.has(id)).length;
  const some = chosen > 0 && chosen < photos.length;
  const mark = there ?? frame.appendChild(el("span", { class: "stack-mark" }));
  fill(mark, some ? `${count(chosen)} of ${count(all)}` : count(all), el("span", { class: "unseen" }, " images"));
  mark.classList.toggle("some", some);
}

/**
 * The two lines below a stack: its labels, or else the name that is predicted of it, and how many images say so.
 * @param {StackAnswer} stack
 * @returns {[string, string]}
 */
export function stackCaption({ photos, count: all }) {
  const { name, score, agreeing } = stackOf(photos);
  const labels = [...new Set(photos.map(({ label }) => label).filter(Boolean))];
  const labelled = photos.filter(({ label }) => label).length;
  const known = photos.length < all ? `the first ${count(photos.length)}` : count(all);
  if (labels.length) {
    const first = labels.slice(0, NAMED).join(", ");
    const title = labels.length > NAMED ? `${first} …` : first;
    if (labelled < photos.length) return [title, `${count(labelled)} of ${known} labelled`];
    return [title, name ? `${name} predicted, ${percent(score)}` : images(all)];
  }
  if (!name) return [fileName(photos[0].name), images(all)];
  return [`${name}?`, `predicted in ${count(agreeing)} of ${known}, ${percent(score)}`];
}
