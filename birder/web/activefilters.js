// @ts-check
// The filters that are on: changing them, and their chips.

import { el, iconButton } from "./dom.js";
import { describe, keyOf } from "./filter.js";
import { go, state } from "./state.js";

/** @import {Filter, Value} from "./types.js" */

/**
 * The filter of a column, if there is one.
 * @param {string} column
 */
export const filterOf = (column) => state().filters.find((filter) => keyOf(filter) === column);

/**
 * Put a filter of one column in place of what was there; null takes it away.
 * @param {string} column
 * @param {Omit<Filter, "column"> | null} filter
 */
export function setFilter(column, filter) {
  const others = state().filters.filter((each) => keyOf(each) !== column);
  go({ filters: filter ? [...others, { ...filter, column }] : others });
}

/**
 * Put filters in place of those that their columns had.
 * @param {Filter[]} filters
 */
export function setFilters(filters) {
  const columns = new Set(filters.map(({ column }) => column));
  go({ filters: [...state().filters.filter(({ column }) => !columns.has(column)), ...filters] });
}

/**
 * Let a filter of values have one more, or one less; null stands for none.
 * @param {string} column
 * @param {Value | null} value
 */
export function choose(column, value) {
  const { values = [], none = false, contains } = filterOf(column) ?? {};
  const others = values.filter((each) => each !== value);
  const chosen = value !== null && others.length === values.length ? [...others, value] : others;
  const withNone = value === null ? !none : none;
  const any = chosen.length > 0 || withNone || Boolean(contains);
  const filter = { values: chosen, ...(withNone ? { none: true } : {}), ...(contains ? { contains } : {}) };
  setFilter(column, any ? filter : null);
}

/** The chips of the filters that are on. */
export function filterChips() {
  return state().filters.map((filter) =>
    el(
      "span",
      { class: "chip" },
      el("b", {}, keyOf(filter)),
      " ",
      describe(filter),
      iconButton("x", `Remove the filter on ${keyOf(filter)}`, () => setFilter(keyOf(filter), null)),
    ),
  );
}
