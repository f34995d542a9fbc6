// @ts-check
// The map of a collection as a page of its own: map.html has its data, and is written with this script in it.

import { Scatter } from "../web/scatter/scatter.js";

/**
 * @typedef {object} Data
 * @property {string[]} names of the images
 * @property {number[]} [codes] of each, where its value is in the legend; -1 for none
 * @property {{name: string, count: number, colour: string}[]} [legend] the last is for images without a value
 * @property {(string | null)[]} [values] of each
 * @property {{colours: string[], least: string, most: string}} [scale]
 */

const SHOWN = 200; // names of selected images
const ZOOM = 1.5;

/** @param {string} id */
function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`map.html has no element #${id}`);
  return element;
}

/** @param {string} id */
const textOf = (id) => byId(id).textContent ?? "";
/** @param {string} id */
const bytesOf = (id) => Uint8Array.from(atob(textOf(id)), (letter) => letter.charCodeAt(0));
/** @param {number} number */
const count = (number) => number.toLocaleString("en");

/** @type {Data} */
const data = JSON.parse(textOf("data"));
const { names, values, codes, legend = [], scale } = data;
/** @type {Set<number>} the values of the legend that are chosen */
const chosen = new Set();
/** @type {number[]} */
let selected = [];

const plot = new Scatter(/** @type {HTMLCanvasElement} */ (byId("map")), {
  onHover: drawTip,
  onSelect: drawSelected,
  onOpen: (index) => select([index]),
});
plot.setPoints(new Float32Array(bytesOf("xy").buffer));
plot.setColours(bytesOf("rgba"));
Object.assign(window, { birderMap: plot });

/** @param {number} index */
function valueAt(index) {
  if (codes) return legend[codes[index] < 0 ? legend.length - 1 : codes[index]].name;
  return values?.[index] ?? "";
}

/**
 * @param {number} index
 * @param {{x: number, y: number}} at
 */
function drawTip(index, { x, y }) {
  const tip = byId("tip");
  tip.hidden = index < 0;
  if (index < 0) return;
  byId("tip-name").textContent = names[index];
  byId("tip-value").textContent = valueAt(index);
  const { width, height } = byId("stage").getBoundingClientRect();
  tip.style.left = `${Math.max(Math.min(x + 14, width - tip.offsetWidth - 8), 4)}px`;
  tip.style.top = `${y + 18 + tip.offsetHeight > height ? y - tip.offsetHeight - 12 : y + 14}px`;
}

/** @param {number[]} indices */
function select(indices) {
  plot.setSelected(indices);
  drawSelected(indices);
}

/** @param {number[]} indices */
function drawSelected(indices) {
  selected = indices;
  const number = indices.length;
  byId("chosen").textContent = number ? `${count(number)} selected` : "Nothing selected";
  byId("save").hidden = byId("none").hidden = !number;
  byId("select-hint").hidden = number > 0;
  const lines = indices.slice(0, SHOWN).map((index) => {
    const line = document.createElement("li");
    line.textContent = names[index];
    return line;
  });
  byId("names").replaceChildren(...lines);
  const more = byId("more-names");
  more.hidden = number <= SHOWN;
  more.textContent = `and ${count(number - SHOWN)} more: save the list`;
}

/** Fade the points whose values are not chosen in the legend. */
function highlightChosen() {
  const last = legend.length - 1;
  /** @type {number[]} */
  const shown = [];
  codes?.forEach((code, index) => {
    if (chosen.has(code < 0 ? last : code)) shown.push(index);
  });
  plot.setHighlighted(chosen.size ? shown : null);
}

/**
 * @param {string} kind
 * @param {string} text
 */
function span(kind, text) {
  const element = document.createElement("span");
  element.className = kind;
  element.textContent = text;
  return element;
}

function drawLegend() {
  byId("filter-hint").hidden = false;
  legend.forEach(({ name, count: number, colour }, code) => {
    if (!number) return;
    const dot = span("dot", "");
    dot.style.background = colour;
    const button = document.createElement("button");
    button.setAttribute("aria-pressed", "false");
    button.append(dot, span("", name), span("count", count(number)));
    button.addEventListener("click", () => {
      if (!chosen.delete(code)) chosen.add(code);
      button.setAttribute("aria-pressed", String(chosen.has(code)));
      highlightChosen();
    });
    const line = document.createElement("li");
    line.append(button);
    byId("legend").append(line);
  });
}

/** @param {{colours: string[], least: string, most: string}} scale */
function drawScale({ colours, least, most }) {
  byId("scale").hidden = false;
  const canvas = /** @type {HTMLCanvasElement} */ (byId("scale-colours"));
  const context = canvas.getContext("2d");
  colours.forEach((colour, index) => {
    if (!context) return;
    context.fillStyle = colour;
    context.fillRect(index, 0, 1, 1);
  });
  byId("scale-least").textContent = least;
  byId("scale-most").textContent = most;
}

/** Hand the names of the selected images over as a file. */
function save() {
  const lines = selected.map((index) => `${names[index]}\n`);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(lines, { type: "text/plain" }));
  link.download = "selected.txt";
  link.click();
  URL.revokeObjectURL(link.href);
}

if (codes) drawLegend();
if (scale) drawScale(scale);
byId("lasso").addEventListener("click", () => {
  const on = plot.mode !== "lasso";
  plot.setMode(on ? "lasso" : "pan");
  byId("lasso").setAttribute("aria-pressed", String(on));
});
byId("closer").addEventListener("click", () => plot.zoom(ZOOM));
byId("further").addEventListener("click", () => plot.zoom(1 / ZOOM));
byId("all").addEventListener("click", () => plot.fit());
byId("none").addEventListener("click", () => select([]));
byId("save").addEventListener("click", save);
