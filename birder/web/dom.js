// @ts-check
// Making elements. Text goes in as text, never as HTML.

import { PATHS } from "./icons.js";
import { listen } from "./signals.js";

/** @import {Child, Properties, Timer} from "./types.js" */

const SVG = "http://www.w3.org/2000/svg";

/**
 * The element of index.html that has an id.
 * @param {string} id
 */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`index.html has no element #${id}`);
  return element;
}

/**
 * An element: `el("button", {class: "quiet", onclick: go, "aria-label": "Close"}, icon("x"), "Close")`.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Properties} properties
 * @param {Child[]} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
    else if (name === "class") element.className = String(value);
    else if (name === "style") Object.assign(element.style, value);
    else if (name === "value" || name === "checked" || name === "selected") Object.assign(element, { [name]: value });
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, children);
  return element;
}

/**
 * @param {Element} element
 * @param {Child[]} children
 */
function append(element, children) {
  for (const child of children) {
    if (Array.isArray(child)) append(element, child);
    else if (child !== null && child !== undefined && child !== false) element.append(child);
  }
}

/**
 * The element that an event happened to, or in, that fits a selector.
 * @param {Event} event
 * @param {string} selector
 */
export const closest = (event, selector) =>
  event.target instanceof Element ? /** @type {HTMLElement | null} */ (event.target.closest(selector)) : null;

/**
 * What stands above a view: how many there are, and what can be done with them.
 * @param {Child} counter
 * @param {Child[]} tools
 */
export const toolbar = (counter, ...tools) =>
  el("div", { class: "toolbar" }, counter, el("div", { class: "tools" }, ...tools));

/**
 * Put these children in place of those that are there.
 * @template {Element} E
 * @param {E} element
 * @param {Child[]} children
 */
export function fill(element, ...children) {
  element.replaceChildren();
  append(element, children);
  return element;
}

/**
 * Redraw a container without taking the keyboard focus from the element in use (elements' data-key).
 * @param {Element} container
 * @param {() => unknown} draw
 */
export function keepingFocus(container, draw) {
  const focused = document.activeElement;
  const key = focused instanceof HTMLElement && container.contains(focused) ? focused.dataset.key : undefined;
  draw();
  if (key === undefined) return;
  const again = /** @type {HTMLElement | null} */ (container.querySelector(`[data-key="${CSS.escape(key)}"]`));
  again?.focus({ preventScroll: true });
}

/**
 * A drawing of icons.js, which screen readers pass over: its button says what it is.
 * @param {string} name
 */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}

/**
 * A button with an icon alone; `label` is its name and its tooltip.
 * @param {string} name
 * @param {string} label
 * @param {(event: MouseEvent) => unknown} onclick
 * @param {Properties} properties
 */
export function iconButton(name, label, onclick, properties = {}) {
  return el(
    "button",
    { type: "button", class: "icon-button", "aria-label": label, title: label, onclick, ...properties },
    icon(name),
  );
}

/**
 * A small image that appears once it is loaded; it says nothing to screen readers.
 * @param {string} src
 * @param {Properties} properties
 */
export function fadingImage(src, properties = {}) {
  const image = el("img", { alt: "", src, ...properties });
  image.addEventListener("load", () => image.classList.add("loaded"));
  return image;
}

/**
 * Call `action` once the calls have ceased for some milliseconds.
 * @template {unknown[]} A
 * @param {(...values: A) => unknown} action
 * @param {number} milliseconds
 * @returns {(...values: A) => void}
 */
export function debounced(action, milliseconds) {
  /** @type {Timer | undefined} */
  let timer;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...values), milliseconds);
  };
}

/**
 * What screen readers hear: counts, what was done.
 * @param {string} text
 */
export function say(text) {
  byId("live").textContent = text;
}

/**
 * What stands in an empty place: an icon, what is (not) there, why, and what to do about it.
 * @param {string} name
 * @param {string} title
 * @param {Child} lines
 * @param {Child[]} actions
 */
export function emptyState(name, title, lines, ...actions) {
  return el(
    "div",
    { class: "empty" },
    el("div", { class: "empty-icon" }, icon(name)),
    el("h2", {}, title),
    [lines].flat().map((line) => el("p", {}, line)),
    el("div", { class: "actions" }, actions),
  );
}

/**
 * The message of whatever was thrown.
 * @param {unknown} error
 */
export const messageOf = (error) => (error instanceof Error ? error.message : String(error));

/**
 * A failed request in its place on the page, to be tried again.
 * @param {unknown} error
 * @param {() => unknown} retry
 */
export function failed(error, retry) {
  const box = emptyState(
    "warning",
    "Request failed",
    messageOf(error),
    el("button", { type: "button", class: "primary", onclick: retry }, "Try again"),
  );
  box.setAttribute("role", "alert");
  const stop = listen("back", () => {
    stop();
    if (box.isConnected) retry(); // it failed because the server was away, or did so meanwhile
  });
  return box;
}

/** @param {string} text */
export function busy(text) {
  return el("div", { class: "busy", role: "status" }, el("span", { class: "spinner" }), text);
}

/**
 * A command for the terminal, with a button that copies it.
 * @param {string} command
 */
export const commandLine = (command) =>
  el(
    "div",
    { class: "command-line" },
    el("code", {}, command),
    iconButton("copy", "Copy the command", async () => {
      await navigator.clipboard.writeText(command);
      say("Copied");
    }),
  );
