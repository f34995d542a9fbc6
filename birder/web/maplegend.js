// @ts-check
// What the colours of the map mean.

import { categoryColour, css, scaleColour } from "./colours.js";
import { el, fill } from "./dom.js";
import { count, decimal, time } from "./format.js";

/** @import {Colour, MapColumn} from "./types.js" */

const STEPS = 24; // of a scale

/**
 * Draw the legend of a column; without one it is hidden.
 * @param {HTMLElement} legend
 * @param {string} name of the column
 * @param {MapColumn | null} column
 * @param {{palette: Colour[], timed: boolean}} options whether its numbers are times, in seconds since 1970
 */
export function drawLegend(legend, name, column, { palette, timed }) {
  legend.hidden = !column;
  if (!column) return;
  const title = el("h2", {}, name);
  if (column.type === "number") {
    /** @param {number | null} value */
    const shown = (value) =>
      value === null ? "" : timed ? time(new Date(value * 1000).toISOString()).slice(0, 10) : decimal(value);
    const steps = Array.from({ length: STEPS }, (_, step) =>
      el("span", { style: { background: css(scaleColour(step / (STEPS - 1))) } }),
    );
    fill(
      legend,
      title,
      el("div", { class: "scale" }, steps),
      el("div", { class: "scale-ends" }, el("span", {}, shown(column.min)), el("span", {}, shown(column.max))),
    );
    return;
  }
  /** @type {number[]} */
  const counts = new Array(column.categories.length).fill(0);
  let missing = 0;
  for (const code of column.codes) {
    if (code === 255) missing++;
    else counts[code]++;
  }
  const categories = column.categories.map((category, index) =>
    entry("", category, counts[index], { background: css(categoryColour(palette, index)) }),
  );
  fill(legend, title, el("ul", {}, categories, missing ? entry("none", "no value", missing) : null));
}

/**
 * @param {string} kind
 * @param {string} value
 * @param {number} number of images
 * @param {Partial<CSSStyleDeclaration>} [style]
 */
const entry = (kind, value, number, style) =>
  el(
    "li",
    { class: kind },
    el("span", { class: "swatch", style }),
    el("span", { class: "value", title: value }, value),
    el("span", { class: "number" }, count(number)),
  );
