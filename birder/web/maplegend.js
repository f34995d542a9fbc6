// @ts-check
// What the colours of the map mean.

import { categoryColour, css, scaleColour } from "./colours.js";
import { el, fill } from "./dom.js";
import { count, decimal, time } from "./format.js";

/** @import {Colour, MapColumn} from "./types.js" */

/** Stands for rows without a value; no category is empty. */
export const NO_VALUE = "";
const OTHER = "other"; // the server's name for all categories beyond the most frequent
const MOST = 40; // categories that have names of their own
const STEPS = 24; // of a scale

/**
 * Draw the legend of a column; without one it is hidden.
 * @param {HTMLElement} legend
 * @param {string} name of the column
 * @param {MapColumn | null} column
 * @param {{palette: Colour[], timed: boolean, kept: Uint32Array | null, chosen: Set<string>, toggle: (value: string) => void}} how
 *   `timed`: its numbers are times, in seconds since 1970; `kept`: the points that are counted, null for all; `chosen`: the
 *   values that are filtered by, which a press on an entry toggles
 */
export function drawLegend(legend, name, column, { palette, timed, kept, chosen, toggle }) {
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
  /** @param {number} code */
  const add = (code) => {
    if (code === 255) missing++;
    else counts[code]++;
  };
  if (kept) for (const index of kept) add(column.codes[index]);
  else for (const code of column.codes) add(code);
  const categories = column.categories.map((category, index) =>
    entry("", category, counts[index], {
      style: { background: css(categoryColour(palette, index)) },
      pressed: chosen.has(category),
      // "other" stands for many values, which no filter names
      toggle: category === OTHER && index === MOST ? null : () => toggle(category),
    }),
  );
  const none = { pressed: chosen.has(NO_VALUE), toggle: () => toggle(NO_VALUE) };
  fill(
    legend,
    title,
    el("ul", {}, categories, missing || none.pressed ? entry("none", "no value", missing, none) : null),
  );
}

/**
 * @param {string} kind
 * @param {string} value
 * @param {number} number of images
 * @param {{style?: Partial<CSSStyleDeclaration>, pressed: boolean, toggle: (() => void) | null}} how
 */
function entry(kind, value, number, { style, pressed, toggle }) {
  const content = [
    el("span", { class: "swatch", style }),
    el("span", { class: "value", title: value }, value),
    el("span", { class: "number" }, count(number)),
  ];
  if (!toggle) return el("li", { class: kind }, el("div", { class: "legend-entry" }, content));
  return el(
    "li",
    { class: kind },
    el(
      "button",
      {
        type: "button",
        class: "legend-entry",
        "aria-pressed": String(pressed),
        "data-key": `${kind} ${value}`,
        onclick: toggle,
      },
      content,
    ),
  );
}
