// @ts-check
// What covers the page: dialogs, panels and messages. A dialog takes the keyboard, and gives the focus back.

import { byId, el, iconButton } from "./dom.js";

const MESSAGE = 9000; // milliseconds that a message stays
const MESSAGE_READ = 4000; // and once the pointer has left it
const MESSAGES = 3; // at once

/** @type {{element: HTMLElement, onclose: () => void}[]} the uppermost last */
const open = [];

/** Let Esc close the uppermost layer. */
export function startLayers() {
  addEventListener("keydown", (event) => {
    const top = open.at(-1);
    if (event.key !== "Escape" || !top || event.defaultPrevented) return;
    event.preventDefault();
    top.onclose();
  });
}

/**
 * Lay an element over the page; Esc and its backdrop call `onclose`. Gives the function that takes it away.
 * @param {HTMLElement} element
 * @param {{onclose: () => void, focus?: HTMLElement}} options
 */
export function layer(element, { onclose, focus }) {
  const before = document.activeElement;
  const beneath = open.at(-1)?.element ?? byId("app");
  const entry = { element, onclose };
  beneath.inert = true;
  element.setAttribute("role", "dialog");
  element.setAttribute("aria-modal", "true");
  element.classList.add("layer");
  element.addEventListener("pointerdown", (event) => event.target === element && onclose());
  byId("layers").append(element);
  open.push(entry);
  const first = /** @type {HTMLElement | null} */ (element.querySelector("button, input, [tabindex]"));
  (focus ?? first)?.focus({ preventScroll: true });
  return () => {
    if (!open.includes(entry)) return;
    open.splice(open.indexOf(entry), 1);
    element.remove();
    beneath.inert = false;
    if (before instanceof HTMLElement && before.isConnected) before.focus({ preventScroll: true });
  };
}

/** Whether something covers the page. */
export const isLayered = () => open.length > 0;

/**
 * A panel with a title and a button that closes it; gives the element to fill and the function that closes it.
 * @param {string} title
 * @param {"side" | "wide" | "small"} kind
 */
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

/**
 * Ask a question with some answers as {title: value}, the first of them the likeliest; null if it is closed instead.
 * @template V
 * @param {string} title
 * @param {string} text
 * @param {Record<string, V>} answers
 * @returns {Promise<V | null>}
 */
export function choose(title, text, answers) {
  return new Promise((resolve) => {
    /** @type {V | null} */
    let chosen = null;
    const { body, close } = panel(title, "small", { onclosed: () => resolve(chosen) });
    const buttons = Object.entries(answers).map(([name, value], index) => {
      const onclick = () => {
        chosen = value;
        close();
      };
      return el("button", { type: "button", class: index ? "" : "primary", onclick }, name);
    });
    body.append(el("p", {}, text), el("div", { class: "actions" }, buttons));
    buttons[0].focus();
  });
}

/**
 * A message at the foot of the page; gives the function that takes it away. Errors stay until they are closed.
 * @param {string} message
 * @param {{action?: {label: string, act: () => unknown}, error?: boolean}} options
 */
export function toast(message, { action, error = false } = {}) {
  /** @type {HTMLElement} */
  let note;
  const remove = () => note.remove();
  const act = () => {
    remove();
    action?.act();
  };
  note = el(
    "div",
    { class: error ? "toast error" : "toast", role: error ? "alert" : "status" },
    el("span", {}, message),
    action ? el("button", { type: "button", class: "link", onclick: act }, action.label) : null,
    iconButton("x", "Close the message", remove),
  );
  const all = byId("toasts");
  // A message that says the same, or offers the same act for what came before, is replaced: they do not pile up.
  for (const each of [...all.children]) {
    const offers = each.querySelector(".link")?.textContent;
    if (each.firstElementChild?.textContent === message || (action && offers === action.label)) each.remove();
  }
  while (all.children.length >= MESSAGES) all.firstElementChild?.remove();
  all.append(note);
  if (!error) {
    let timer = setTimeout(remove, MESSAGE);
    note.addEventListener("pointerenter", () => clearTimeout(timer));
    note.addEventListener("pointerleave", () => {
      timer = setTimeout(remove, MESSAGE_READ);
    });
  }
  return remove;
}
