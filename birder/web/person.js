// Who labels: a name that is given once and kept in this browser. It goes with every label.

import { el, fill } from "./dom.js";
import { panel } from "./layers.js";

const KEY = "birder:name";
let asking = null;

/** The person's name; null for somebody who gave none. */
export const me = () => localStorage.getItem(KEY) || null;

/** Ask for the name, if this browser was never asked. */
export const introduced = () => (localStorage.getItem(KEY) === null ? askName() : undefined);

/** Ask for the name, once at a time; settles when the question is gone. */
export function askName() {
  asking ??= new Promise((resolve) => ask(resolve)).finally(() => (asking = null));
  return asking;
}

function ask(done) {
  let typed = false;
  const input = el("input", {
    type: "text",
    id: "person-name",
    value: me() ?? "",
    maxlength: 100,
    autocomplete: "name",
    onkeydown: (event) => {
      typed ||= !event.repeat;
      if (!typed) event.preventDefault(); // a key that was held down when the question came
    },
  });
  const settle = (name) => {
    localStorage.setItem(KEY, name);
    close();
  };
  const { body, close } = panel("Who labels here?", "small", { onclosed: () => leave() });
  const leave = () => {
    if (localStorage.getItem(KEY) === null) localStorage.setItem(KEY, "");
    done();
  };
  fill(
    body,
    el(
      "form",
      {
        class: "name-form",
        onsubmit: (event) => {
          event.preventDefault();
          settle(input.value.trim());
        },
      },
      el(
        "p",
        {},
        "Your name stands beside the labels that you give, for those who work on the same collection. It is kept in this browser, and can be changed in the history of labels.",
      ),
      el("label", { for: "person-name" }, "Your name"),
      input,
      el(
        "div",
        { class: "actions" },
        el("button", { type: "button", onclick: () => settle("") }, "Without a name"),
        el("button", { type: "submit", class: "primary" }, "Keep"),
      ),
    ),
  );
  input.focus();
}
