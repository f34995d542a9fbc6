// The keys that work everywhere, and the help that lists all keys.

import { el, fill } from "./dom.js";
import { focusGallery } from "./gallery.js";
import { undoLast } from "./labels.js";
import { layered, panel } from "./layers.js";
import { focusSearch } from "./search.js";
import { selection } from "./selection.js";
import { focusLabel } from "./selectionbar.js";
import { go, state, VIEWS } from "./state.js";

const KEYS = [
  [
    "Everywhere",
    [
      ["/", "Search"],
      ["1 to 5", "Gallery, map, label help, duplicates, failures"],
      ["Ctrl Z", "Undo your last label"],
      ["Esc", "Close, or clear the selection"],
      ["?", "These keys"],
    ],
  ],
  [
    "In the gallery",
    [
      ["← ↑ ↓ →", "Move"],
      ["Enter or double click", "Open the photograph"],
      ["Click", "Select it alone"],
      ["Space or Ctrl click", "Select it as well"],
      ["Shift with arrows or click", "Select a range"],
      ["Ctrl A", "Select all that match"],
      ["L", "Label the selection"],
    ],
  ],
  [
    "With a photograph open",
    [
      ["← →", "The one before, the next"],
      ["Space", "Select it"],
      ["L", "Label it: type over what is there"],
      ["Esc in the box", "Leave the box, with its text"],
      ["Esc", "Back"],
    ],
  ],
  ["In label help", [["A", "Accept the suggestion and go on; held down, it waits for each picture"]]],
  [
    "On the map",
    [
      ["Drag, wheel, pinch", "Move and zoom"],
      ["Shift drag", "Lasso"],
      ["Arrows, + and −", "Move and zoom"],
      ["0", "Show all"],
    ],
  ],
];

export function startKeys() {
  document.getElementById("keys").addEventListener("click", showKeys);
  addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input:not([type=range]):not([type=checkbox]), textarea, select");
    const command = event.ctrlKey || event.metaKey;
    if (typing || event.defaultPrevented) return;
    if (command && !event.shiftKey && event.key.toLowerCase() === "z") undoLast();
    else if (command || event.altKey || layered()) return;
    else if (event.key === "/") focusSearch();
    else if (event.key === "?") showKeys();
    else if (event.key.toLowerCase() === "l") focusLabel();
    else if (event.key === "Escape" && selection.size) selection.clear();
    else if (event.key.startsWith("Arrow") && event.target === document.body && state().view === "gallery")
      focusGallery();
    else if (/^[1-5]$/.test(event.key)) go({ view: VIEWS[Number(event.key) - 1] });
    else return;
    event.preventDefault();
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
