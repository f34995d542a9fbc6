// @ts-check
// The box that labels are typed into: a column, a text with suggestions, and buttons.

import { api } from "./api.js";
import { COUNT, canCount, countObjection } from "./countfield.js";
import { debounced, el, fill } from "./dom.js";
import { labelColumns } from "./labels.js";
import { objection } from "./labeltext.js";
import { listen } from "./signals.js";

/** @import {Collection} from "./types.js" */

/**
 * @typedef {object} LabelBox
 * @property {HTMLElement} element
 * @property {boolean} writable
 * @property {() => void} renew offers the value again, unless something was typed
 * @property {() => void} focusText focuses the text and selects it, so that typing replaces it
 */

const COLUMN_KEY = "birder:column";
const SUGGESTIONS = 20;
const LONGEST_COLUMN = 60; // characters

/** @type {Collection} */
let collection;
/** @type {Map<HTMLElement, () => void>} the boxes, and what redraws their columns */
const boxes = new Map();
let made = 0;

/** @param {Collection} of */
export function startLabelBoxes(of) {
  collection = of;
  listen("columns", () => {
    for (const [box, drawColumns] of boxes) {
      if (box.isConnected) drawColumns();
      else boxes.delete(box);
    }
  });
}

let usedColumn = ""; // that was chosen last, in whichever box: the next image goes on with it

/** The column that was chosen last, in whichever box. */
export function currentColumn() {
  const kept = sessionStorage.getItem(COLUMN_KEY);
  usedColumn ||= kept !== null && labelColumns().includes(kept) ? kept : "label";
  return usedColumn;
}

/** @param {string} column */
function use(column) {
  usedColumn = column;
  sessionStorage.setItem(COLUMN_KEY, column);
}

/**
 * A label box: for the selection, or for one image.
 * @param {object} options
 * @param {(column: string, text: string | null) => Promise<boolean>} options.apply
 *   writes a label (null takes it away) and gives whether it did
 * @param {(column: string) => string} [options.valueIn] the value that the box offers
 * @param {boolean} [options.compact]
 * @returns {LabelBox}
 */
export function labelBox({ apply, valueIn = () => "", compact = false }) {
  if (!collection.writable) {
    const text = "This collection is read-only, so labels cannot be changed.";
    return { element: el("p", { class: "hint" }, text), writable: false, renew: () => {}, focusText: () => {} };
  }
  let offered = ""; // what stands in the box unless somebody types
  const list = el("datalist", { id: `labels-${++made}` });
  const input = el("input", {
    type: "text",
    class: "label-input",
    list: list.id,
    placeholder: "Label",
    "aria-label": "Label",
    autocomplete: "off",
    oninput: () => {
      input.setCustomValidity("");
      suggestSoon();
    },
    onfocus: () => suggest(),
    onkeydown: (event) => {
      if (event.key !== "Escape") return;
      event.preventDefault(); // the box alone is left, with its text
      event.stopPropagation();
      input.blur();
    },
  });
  const columns = el("select", {
    class: "label-column",
    "aria-label": "Column the label goes into",
    title: "Column the label goes into",
    onchange: () => {
      if (columns.value === "") {
        newColumn();
        return;
      }
      use(columns.value);
      drawInput();
      offer();
      suggest();
    },
  });
  const drawColumns = () => {
    const chosen = currentColumn();
    const names = [...new Set([...labelColumns(), chosen, ...(canCount(collection) ? [COUNT] : [])])];
    fill(
      columns,
      names.map((name) => el("option", { value: name }, name)),
      el("option", { value: "" }, "New column …"),
    );
    columns.value = chosen;
    drawInput();
  };
  const drawInput = () => {
    const isCount = columns.value === COUNT;
    input.type = isCount ? "number" : "text";
    input.min = isCount ? "0" : "";
    input.placeholder = isCount ? "How many" : "Label";
  };
  const offer = () => {
    if (input.value !== offered) return; // typed: it stays
    input.value = valueIn(columns.value);
    offered = input.value; // a field for a number takes no other text
  };
  const newColumn = () => {
    const name = el("input", {
      type: "text",
      class: "label-column",
      placeholder: "Name of the column",
      "aria-label": "Name of the new column",
      maxlength: LONGEST_COLUMN,
    });
    const done = () => {
      if (name.value.trim()) use(name.value.trim());
      name.replaceWith(columns);
      drawColumns();
      offer();
    };
    name.addEventListener("blur", done, { once: true });
    name.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== "Escape") return;
      event.preventDefault();
      event.stopPropagation();
      if (event.key === "Escape") name.value = "";
      input.focus();
    });
    columns.replaceWith(name);
    name.focus();
  };
  const suggest = async () => {
    const name = columns.value;
    const contains = input.value.trim();
    if (objection(contains) || !collection.columns.some((each) => each.name === name)) {
      list.replaceChildren();
      return;
    }
    try {
      const { values } = await api.values(name, { contains, limit: SUGGESTIONS });
      fill(
        list,
        values.map((each) => el("option", { value: each.value })),
      );
    } catch {
      list.replaceChildren(); // suggestions are a help: typing goes on without them
    }
  };
  const suggestSoon = debounced(suggest, 150);
  /** @param {string | null} text */
  const give = async (text) => {
    if (!(await apply(columns.value, text))) return false;
    if (text === null || input.value.trim() === text) offered = input.value = text ?? "";
    return true;
  };
  const element = el(
    "form",
    {
      class: compact ? "label-form compact" : "label-form",
      onsubmit: async (event) => {
        event.preventDefault();
        const text = input.value.trim();
        if (!text) {
          input.focus();
          return;
        }
        input.setCustomValidity(objection(text) || countObjection(columns.value, text));
        if (input.reportValidity() && (await give(text))) input.blur();
      },
    },
    columns,
    input,
    list,
    el("button", { type: "submit", class: "primary" }, "Apply"),
    el(
      "button",
      {
        type: "button",
        class: "quiet",
        title: "Remove the label",
        onclick: () => give(null),
      },
      "Remove",
    ),
  );
  drawColumns();
  offer();
  boxes.set(element, drawColumns);
  return { element, writable: true, renew: offer, focusText: () => input.select() };
}
