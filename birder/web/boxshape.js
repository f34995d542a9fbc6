// @ts-check
// The shape of a box that is drawn: fractions of the image, which it never leaves. Numbers alone.

/** @import {Rectangle} from "./types.js" */
/** @typedef {{x: number, y: number}} Point */

export const LEAST = 0.005; // of the image's side

/** Sides by which a box is dragged: a corner has two letters; "" moves it. */
export const SIDES = ["nw", "n", "ne", "e", "se", "s", "sw", "w"];

/** @param {number} value */
const inside = (value) => Math.min(1, Math.max(0, value));

/**
 * The box between two points, wherever they are.
 * @param {Point} a
 * @param {Point} b
 * @returns {Rectangle}
 */
export function between(a, b) {
  const [left, right] = [inside(Math.min(a.x, b.x)), inside(Math.max(a.x, b.x))];
  const [top, bottom] = [inside(Math.min(a.y, b.y)), inside(Math.max(a.y, b.y))];
  return fitted({ x: left, y: top, width: right - left, height: bottom - top });
}

/**
 * A box whose sides were dragged, or which was moved.
 * @param {Rectangle} box
 * @param {string} side of `SIDES`
 * @param {Point} by
 * @returns {Rectangle}
 */
export function dragged(box, side, by) {
  if (!side) {
    const x = Math.min(1 - box.width, Math.max(0, box.x + by.x));
    const y = Math.min(1 - box.height, Math.max(0, box.y + by.y));
    return { ...box, x, y };
  }
  let [left, top, right, bottom] = [box.x, box.y, box.x + box.width, box.y + box.height];
  if (side.includes("w")) left = Math.min(right - LEAST, inside(left + by.x));
  if (side.includes("e")) right = Math.max(left + LEAST, inside(right + by.x));
  if (side.includes("n")) top = Math.min(bottom - LEAST, inside(top + by.y));
  if (side.includes("s")) bottom = Math.max(top + LEAST, inside(bottom + by.y));
  return fitted({ x: left, y: top, width: right - left, height: bottom - top });
}

/**
 * A box that is on the image, and has an area.
 * @param {Rectangle} box
 * @returns {Rectangle}
 */
export function fitted({ x, y, width, height }) {
  const [w, h] = [Math.min(1, Math.max(LEAST, width)), Math.min(1, Math.max(LEAST, height))];
  return { x: Math.min(1 - w, Math.max(0, x)), y: Math.min(1 - h, Math.max(0, y)), width: w, height: h };
}
