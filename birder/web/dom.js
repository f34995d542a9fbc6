// Making elements, and writing numbers and times for people. Text goes in as text, never as HTML.

import { PATHS } from "./icons.js";

const SVG = "http://www.w3.org/2000/svg";

/** An element: `el("button", {class: "quiet", onclick: go, "aria-label": "Close"}, icon("x"), "Close")`. */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name === "style") Object.assign(element.style, value);
    else if (name === "value" || name === "checked" || name === "selected") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
}

/** What stands above a view: how many there are, and what can be done with them. */
export const toolbar = (counter, ...tools) =>
  el("div", { class: "toolbar" }, counter, el("div", { class: "tools" }, ...tools));

/** Put these children in place of those that are there. */
export function fill(element, ...children) {
  element.replaceChildren();
  append(element, children);
  return element;
}

/** Draw a container anew without taking the focus from whoever works in it by keyboard (elements' data-key). */
export function keepingFocus(container, draw) {
  const key = container.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  draw();
  if (key !== undefined) container.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
}

/** A drawing of icons.js, which screen readers pass over: its button says what it is. */
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

/** A button with an icon alone; `label` is its name and its tooltip. */
export function iconButton(name, label, onclick, properties = {}) {
  return el(
    "button",
    { type: "button", class: "icon-button", "aria-label": label, title: label, onclick, ...properties },
    icon(name),
  );
}

const whole = new Intl.NumberFormat("en");
const fine = new Intl.NumberFormat("en", { maximumSignificantDigits: 6 });

/** 100000 -> "100,000". */
export const count = (number) => whole.format(number);

/** 1 -> "1 photograph", 2 -> "2 photographs". */
export const photographs = (number) => `${count(number)} photograph${number === 1 ? "" : "s"}`;

export const decimal = (number) => fine.format(number);

/** A cosine in [-1, 1], as it stands under a photograph. */
export const cosine = (number) => number.toFixed(3);

export const percent = (share) => `${(100 * share).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;

/** ISO 8601 -> "2024-05-01 13:45" (as stored: photographs know no time zone). */
export const time = (iso) =>
  String(iso)
    .replace("T", " ")
    .replace(/(:\d\d)(:\d\d)(\.\d+)?(Z|[+-]\d\d:?\d\d)?$/, "$1");

/** 2048576 -> "2.0 MB". */
export function bytes(number) {
  for (const [unit, size] of [
    ["GB", 1e9],
    ["MB", 1e6],
    ["kB", 1e3],
  ]) {
    if (number >= size) return `${(number / size).toFixed(1)} ${unit}`;
  }
  return `${number} bytes`;
}

/** Call `action` once the calls have ceased for some milliseconds. */
export function later(action, milliseconds) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...values), milliseconds);
  };
}

/** What screen readers hear: counts, what was done. */
export function say(text) {
  document.getElementById("live").textContent = text;
}

/** What stands in an empty place: an icon, what is (not) there, why, and what to do about it. */
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

/** A failed request in its place on the page, to be tried again. */
export function failed(error, retry) {
  const box = emptyState(
    "warning",
    "That did not work",
    error.message,
    el("button", { type: "button", class: "primary", onclick: retry }, "Try again"),
  );
  box.setAttribute("role", "alert");
  return box;
}

export function busy(text) {
  return el("div", { class: "busy", role: "status" }, el("span", { class: "spinner" }), text);
}

/** A path as a shell takes it. */
export const quoted = (path) => (/^[\w./~-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`);

/** A command for the terminal, with a button that copies it. */
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
