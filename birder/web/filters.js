// The filters: every column with its values and how many photographs have them, under the other filters.

import { api, isAbort } from "./api.js";
import { bytes, count, decimal, el, failed, fill, icon, iconButton, keepingFocus, later, time } from "./dom.js";
import { where, words } from "./conditions.js";
import { go, listen, state, watch } from "./state.js";

const TECHNICAL = ["uri", "id", "sha256", "etag", "bytes", "modified", "width", "height"];
const SHOWN = 10;
const MANY = 200;
let collection;
const facets = new Map(); // name of a column -> its element, which keeps what was opened and typed

export function startFilters(of) {
  collection = of;
  draw();
  watch((now, before) => {
    if (JSON.stringify(now.filters) !== JSON.stringify(before.filters)) refresh();
  });
  const refreshSoon = later(refresh, 250); // labels may come many a second
  for (const name of ["labels", "undone", "theirs"]) listen(name, refreshSoon);
  listen("columns", draw);
}

function draw() {
  const panel = document.getElementById("filter-list");
  const filled = collection.columns.filter((column) => column.filled > 0);
  const rank = ({ name }) => TECHNICAL.indexOf(name);
  const mine = filled.filter((column) => rank(column) < 0);
  const technical = filled.filter((column) => rank(column) >= 0).sort((a, b) => rank(a) - rank(b));
  const empty = collection.columns.filter((column) => column.filled === 0).map((column) => column.name);
  fill(
    panel,
    mine.map((column, index) => facetOf(column, index < 3)),
    technical.length ? el("h2", {}, "About the files") : null,
    technical.map((column) => facetOf(column, false)),
    empty.length ? el("p", { class: "hint" }, `Without values: ${empty.join(", ")}.`) : null,
    filled.length ? null : el("p", { class: "hint" }, "There are no columns with values yet."),
  );
}

function facetOf(column, open) {
  if (!facets.has(column.name)) facets.set(column.name, facet(column, open));
  return facets.get(column.name);
}

function refresh() {
  for (const each of facets.values()) each.refresh();
}

/** Put a filter of one column in place of what was there; null takes it away. */
export function setFilter(column, filter) {
  const others = state().filters.filter((each) => each.column !== column);
  go({ filters: filter ? [...others, { column, ...filter }] : others });
}

const filterOf = (column) => state().filters.find((filter) => filter.column === column);

/** The chips of the active filters. */
export function filterChips() {
  return state().filters.map((filter) =>
    el(
      "span",
      { class: "chip" },
      el("b", {}, filter.column),
      " ",
      words(filter),
      iconButton("x", `Remove the filter on ${filter.column}`, () => setFilter(filter.column, null)),
    ),
  );
}

function facet(column, open) {
  const body = el("div", { class: "facet-body" });
  const summary = el("summary", {}, el("span", { class: "facet-name" }, column.name), icon("down"));
  const details = el("details", { class: "facet", open: open || Boolean(filterOf(column.name)) }, summary, body);
  const ranged = column.type === "number" || column.type === "time";
  const draw = ranged ? rangeFacet(column, body) : valuesFacet(column, body);
  let stale = true;
  const refresh = () => {
    details.classList.toggle("on", Boolean(filterOf(column.name)));
    stale = true;
    if (details.open) show();
  };
  const show = () => {
    if (!stale) return;
    stale = false;
    draw().catch((error) => isAbort(error) || fill(body, failed(error, refresh)));
  };
  details.addEventListener("toggle", () => details.open && show());
  if (details.open) show();
  details.classList.toggle("on", Boolean(filterOf(column.name)));
  return Object.assign(details, { refresh });
}

function valuesFacet(column, body) {
  let contains = "";
  let limit = SHOWN;
  let abort = new AbortController();
  const list = el("div", { class: "values", role: "group", "aria-label": `Values of ${column.name}` });
  const more = el("button", {
    type: "button",
    class: "link",
    onclick: () => {
      limit = MANY;
      draw();
    },
  });
  const keep = el("button", { type: "button", class: "link", onclick: () => setFilter(column.name, { contains }) });
  const input = el("input", {
    type: "search",
    class: "small",
    placeholder: `Find in ${column.name}`,
    "aria-label": `Find in ${column.name}`,
    oninput: later(() => {
      contains = input.value.trim();
      draw().catch(() => {});
    }, 200),
    onkeydown: (event) => {
      if (event.key === "Enter" && input.value.trim()) setFilter(column.name, { contains: input.value.trim() });
    },
  });
  const draw = async () => {
    abort.abort();
    abort = new AbortController();
    const answer = await api.values(
      column.name,
      { where: where(state().filters, column.name), limit, contains },
      abort.signal,
    );
    if (!body.contains(list)) fill(body, column.type === "text" ? input : null, keep, list, more);
    const chosen = filterOf(column.name) ?? {};
    const missing = (chosen.values ?? []).filter((value) => !answer.values.some((each) => each.value === value));
    const rows = [...missing.map((value) => ({ value, count: contains ? null : 0 })), ...answer.values];
    keepingFocus(list, () =>
      fill(
        list,
        rows.map((each) => choice(column.name, each.value, each.count, (chosen.values ?? []).includes(each.value))),
        answer.nulls && !contains ? choice(column.name, null, answer.nulls, Boolean(chosen.none)) : null,
        rows.length || answer.nulls
          ? null
          : el("p", { class: "hint" }, contains ? "No value contains that." : "No values under the other filters."),
      ),
    );
    const hidden = (answer.distinct ?? 0) - answer.values.length;
    input.hidden = (answer.distinct ?? 0) <= 6 && !contains;
    keep.hidden = !contains;
    keep.textContent = `Keep all that contain “${contains}”`;
    more.hidden = !(hidden > 0 && limit === SHOWN) || contains !== "";
    more.textContent = `${count(Math.max(0, hidden))} more values`;
  };
  return draw;
}

