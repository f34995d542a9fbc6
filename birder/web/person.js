// @ts-check
// Who labels: a name that is given once and kept in this browser. It goes with every label.

import { el, fill } from "./dom.js";
import { panel } from "./layers.js";

const KEY = "birder:name";
const LONGEST = 100; // characters
/** @type {Promise<void> | null} */
let asking = null;

/** The person's name; null if none was given. */
export const me = () => localStorage.getItem(KEY) || null;

/** Ask for the name, if this browser was never asked. */
export const introduced = () => (localStorage.getItem(KEY) === null ? askName() : undefined);

/** Ask for the name, once at a time; settles when the question is gone. */
export function askName() {
  asking ??= new Promise((/** @type {(value: void) => void} */ resolve) => ask(resolve)).finally(() => {
    asking = null;
  });
  return asking;
}

/** @param {() => void} done */
function ask(done) {
  let typed = false;
  const input = el("input", {
    type: "text",
    id: "person-name",
    value: me() ?? "",
    maxlength: LONGEST,
    autocomplete: "name",
    onkeydown: (event) => {
      typed ||= !event.repeat;
      if (!typed) event.preventDefault(); // a key that was held down when the question came
    },
  });
  /** @param {string} name */
  const keepName = (name) => {
    localStorage.setItem(KEY, name);
    close();
  };
  const leave = () => {
    if (localStorage.getItem(KEY) === null) localStorage.setItem(KEY, "");
    done();
  };
  const { body, close } = panel("Who is labelling?", "small", { onclosed: leave });
  fill(
    body,
    el(
      "form",
      {
        class: "name-form",
        onsubmit: (event) => {
          event.preventDefault();
          keepName(input.value.trim());
        },
      },
      el(
        "p",
        {},
        "Your name stands beside the labels that you give, for others who work on the same collection. It is kept in this browser, and can be changed in the history of labels.",
      ),
      el("label", { for: "person-name" }, "Your name"),
      input,
      el(
        "div",
        { class: "actions" },
        el("button", { type: "button", onclick: () => keepName("") }, "Without a name"),
        el("button", { type: "submit", class: "primary" }, "Keep"),
      ),
    ),
  );
  input.focus();
}
