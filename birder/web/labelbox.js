// The box that labels are typed into: a column, a text with suggestions, and buttons.

import { api } from "./api.js";
import { el, fill, later } from "./dom.js";
import { labelColumns, objection } from "./labels.js";
import { listen } from "./state.js";

const COLUMN = "birder:column";
let collection;
const boxes = new Set();

export function startLabelBoxes(of) {
  collection = of;
  listen("columns", () => {
    for (const box of boxes) {
      if (box.isConnected) box.drawColumns();
      else boxes.delete(box);
    }
  });
}

let used = ""; // the column that was chosen last, in whichever box: the next photograph goes on with it

function usedColumn() {
  const kept = sessionStorage.getItem(COLUMN);
  used ||= labelColumns().includes(kept) ? kept : "label";
  return used;
}

function use(column) {
  used = column;
  sessionStorage.setItem(COLUMN, column);
}

/**
 * A label box: for the selection, and for one photograph. `apply(column, text)` writes (null takes away) and gives
 * whether it did; `valueIn(column)` is the value that the box offers. `renew()` of the element offers it again.
 */
export function labelBox({ apply, valueIn = () => "", compact = false }) {
  if (!collection.writable) {
    return el("p", { class: "hint" }, "This collection is served for reading only, so labels cannot be changed.");
  }
  let offered = ""; // what stands in the box unless somebody types
  const list = el("datalist", { id: `labels-${Math.random().toString(36).slice(2)}` });
  const input = el("input", {
    type: "text",
    class: "label-input",
    list: list.id,
    placeholder: "Label",
    "aria-label": "Label",
    autocomplete: "off",
    oninput: () => {
      input.setCustomValidity("");
      suggestLater();
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
      if (columns.value === "") return newColumn();
      use(columns.value);
      offer();
      suggest();
    },
  });
  const drawColumns = () => {
    const chosen = usedColumn();
    const names = [...new Set([...labelColumns(), chosen])];
    fill(
      columns,
      names.map((name) => el("option", { value: name }, name)),
      el("option", { value: "" }, "New column …"),
    );
    columns.value = chosen;
  };
  const offer = () => {
    if (input.value !== offered) return; // typed: it stays
    offered = input.value = valueIn(columns.value) ?? "";
  };
  const newColumn = () => {
    const name = el("input", {
      type: "text",
      class: "label-column",
      placeholder: "Column's name",
      "aria-label": "New column's name",
      maxlength: 60,
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
    if (objection(contains) || !collection.columns.some((each) => each.name === name)) return list.replaceChildren();
    try {
      const { values } = await api.values(name, { contains, limit: 20 });
      fill(
        list,
        values.map((each) => el("option", { value: each.value })),
      );
    } catch {
      list.replaceChildren(); // suggestions are a help: typing goes on without them
    }
  };
  const suggestLater = later(suggest, 150);
  const give = async (text) => {
    const column = columns.value;
    if (!(await apply(column, text))) return false;
    if (text === null || input.value.trim() === text) offered = input.value = text ?? "";
    return true;
  };
  const box = el(
    "form",
    {
      class: compact ? "label-form compact" : "label-form",
      onsubmit: async (event) => {
        event.preventDefault();
        const text = input.value.trim();
        if (!text) return input.focus();
        input.setCustomValidity(objection(text));
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
        title: "Take the label away",
        onclick: () => give(null),
      },
      "Remove",
    ),
  );
  drawColumns();
  offer();
  boxes.add(box);
  return Object.assign(box, { drawColumns, renew: offer, focusText: () => input.select() });
}
