// @ts-check
// What labels are as texts: what can be one, and what is said when they are given.

import { count, images } from "./format.js";

/** @import {Label} from "./types.js" */

const LONGEST = 300; // characters

/**
 * Why a text cannot be a label; empty if it can. Characters are counted as the server counts them.
 * @param {string} text
 */
export function objection(text) {
  const length = [...text.normalize("NFC")].length;
  return length > LONGEST ? `A label has up to ${LONGEST} characters; this one has ${count(length)}.` : "";
}

/**
 * What giving labels did.
 * @param {Label[]} labels
 * @param {number} changed how many images
 */
export function summary(labels, changed) {
  const [{ column, value }] = labels;
  if (labels.length > 1) return `${images(changed)}: ${column} now has ${labels.length} values`;
  return value === null
    ? `Removed ${column} from ${images(changed)}`
    : `${images(changed)}: ${column} is now “${value}”`;
}