function choice(column, value, number, checked) {
  const title = value === null ? "no value" : value === true ? "yes" : value === false ? "no" : String(value);
  return el(
    "label",
    { class: "choice", title },
    el("input", {
      type: "checkbox",
      checked,
      "data-key": JSON.stringify(value),
      onchange: (event) => choose(column, value, event.target.checked),
    }),
    el("span", { class: value === null ? "value none" : "value" }, title),
    number === null ? null : el("span", { class: "number" }, count(number)),
  );
}

function choose(column, value, on) {
  const { values = [], none, contains } = filterOf(column) ?? {};
  const filter = { values: values.filter((each) => each !== value), none, contains };
  if (value === null) filter.none = on;
  else if (on) filter.values.push(value);
  if (!filter.none) delete filter.none;
  if (!filter.contains) delete filter.contains;
  setFilter(column, filter.values.length || filter.none || filter.contains ? filter : null);
}

// A range is drawn as a histogram with two sliders on it, and two fields for exact bounds.

function rangeFacet(column, body) {
  const timed = column.type === "time";
  let abort = new AbortController();
  return async () => {
    abort.abort();
    abort = new AbortController();
    const answer = await api.values(column.name, { where: where(state().filters, column.name) }, abort.signal);
    const bars = answer.histogram ?? [];
    const filter = filterOf(column.name) ?? {};
    if (answer.min === null || answer.min === undefined) {
      fill(body, el("p", { class: "hint" }, "No values under the other filters."));
      return;
    }
    const [min, max] = [toNumber(answer.min, timed), toNumber(answer.max, timed)];
    const set = (from, to) => {
      const bounds = { type: column.type };
      if (from !== undefined) bounds.from = from;
      if (to !== undefined) bounds.to = to;
      setFilter(column.name, from === undefined && to === undefined ? null : bounds);
    };
    const highest = Math.max(1, ...bars.map((bar) => bar.count));
    const [low, high] = [filter.from ?? answer.min, filter.to ?? answer.max].map((value) => toNumber(value, timed));
    const chart = el(
      "div",
      { class: "histogram", "aria-hidden": "true" },
      bars.map((bar) => {
        const inside = toNumber(bar.to, timed) >= low && toNumber(bar.from, timed) <= high;
        return el("span", {
          class: inside ? "bar in" : "bar",
          title: `${shortly(bar.from, column)} to ${shortly(bar.to, column)}: ${count(bar.count)}`,
          style: { height: `${bar.count ? Math.max(4, (100 * bar.count) / highest) : 0}%` },
        });
      }),
    );
    const sliders = max > min ? slider(min, max, low, high, column, set, filter) : null;
    keepingFocus(body, () =>
      fill(
        body,
        chart,
        sliders,
        el(
          "div",
          { class: "bounds" },
          bound("From", column, filter.from, answer.min, (value) => set(value, filter.to)),
          bound("To", column, filter.to, answer.max, (value) => set(filter.from, value)),
        ),
        answer.nulls ? el("p", { class: "hint" }, `${count(answer.nulls)} without a value`) : null,
      ),
    );
  };
}

function slider(min, max, low, high, column, set, filter) {
  const steps = 500;
  const position = (value) => Math.round((steps * (Math.min(Math.max(value, min), max) - min)) / (max - min));
  const value = (at) => fromNumber(min + (at * (max - min)) / steps, column);
  const handle = (label, at, act) =>
    el("input", {
      type: "range",
      min: 0,
      max: steps,
      value: at,
      "data-key": label,
      "aria-label": `${label} of ${column.name}`,
      "aria-valuetext": shortly(value(at), column),
      onchange: act,
    });
  const from = handle("Least", position(low), () => {
    const at = Math.min(Number(from.value), Number(to.value));
    set(at === 0 ? undefined : value(at), filter.to);
  });
  const to = handle("Most", position(high), () => {
    const at = Math.max(Number(from.value), Number(to.value));
    set(filter.from, at === steps ? undefined : value(at));
  });
  return el("div", { class: "sliders" }, from, to);
}

function bound(label, column, value, hint, set) {
  const timed = column.type === "time";
  const shown = value ?? hint;
  const input = el("input", {
    type: timed ? "datetime-local" : "number",
    step: "any",
    class: value === undefined ? "small unset" : "small",
    value: timed ? String(shown).slice(0, 16).replace(" ", "T") : String(decimalInput(shown)),
    "aria-label": `${label}: ${column.name}`,
    "data-key": `bound ${label}`,
    onchange: () => {
      if (input.value === "") set(undefined);
      else set(timed ? `${input.value}:00`.slice(0, 19) : Number(input.value));
    },
  });
  return el("label", {}, el("span", {}, label), input);
}

const decimalInput = (number) => (Number.isInteger(number) ? number : Number(Number(number).toPrecision(8)));
const toNumber = (value, timed) =>
  timed ? Date.parse(`${String(value).slice(0, 19).replace(" ", "T")}Z`) : Number(value);
const fromNumber = (number, { type }) =>
  type === "time" ? new Date(number).toISOString().slice(0, 19) : Number(number.toPrecision(6));
const shortly = (value, { name, type }) =>
  type === "time" ? time(value).slice(0, 16) : name === "bytes" ? bytes(Number(value)) : decimal(Number(value));
