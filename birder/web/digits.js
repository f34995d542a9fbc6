// @ts-check
// Whole numbers that are texts, compared as numbers without a cast, which would fail at the first text that is not one:
// of two without leading zeros, the longer is the greater, and of two that are as long, the one that sorts later.

/** @import {Bin, ColumnValues, Filter} from "./types.js" */

const WHOLE = /^(0|[1-9]\d{0,8})$/;
const BINS = 24;

/**
 * Whether a text is a whole number, written as the page writes it.
 * @param {string} text
 */
export const isWhole = (text) => WHOLE.test(text);

/**
 * SQL expressions that hold together for whole numbers in a range.
 * @param {string} column as SQL has it
 * @param {Filter} filter
 */
export function digitsBetween(column, { from, to }) {
  /**
   * @param {number} bound
   * @param {"<" | ">"} way
   */
  const beyond = (bound, way) => {
    const text = String(Math.max(0, bound));
    return `(char_length(${column}) ${way} ${text.length} OR (char_length(${column}) = ${text.length} AND ${column} ${way}= '${text}'))`;
  };
  const parts = [`regexp_like(${column}, '^(0|[1-9][0-9]*)$')`];
  if (from !== undefined) parts.push(beyond(Math.ceil(Number(from)), ">"));
  if (to !== undefined) parts.push(Number(to) < 0 ? `${column} = ''` : beyond(Math.floor(Number(to)), "<"));
  return parts;
}

/**
 * The least and greatest of the values that are whole numbers, and how many images have those between.
 * @param {ColumnValues["values"]} values
 */
export function rangeOf(values) {
  const numbers = values
    .filter(({ value }) => isWhole(String(value)))
    .map(({ value, count }) => ({ value: Number(value), count }));
  if (!numbers.length) return { min: null, max: null, histogram: null };
  const min = Math.min(...numbers.map(({ value }) => value));
  const max = Math.max(...numbers.map(({ value }) => value));
  const width = Math.max(1, Math.ceil((max - min + 1) / BINS));
  const bins = Math.floor((max - min) / width) + 1;
  /** @type {Bin[]} */
  const histogram = Array.from({ length: bins }, (_, at) => {
    const from = min + at * width;
    return { from, to: Math.min(max, from + width - 1), count: 0 };
  });
  for (const { value, count } of numbers) histogram[Math.floor((value - min) / width)].count += count;
  return { min, max, histogram };
}
