// @ts-check
// The keys that work everywhere, and the panel that lists all keys.

import { VIEWS } from "./address.js";
import { decisionOf } from "./decisions.js";
import { byId, closest, el, fill } from "./dom.js";
import { focusGallery } from "./gallery.js";
import { actionOf, KEYS } from "./keymap.js";
import { undoLast } from "./labels.js";
import { isLayered, panel } from "./layers.js";
import { focusSearch } from "./search.js";
import { selection } from "./selection.js";
import { decideSelected, focusLabel } from "./selectionbar.js";
import { go, state } from "./state.js";

const TYPED_INTO = "input:not([type=range]):not([type=checkbox]), textarea, select";

export function startKeys() {
  byId("keys").addEventListener("click", showKeys);
  addEventListener("keydown", (event) => {
    if (closest(event, TYPED_INTO) || event.defaultPrevented) return;
    const action = actionOf(event, {
      layered: isLayered(),
      selected: selection.size > 0,
      onGallery: event.target === document.body && state().view === "gallery",
    });
    if (action === undefined) return;
    event.preventDefault();
    if (action === "undo") undoLast();
    else if (action === "search") focusSearch();
    else if (action === "keys") showKeys();
    else if (action === "label") focusLabel();
    else if (action === "clear") selection.clear();
    else if (action === "gallery") focusGallery();
    else if (action === "decide") decideSelected(decisionOf(event));
    else {
      const views = VIEWS.filter((view) => !byId(`tab-${view}`).hidden);
      const to = views.indexOf(state().view) + Number(action.split(" ")[1]);
      go({ view: views[(to + views.length) % views.length] });
    }
  });
}

function showKeys() {
  const { body } = panel("Keys", "wide");
  fill(
    body,
    el(
      "div",
      { class: "keys" },
      KEYS.map(([title, keys]) =>
        el(
          "section",
          {},
          el("h3", {}, title),
          el(
            "dl",
            {},
            keys.map(([key, meaning]) => el("div", {}, el("dt", {}, el("kbd", {}, key)), el("dd", {}, meaning))),
          ),
        ),
      ),
    ),
  );
}
