// @ts-check
// The filter of a column of texts or booleans: its values to tick or to look for, with how many images have them.

import { choose, filterOf, setFilter } from "./activefilters.js";
import { api } from "./api.js";
import { debounced, el, fill, keepingFocus } from "./dom.js";
import { where } from "./filter.js";
import { count } from "./format.js";
import { state } from "./state.js";

/** @import {Column, Value} from "./types.js" */

const SHOWN = 10;
const MORE = 200; // values that are added at a time
const FEW = 6; // values among which nobody need look for one
const ASKED = 100; // ticked values whose counts are asked for

/**
 * The function that draws the values of a column into an element.
 * @param {Column} column
 * @param {HTMLElement} body
 */
export function valuesFacet(column, body) {
  const { name } = column;
  let contains = "";
  let limit = SHOWN;
  let order = "count";
  let abort = new AbortController();
  const list = el("div", { class: "values", role: "group", "aria-label": `Values of ${name}` });
  const told = el("p", { class: "hint" });
  const more = el("button", {
    type: "button",
    class: "link",
    onclick: () => {
      limit = limit === SHOWN ? MORE : limit + MORE;
      draw();
    },
  });
  const keep = el("button", { type: "button", class: "link", onclick: () => setFilter(name, { contains }) });
  const input = el("input", {
    type: "search",
    class: "small",
    placeholder: `Find in ${name}`,
    "aria-label": `Find in ${name}`,
    oninput: debounced(() => {
      contains = input.value.trim();
      limit = SHOWN;
      draw().catch(() => {});
    }, 200),
    onkeydown: (event) => {
      if (event.key === "Enter" && input.value.trim()) setFilter(name, { contains: input.value.trim() });
    },
  });
  const sort = el(
    "select",
    {
      class: "small",
      "aria-label": `Order of the values of ${name}`,
      onchange: () => {
        order = sort.value;
        draw();
      },
    },
    el("option", { value: "count" }, "by number"),
    el("option", { value: "value" }, "by name"),
  );
  const draw = async () => {
    abort.abort();
    abort = new AbortController();
    const { values: chosen = [], none = false } = filterOf(name) ?? {};
    const also = chosen.slice(0, ASKED).map(String);
    const query = { where: where(state().filters, name), limit, contains, order, also };
    const found = await api.values(name, query, abort.signal);
    if (!body.contains(list))
      fill(
        body,
        column.type === "text" ? el("div", { class: "facet-tools" }, input, sort) : null,
        keep,
        list,
        told,
        more,
      );
    const missing = chosen.filter((value) => !found.values.some((each) => each.value === value));
    /** @param {Value} value */
    const countOf = (value) =>
      found.also.find((each) => each.value === value)?.count ?? (also.length < chosen.length ? null : 0);
    const rows = [...missing.map((value) => ({ value, count: countOf(value) })), ...found.values];
    keepingFocus(list, () =>
      fill(
        list,
        rows.map((each) => choice(name, each.value, each.count, chosen.includes(each.value))),
        found.nulls && !contains ? choice(name, null, found.nulls, none) : null,
        rows.length || found.nulls
          ? null
          : el("p", { class: "hint" }, contains ? "No value contains that." : "No values under the other filters."),
      ),
    );
    const hidden = found.distinct - found.values.length;
    input.hidden = found.distinct <= FEW && !contains;
    sort.hidden = input.hidden;
    keep.hidden = !contains;
    keep.textContent = `Filter by all that contain “${contains}”`;
    told.hidden = hidden <= 0 || (limit === SHOWN && !contains);
    const first = order === "count" ? "The most frequent" : "The first";
    told.textContent = `${first} ${count(found.values.length)} of ${count(found.distinct)} values${contains ? " that contain it" : ""}.`;
    more.hidden = hidden <= 0;
    more.textContent =
      limit === SHOWN ? `${count(Math.max(0, hidden))} more values` : `Show ${count(Math.min(MORE, hidden))} more`;
  };
  return draw;
}

/**
 * @param {string} column
 * @param {Value | null} value
 * @param {number | null} number
 * @param {boolean} checked
 */
function choice(column, value, number, checked) {
  const title = value === null ? "no value" : value === true ? "yes" : value === false ? "no" : String(value);
  /** @type {HTMLInputElement} */
  const box = el("input", {
    type: "checkbox",
    checked,
    "data-key": JSON.stringify(value),
    onchange: () => choose(column, value),
  });
  return el(
    "label",
    { class: "choice", title },
    box,
    el("span", { class: value === null ? "value none" : "value" }, title),
    number === null ? null : el("span", { class: "number" }, count(number)),
  );
}
