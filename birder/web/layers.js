// What lies over the page: dialogs, panels and messages. A dialog takes the keyboard, and gives the focus back.

import { el, iconButton } from "./dom.js";

const open = [];

/** Lay an element over the page; Esc and its backdrop call `onclose`. Gives the function that takes it away. */
export function layer(element, { onclose, focus }) {
  const before = document.activeElement;
  const beneath = open.at(-1)?.element ?? document.getElementById("app");
  const entry = { element, onclose };
  beneath.inert = true;
  element.setAttribute("role", "dialog");
  element.setAttribute("aria-modal", "true");
  element.classList.add("layer");
  element.addEventListener("pointerdown", (event) => event.target === element && onclose());
  document.getElementById("layers").append(element);
  open.push(entry);
  (focus ?? element.querySelector("button, input, [tabindex]"))?.focus({ preventScroll: true });
  return () => {
    if (!open.includes(entry)) return;
    open.splice(open.indexOf(entry), 1);
    element.remove();
    beneath.inert = false;
    if (before?.isConnected) before.focus({ preventScroll: true });
  };
}

export const layered = () => open.length > 0;

addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || !open.length || event.defaultPrevented) return;
  event.preventDefault();
  open.at(-1).onclose();
});

/** A panel with a title and a button that closes it; gives the element to fill and the function that closes it. */
export function panel(title, kind, { onclosed = () => {} } = {}) {
  const body = el("div", { class: "panel-body", tabindex: "0" }); // so that keys scroll it
  const close = () => {
    remove();
    onclosed();
  };
  const box = el(
    "div",
    { class: `panel ${kind}` },
    el("header", {}, el("h2", {}, title), iconButton("x", "Close", close)),
    body,
  );
  const element = el("div", { class: "backdrop", "aria-label": title }, box);
  const remove = layer(element, { onclose: close });
  return { body, close };
}

/** Ask a question with some answers as {title: value}, the first of them the likeliest; null if it is closed instead. */
export function choose(title, text, answers) {
  return new Promise((resolve) => {
    let chosen = null;
    const { body, close } = panel(title, "small", { onclosed: () => resolve(chosen) });
    const buttons = Object.entries(answers).map(([name, value], index) =>
      el(
        "button",
        {
          type: "button",
          class: index ? "" : "primary",
          onclick: () => {
            chosen = value;
            close();
          },
        },
        name,
      ),
    );
    body.append(el("p", {}, text), el("div", { class: "actions" }, buttons));
    buttons[0].focus();
  });
}

/** A message at the foot of the page; `action` is a button {label, act}. Errors stay until they are closed. */
export function toast(message, { action, error = false } = {}) {
  const remove = () => note.remove();
  const note = el(
    "div",
    { class: error ? "toast error" : "toast", role: error ? "alert" : "status" },
    el("span", {}, message),
    action
      ? el(
          "button",
          {
            type: "button",
            class: "link",
            onclick: () => {
              remove();
              action.act();
            },
          },
          action.label,
        )
      : null,
    iconButton("x", "Close the message", remove),
  );
  const all = document.getElementById("toasts");
  while (all.children.length > 2) all.firstChild.remove();
  all.append(note);
  if (!error) {
    let timer = setTimeout(remove, 9000);
    note.addEventListener("pointerenter", () => clearTimeout(timer));
    note.addEventListener("pointerleave", () => (timer = setTimeout(remove, 4000)));
  }
  return remove;
}
