// Labels: the bar under a selection, giving a label, taking it back, and the history of what was given.

import { api } from "./api.js";
import { busy, count, el, emptyState, failed, fill, iconButton, later, photographs, say, time } from "./dom.js";
import { panel, toast } from "./layers.js";
import { searchLike, searchUnlike } from "./search.js";
import { selection } from "./selection.js";
import { listen, tellAll } from "./state.js";

const TECHNICAL = ["id", "uri", "sha256", "etag"];
const AT_ONCE = 100_000;
let collection, bar, counter, editor;

export function startLabels(of) {
  collection = of;
  bar = document.getElementById("selection-bar");
  counter = el("b", { class: "selected-count" });
  editor = labelEditor({ apply: (column, value) => give(selection.ids(), column, value) });
  fill(
    bar,
    iconButton("x", "Clear the selection (Esc)", () => selection.clear()),
    counter,
    editor,
    el(
      "div",
      { class: "bar-actions" },
      el(
        "button",
        { type: "button", onclick: () => searchLike(selection.ids()) },
        "More like",
        el("span", { class: "these" }, "these"),
      ),
      el(
        "button",
        { type: "button", class: "quiet", onclick: () => searchUnlike(selection.ids()) },
        "Unlike",
        el("span", { class: "these" }, "these"),
      ),
    ),
  );
  listen("columns", () => editor.drawColumns?.());
  listen("selection", () => {
    bar.hidden = selection.size === 0;
    document.body.classList.toggle("with-selection", selection.size > 0);
    counter.textContent = `${count(selection.size)} selected`;
    say(selection.size ? `${photographs(selection.size)} selected` : "Nothing selected");
  });
}

export const focusLabel = () => !bar.hidden && bar.querySelector("input[type=text]").focus();

/** Columns that labels can go into: of text, and not Birder's own. */
export const labelColumns = () =>
  collection.columns
    .filter((column) => column.type === "text" && !TECHNICAL.includes(column.name))
    .map((column) => column.name);

/** Write a label (null takes it away) and offer to undo it; true when it is done. */
export async function give(ids, column, value, { quiet = false } = {}) {
  try {
    let changed = 0;
    const changes = [];
    for (let start = 0; start < ids.length; start += AT_ONCE) {
      const answer = await api.label(ids.slice(start, start + AT_ONCE), column, value);
      changed += answer.changed;
      changes.push(answer.change);
    }
    if (!collection.columns.some((each) => each.name === column)) {
      collection.columns.push({ name: column, type: "text", filled: changed });
      tellAll("columns");
    }
    tellAll("labels", { ids, column, value });
    const what =
      value === null
        ? `Took ${column} from ${photographs(changed)}`
        : `${photographs(changed)}: ${column} is now “${value}”`;
    if (quiet) say(what);
    else
      toast(
        changed ? what : `Nothing to change: ${column} was so already`,
        changed ? { action: { label: "Undo", act: () => takeBack(changes) } } : {},
      );
    return true;
  } catch (error) {
    toast(error.message, { error: true, action: { label: "Try again", act: () => give(ids, column, value) } });
    return false;
  }
}

/** Undo changes; the last one without any. */
export async function takeBack(changes = [undefined]) {
  try {
    let restored = 0,
      skipped = 0;
    for (const change of [...changes].reverse()) {
      const answer = await api.undo(change);
      restored += answer.restored;
      skipped += answer.skipped;
    }
    tellAll("undone");
    toast(
      `Undone: ${photographs(restored)} ${restored === 1 ? "has" : "have"} the label from before${skipped ? `; ${count(skipped)} had been changed since and stay as they are` : ""}`,
    );
  } catch (error) {
    toast(error.message, { error: error.status !== 404 && error.status !== 409 });
  }
}

/** A column, a text with suggestions, and a button: for the selection, and for one photograph. */
export function labelEditor({ apply, value = "", column = "label", compact = false }) {
  if (!collection.writable) {
    return el("p", { class: "hint" }, "This collection is served for reading only, so labels cannot be changed.");
  }
  const list = el("datalist", { id: `labels-${Math.random().toString(36).slice(2)}` });
  const input = el("input", {
    type: "text",
    class: "label-input",
    value,
    list: list.id,
    placeholder: "Label",
    "aria-label": "Label",
    maxlength: 200,
    autocomplete: "off",
    oninput: later(() => suggest(), 150),
    onfocus: () => suggest(),
  });
  const columns = el("select", {
    class: "label-column",
    "aria-label": "Column the label goes into",
    title: "Column the label goes into",
    onchange: () => {
      if (columns.value === "") newColumn();
      else suggest();
    },
  });
  const drawColumns = (chosen) => {
    const names = [...new Set([...labelColumns(), chosen])];
    fill(
      columns,
      names.map((name) => el("option", { value: name }, name)),
      el("option", { value: "" }, "New column …"),
    );
    columns.value = chosen;
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
      name.replaceWith(columns);
      drawColumns(name.value.trim() || column);
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
    if (!collection.columns.some((each) => each.name === name)) return list.replaceChildren();
    try {
      const { values } = await api.values(name, { contains: input.value.trim(), limit: 20 });
      fill(
        list,
        values.map((each) => el("option", { value: each.value })),
      );
    } catch {
      list.replaceChildren(); // suggestions are a help: typing goes on without them
    }
  };
  const form = el(
    "form",
    {
      class: compact ? "label-form compact" : "label-form",
      onsubmit: async (event) => {
        event.preventDefault();
        const text = input.value.trim();
        if (!text) return input.focus();
        if (await apply(columns.value, text)) input.blur();
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
        onclick: () => {
          input.value = "";
          apply(columns.value, null);
        },
      },
      "Remove",
    ),
  );
  drawColumns(column);
  form.drawColumns = () => drawColumns(columns.value || column);
  return form;
}

/** What was labelled, newest first, each with a button that takes it back. */
export async function showHistory() {
  const { body } = panel("History of labels", "side");
  const draw = async () => {
    try {
      const { changes } = await api.history();
      if (!changes.length) {
        fill(
          body,
          emptyState("history", "Nothing labelled yet", "Every label you give is listed here, and can be taken back."),
        );
        return;
      }
      fill(
        body,
        el(
          "ul",
          { class: "history" },
          changes.map((change) =>
            el(
              "li",
              { class: change.undone ? "undone" : "" },
              el(
                "div",
                {},
                el(
                  "p",
                  {},
                  change.value === null ? el("i", {}, "no label") : el("b", {}, change.value),
                  ` in ${change.column}`,
                ),
                el("p", { class: "hint" }, `${photographs(change.count)}, ${time(change.at)}`),
              ),
              change.undone
                ? el("span", { class: "hint" }, "undone")
                : el(
                    "button",
                    {
                      type: "button",
                      onclick: async (event) => {
                        event.target.disabled = true;
                        await takeBack([change.change]);
                        draw();
                      },
                    },
                    "Undo",
                  ),
            ),
          ),
        ),
      );
    } catch (error) {
      fill(body, failed(error, draw));
    }
  };
  fill(body, busy("Reading the history"));
  draw();
}
