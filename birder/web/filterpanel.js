// @ts-check
// The panel of filters: every column, with its values or its range under the other filters.

import { filterOf } from "./activefilters.js";
import { isAbort } from "./api.js";
import { datePartFacet } from "./datepartfacet.js";
import { byId, debounced, el, failed, fill, icon, iconButton, keepingFocus, say } from "./dom.js";
import { FacetOrder } from "./facetorder.js";
import { keyOf } from "./filter.js";
import { rangeFacet } from "./rangefacet.js";
import { listen } from "./signals.js";
import { watch } from "./state.js";
import { valuesFacet } from "./valuesfacet.js";

/** @import {Collection, Column, DatePart} from "./types.js" */

/** @type {DatePart[]} */
const PARTS = ["hour", "month"];
const OPEN = 3; // columns whose values are shown from the start

/** @type {Collection} */
let collection;
/** @type {FacetOrder} */
let order;
let arranging = false;
/** @type {Map<string, {element: HTMLElement, refresh: () => void}>} by column; they keep what was opened and typed */
const facets = new Map();

/** @param {Collection} of */
export function startFilters(of) {
  collection = of;
  order = new FacetOrder(localStorage, of.path);
  draw();
  watch((now, before) => {
    if (JSON.stringify(now.filters) !== JSON.stringify(before.filters)) refresh();
  });
  const refreshSoon = debounced(refresh, 250); // labels may come many a second
  listen("labels", refreshSoon);
  listen("undone", refreshSoon);
  listen("theirs", refreshSoon);
  listen("columns", draw);
  let { rows } = of;
  listen("collection", () => {
    if (of.rows !== rows) refreshSoon();
    rows = of.rows;
  });
}

function draw() {
  const { columns, technical_columns: technical } = collection;
  const filled = columns.filter((column) => column.filled > 0);
  /** @param {Column} column */
  const place = ({ name }) => technical.indexOf(name);
  const own = filled.filter((column) => place(column) < 0);
  const files = filled.filter((column) => place(column) >= 0).sort((a, b) => place(a) - place(b));
  const empty = columns.filter((column) => column.filled === 0).map((column) => column.name);
  const byName = new Map(filled.map((column) => [column.name, column]));
  const names = [...own, ...files].map(({ name }) => name);
  if (arranging) {
    keepingFocus(byId("filter-list"), () => fill(byId("filter-list"), arrangeButton(), arrangement(names)));
    return;
  }
  /** @param {Column[]} some */
  const seen = (some) => some.filter(({ name }) => !order.isHidden(name));
  const mine = order.ordered(names).map((name) => /** @type {Column} */ (byName.get(name)));
  const [above, below] = order.isOwn ? [seen(mine), []] : [seen(own), seen(files)];
  const hidden = names.filter((name) => order.isHidden(name));
  fill(
    byId("filter-list"),
    filled.length ? arrangeButton() : null,
    above.map((column, index) => [
      facetOf(column, index < OPEN),
      column.type === "time" && own.includes(column) ? PARTS.map((part) => partOf(column, part)) : null,
    ]),
    below.length ? el("h2", {}, "About the files") : null,
    below.map((column) => facetOf(column, false)),
    hidden.length ? el("p", { class: "hint" }, `Hidden: ${hidden.join(", ")}.`) : null,
    empty.length ? el("p", { class: "hint" }, `Columns without values: ${empty.join(", ")}.`) : null,
    filled.length ? null : el("p", { class: "hint" }, "No column has values yet."),
  );
}

function arrangeButton() {
  const button = el(
    "button",
    {
      type: "button",
      class: "link arrange",
      "aria-pressed": String(arranging),
      "data-key": "arrange",
      onclick: () => {
        arranging = !arranging;
        keepingFocus(byId("filter-list"), draw);
      },
    },
    arranging ? "Done" : "Arrange the filters",
  );
  return button;
}

/**
 * Every column with buttons that move it, hide it and show it again.
 * @param {string[]} names in the page's order
 */
function arrangement(names) {
  /** @param {() => void} change */
  const change = (change) => () => {
    change();
    draw();
  };
  const mine = order.ordered(names);
  const rows = mine.map((name, index) => {
    const hidden = order.isHidden(name);
    /**
     * @param {-1 | 1} step
     * @param {string} way
     */
    const mover = (step, way) =>
      iconButton(
        "down",
        `Move ${name} ${way}`,
        change(() => {
          order.move(names, name, step);
          say(`${name} is number ${order.ordered(names).indexOf(name) + 1} of ${names.length}`);
        }),
        {
          class: `icon-button ${way}`,
          "data-key": `${way} ${name}`,
          "aria-disabled": String(index + step < 0 || index + step >= mine.length),
        },
      );
    return el(
      "li",
      {},
      el("span", { class: hidden ? "name hidden-facet" : "name" }, name),
      mover(-1, "up"),
      mover(1, "down"),
      el(
        "button",
        {
          type: "button",
          class: "link",
          "data-key": `hide ${name}`,
          "aria-label": `${hidden ? "Show" : "Hide"} ${name}`,
          onclick: change(() => order.toggle(name)),
        },
        hidden ? "Show" : "Hide",
      ),
    );
  });
  const reset = el(
    "button",
    { type: "button", class: "link", "data-key": "arrange", onclick: change(() => order.reset()) },
    "Back to the original order",
  );
  return [
    el("ul", { class: "arrangement", "aria-label": "Order of the filters" }, rows),
    order.isChanged ? reset : null,
  ];
}

/**
 * @param {Column} column
 * @param {boolean} open
 */
function facetOf(column, open) {
  const facet = facets.get(column.name) ?? newFacet(column, open);
  facets.set(column.name, facet);
  return facet.element;
}

/**
 * @param {Column} column
 * @param {DatePart} part
 */
function partOf(column, part) {
  const key = keyOf({ column: column.name, part });
  const facet = facets.get(key) ?? newFacet({ ...column, name: key }, false, datePartFacet(column, part));
  facets.set(key, facet);
  return facet.element;
}

function refresh() {
  for (const each of facets.values()) each.refresh();
}

/**
 * @param {Column} column whose name is the key of the filter
 * @param {boolean} open
 * @param {((body: HTMLElement) => () => Promise<void>) | null} [drawnBy]
 */
function newFacet(column, open, drawnBy = null) {
  const body = el("div", { class: "facet-body" });
  const summary = el("summary", {}, el("span", { class: "facet-name" }, column.name), icon("down"));
  const element = el("details", { class: "facet", open: open || Boolean(filterOf(column.name)) }, summary, body);
  const ranged = column.type === "number" || column.type === "time";
  const draw = drawnBy ? drawnBy(body) : ranged ? rangeFacet(column, body) : valuesFacet(column, body);
  let stale = true;
  const refresh = () => {
    element.classList.toggle("on", Boolean(filterOf(column.name)));
    stale = true;
    if (element.open) show();
  };
  const show = () => {
    if (!stale) return;
    stale = false;
    draw().catch((error) => isAbort(error) || fill(body, failed(error, refresh)));
  };
  element.addEventListener("toggle", () => element.open && show());
  refresh();
  return { element, refresh };
}
