// @ts-check
// Filters that are kept under a name in the collection, for all who use it.

import { api } from "./api.js";
import { byId, el, fill, iconButton, messageOf, say } from "./dom.js";
import { where } from "./filter.js";
import { toast } from "./layers.js";
import { go, state, watch } from "./state.js";

/** @import {Collection, SavedFilter} from "./types.js" */

const LONGEST = 100; // characters of a name

/** @type {Collection} */
let collection;
/** @type {SavedFilter[]} */
let filters = [];
/** @type {HTMLElement} */
let list;
/** @type {HTMLFormElement} */
let form;

/** @param {Collection} of */
export function startSavedFilters(of) {
  collection = of;
  list = el("ul", { "aria-label": "Saved filters" });
  /** @type {HTMLInputElement} */
  const name = el("input", {
    type: "text",
    class: "small",
    placeholder: "Name of these filters",
    "aria-label": "Name of these filters",
    maxlength: LONGEST,
    autocomplete: "off",
  });
  form = el(
    "form",
    {
      onsubmit: async (event) => {
        event.preventDefault();
        const now = state();
        const sql = where(now.filters);
        if (!name.value.trim() || !sql) return;
        const kept = { name: name.value.trim(), where: sql, shown: now.filters };
        if (await change(api.keepFilter(kept))) {
          say(`${kept.name} is saved`);
          name.value = "";
        }
      },
    },
    name,
    el("button", { type: "submit" }, "Save"),
  );
  fill(byId("saved-filters"), list, form);
  watch(draw);
  change(api.filters());
}

/** @param {Promise<{filters: SavedFilter[]}>} asked */
async function change(asked) {
  try {
    ({ filters } = await asked);
    draw();
    return true;
  } catch (error) {
    toast(messageOf(error), { error: true });
    return false;
  }
}

function draw() {
  form.hidden = !collection.writable || !state().filters.length;
  list.hidden = !filters.length;
  byId("saved-filters").hidden = form.hidden && list.hidden;
  const now = where(state().filters);
  fill(
    list,
    filters.map(({ name, where: sql, shown }) =>
      el(
        "li",
        {},
        el(
          "button",
          {
            type: "button",
            class: "link",
            title: sql,
            "aria-pressed": String(sql === now),
            disabled: !shown.length,
            onclick: () => go({ filters: shown }),
          },
          name,
        ),
        collection.writable
          ? iconButton("x", `Remove the saved filter ${name}`, () => change(api.removeFilter(name)))
          : null,
      ),
    ),
  );
}
