// @ts-check
// The filter of the column `count`, whose numbers are labels and so texts: a range, as of other numbers.

import { api } from "./api.js";
import { rangeOf } from "./digits.js";
import { rangeFacet } from "./rangefacet.js";

/** @import {Column} from "./types.js" */

const DISTINCT = 10_000; // values that are asked for

/**
 * The function that draws the range of the counts into an element.
 * @param {Column} column of text
 * @param {HTMLElement} body
 */
export const countFacet = (column, body) =>
  rangeFacet(column, body, { ask: counts, of: { digits: true }, round: (value) => Math.round(Number(value)) });

/** @type {typeof api.values} */
async function counts(name, query, signal) {
  const found = await api.values(name, { ...query, limit: DISTINCT }, signal);
  return { ...found, ...rangeOf(found.values) };
}
