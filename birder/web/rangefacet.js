// @ts-check
// The filter of a column of numbers or times: a histogram with two sliders on it, and two fields for exact bounds.

import { filterOf, setFilter } from "./activefilters.js";
import { api } from "./api.js";
import { el, fill, keepingFocus } from "./dom.js";
import { where } from "./filter.js";
import { bytes, count, decimal, time } from "./format.js";
import { state } from "./state.js";

/** @import {Column, Filter} from "./types.js" */

/** @typedef {number | string} Bound a number, or a time as ISO 8601 */
/** @typedef {(from: Bound | undefined, to: Bound | undefined) => void} SetRange */

const STEPS = 500; // of a slider

/**
 * The function that draws the range of a column into an element.
 * @param {Column} column
 * @param {HTMLElement} body
 * @param {{ask?: typeof api.values, of?: Partial<Filter>, round?: (value: Bound) => Bound}} [how]
 *   how the range is asked for, what else the filter says, and the bounds that it has
 */
export function rangeFacet(column, body, { ask = api.values, of = {}, round = (value) => value } = {}) {
  const { name } = column;
  /** @type {"time" | "number"} */
  const type = column.type === "time" ? "time" : "number";
  let abort = new AbortController();
  return async () => {
    abort.abort();
    abort = new AbortController();
    const found = await ask(name, { where: where(state().filters, name) }, abort.signal);
    const { min, max } = found;
    if (min === null || min === undefined || max === null || max === undefined) {
      fill(body, el("p", { class: "hint" }, "No values under the other filters."));
      return;
    }
    const filter = filterOf(name) ?? { column: name };
    /** @type {SetRange} */
    const set = (from, to) => {
      const bounds = {
        ...(from === undefined ? {} : { from: round(from) }),
        ...(to === undefined ? {} : { to: round(to) }),
      };
      const range = { type, ...of, ...bounds };
      setFilter(name, from === undefined && to === undefined ? null : range);
    };
    const ends = { min: toNumber(min, column), max: toNumber(max, column) };
    const chosen = { low: toNumber(filter.from ?? min, column), high: toNumber(filter.to ?? max, column) };
    keepingFocus(body, () =>
      fill(
        body,
        histogram(found.histogram ?? [], column, chosen),
        ends.max > ends.min ? sliders(column, ends, chosen, set) : null,
        el(
          "div",
          { class: "bounds" },
          field("From", column, filter.from, min, (value) => set(value, filterOf(name)?.to)),
          field("To", column, filter.to, max, (value) => set(filterOf(name)?.from, value)),
        ),
        found.nulls ? el("p", { class: "hint" }, `${count(found.nulls)} without a value`) : null,
      ),
    );
  };
}

/**
 * @param {{from: Bound, to: Bound, count: number}[]} bins
 * @param {Column} column
 * @param {{low: number, high: number}} chosen
 */
function histogram(bins, column, { low, high }) {
  const highest = Math.max(1, ...bins.map((bin) => bin.count));
  return el(
    "div",
    { class: "histogram", "aria-hidden": "true" },
    bins.map((bin) => {
      const inside = toNumber(bin.to, column) >= low && toNumber(bin.from, column) <= high;
      return el("span", {
        class: inside ? "bar in" : "bar",
        title: `${short(bin.from, column)} to ${short(bin.to, column)}: ${count(bin.count)}`,
        style: { height: `${bin.count ? Math.max(4, (100 * bin.count) / highest) : 0}%` },
      });
    }),
  );
}

/**
 * @param {Column} column
 * @param {{min: number, max: number}} ends
 * @param {{low: number, high: number}} chosen
 * @param {SetRange} set
 */
function sliders(column, { min, max }, { low, high }, set) {
  /** @param {number} value */
  const positionOf = (value) => Math.round((STEPS * (Math.min(Math.max(value, min), max) - min)) / (max - min));
  /** @param {number} at */
  const valueAt = (at) => fromNumber(min + (at * (max - min)) / STEPS, column);
  /**
   * @param {string} label
   * @param {number} at
   * @param {() => void} onchange
   */
  const handle = (label, at, onchange) =>
    el("input", {
      type: "range",
      min: 0,
      max: STEPS,
      value: at,
      "data-key": label,
      "aria-label": `${label} of ${column.name}`,
      "aria-valuetext": short(valueAt(at), column),
      onchange,
    });
  const from = handle("Least", positionOf(low), () => {
    const at = Math.min(Number(from.value), Number(to.value));
    set(at === 0 ? undefined : valueAt(at), filterOf(column.name)?.to);
  });
  const to = handle("Most", positionOf(high), () => {
    const at = Math.max(Number(from.value), Number(to.value));
    set(filterOf(column.name)?.from, at === STEPS ? undefined : valueAt(at));
  });
  return el("div", { class: "sliders" }, from, to);
}

/**
 * @param {string} label
 * @param {Column} column
 * @param {Bound | undefined} value
 * @param {Bound} hint what is shown while there is no bound
 * @param {(value: Bound | undefined) => void} set
 */
function field(label, column, value, hint, set) {
  const timed = column.type === "time";
  const shown = value ?? hint;
  const input = el("input", {
    type: timed ? "datetime-local" : "number",
    step: "any",
    class: value === undefined ? "small unset" : "small",
    value: timed ? inField(shown) : rounded(Number(shown)),
    "aria-label": `${label}: ${column.name}`,
    "data-key": `bound ${label}`,
    onchange: () => {
      if (input.value === "") set(undefined);
      else set(timed ? input.value : Number(input.value)); // a minute without seconds is all of that minute
    },
  });
  return el("label", {}, el("span", {}, label), input);
}

/**
 * A time as its field takes it, with seconds where there are any.
 * @param {Bound} value
 */
const inField = (value) =>
  String(value)
    .replace(" ", "T")
    .slice(0, 19)
    .replace(/(T\d\d:\d\d):00$/, "$1");

/** @param {number} number */
const rounded = (number) => String(Number.isInteger(number) ? number : Number(number.toPrecision(8)));

/**
 * @param {Bound} value
 * @param {Column} column
 */
const toNumber = (value, { type }) =>
  type === "time" ? Date.parse(`${String(value).slice(0, 19).replace(" ", "T")}Z`) : Number(value);

/**
 * @param {number} number
 * @param {Column} column
 */
const fromNumber = (number, { type }) =>
  type === "time" ? new Date(number).toISOString().slice(0, 19) : Number(number.toPrecision(6));

/**
 * @param {Bound} value
 * @param {Column} column
 */
const short = (value, { name, type }) =>
  type === "time" ? time(value) : name === "bytes" ? bytes(Number(value)) : decimal(Number(value));
