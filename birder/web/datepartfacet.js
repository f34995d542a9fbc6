// @ts-check
// The filter of a column of times by the hour of the day, or by the month, whatever the year.

import { filterOf } from "./activefilters.js";
import { api } from "./api.js";
import { el, fill, keepingFocus } from "./dom.js";
import { keyOf, partText, where } from "./filter.js";
import { count } from "./format.js";
import { go, state } from "./state.js";

/** @import {Column, DatePart} from "./types.js" */

/**
 * What draws a button for each hour or month of a column's times into an element.
 * @param {Column} column
 * @param {DatePart} part
 * @returns {(body: HTMLElement) => () => Promise<void>}
 */
export function datePartFacet({ name }, part) {
  const key = keyOf({ column: name, part });
  const [first, number] = part === "hour" ? [0, 24] : [1, 12];
  const all = Array.from({ length: number }, (_, index) => first + index);
  let abort = new AbortController();
  let last = -1; // that was pressed: from there on, Shift and another press take all
  /** @param {number[]} values */
  const set = (values) => {
    const others = state().filters.filter((each) => keyOf(each) !== key);
    const chosen = all.filter((value) => values.includes(value));
    go({ filters: chosen.length ? [...others, { column: name, type: "time", part, values: chosen }] : others });
  };
  /**
   * @param {number} value
   * @param {boolean} range
   */
  const press = (value, range) => {
    const chosen = (filterOf(key)?.values ?? []).map(Number);
    if (range && last >= 0) {
      const length = ((value - last + number) % number) + 1; // over midnight or the new year, too
      set([...chosen, ...Array.from({ length }, (_, step) => ((last - first + step) % number) + first)]);
    } else set(chosen.includes(value) ? chosen.filter((each) => each !== value) : [...chosen, value]);
    last = value;
  };
  return (body) => async () => {
    abort.abort();
    abort = new AbortController();
    const found = await api.values(name, { where: where(state().filters, key), part, limit: number }, abort.signal);
    const counts = new Map(found.values.map((each) => [Number(each.value), each.count]));
    const chosen = filterOf(key)?.values ?? [];
    keepingFocus(body, () =>
      fill(
        body,
        el(
          "div",
          { class: "date-parts", role: "group", "aria-label": key },
          all.map((value) =>
            el(
              "button",
              {
                type: "button",
                "data-key": String(value),
                "aria-pressed": String(chosen.includes(value)),
                onclick: (event) => press(value, event.shiftKey),
              },
              partText(part, value),
              el("span", { class: "number" }, count(counts.get(value) ?? 0)),
            ),
          ),
        ),
        el("p", { class: "hint" }, "Shift and a click take all from the one before."),
      ),
    );
  };
}
