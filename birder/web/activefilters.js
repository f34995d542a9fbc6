// @ts-check
// The filters that are on: changing them, and their chips.

import { el, iconButton } from "./dom.js";
import { describe, keyOf } from "./filter.js";
import { go, state } from "./state.js";

/** @import {Filter} from "./types.js" */

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
