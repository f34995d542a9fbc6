// @ts-check
// Places on a <canvas>: a mark each, its area by the number of images, its name where there is room, a graticule and a scale.
// What pointer, wheel and keys do is what they do to the scatter plot of the map.

import { Interaction } from "../scatter/interaction.js";
import { dotted, within } from "../scatter/lasso.js";
import { Plot } from "../scatter/plot.js";
import { placed } from "./names.js";
import { graticule, projected, scaleBar } from "./projection.js";

/**
 * @import {Plane} from "./projection.js"
 * @import {Told} from "../scatter/plot.js"
 */

const SMALLEST = 3; // CSS pixels: the radius of a mark
const LARGEST = 22;
const AROUND = 4; // CSS pixels around a mark where a press means it
const NAMED = 400; // marks, the largest in sight, that may have their names
const BAR = 120; // CSS pixels: the longest scale
const RIM = 12; // CSS pixels from the canvas's edge
const LASSO_DOT = 2.5;
const FONT = "12px system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', sans-serif";
const COLOURS = /** @type {const} */ ({
  mark: "--accent",
  rim: "--map-background",
  empty: "--quiet",
  chosen: "--map-selected",
  line: "--line",
  text: "--text",
  quiet: "--quiet",
});

/**
 * @typedef {object} Mark
 * @property {number} latitude
 * @property {number} longitude
 * @property {string} name
 * @property {number} count images; without any, only the rim of the mark is drawn
 * @property {boolean} on whether it is filtered by
 */

/** @typedef {keyof typeof COLOURS} ColourName */

export class PlacePlot extends Plot {
  /** @type {number[]} */
  selected = [];
  /** @type {Mark[]} */
  #marks = [];
  /** @type {Plane} */
  #plane = projected([]);
  /** Of each mark, its radius as a share of the largest. */
  #shares = new Float32Array(0);
  /** The marks, the largest first. */
  #order = new Uint32Array(0);
  #ratio = 1;
  #frame = 0;
  /** @type {Map<string, number>} how wide names are */
  #widths = new Map();
  /** @type {Map<string, HTMLCanvasElement>} marks that are drawn already, by what they look like */
  #stamps = new Map();
  /** @type {Record<ColourName, string> | null} */
  #colours = null;

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {Told} told
   */
  constructor(canvas, { onHover, onSelect, onOpen }) {
    super(canvas, { onHover, onSelect, onOpen });
    const context = canvas.getContext("2d");
    if (!context) throw new Error("This browser cannot draw on a canvas.");
    this.context = context;
    canvas.tabIndex = 0;
    Object.assign(canvas.style, { touchAction: "none", background: "var(--map-background)" });
    new Interaction(this, new AbortController().signal);
    new ResizeObserver(() => this.#resize()).observe(canvas);
    new MutationObserver(() => this.#restyle()).observe(document.documentElement, { attributes: true });
  }

  /**
   * Show places; where they are at the same coordinates as those before, the view stays.
   * @param {Mark[]} marks
   */
  setMarks(marks) {
    const before = this.#marks;
    const same =
      marks.length === before.length &&
      marks.every((mark, i) => mark.latitude === before[i].latitude && mark.longitude === before[i].longitude);
    this.#marks = marks;
    const most = marks.reduce((greatest, { count }) => Math.max(greatest, count), 1);
    this.#shares = Float32Array.from(marks, ({ count }) => Math.sqrt(count / most));
    this.#order = Uint32Array.from(marks, (_, index) => index).sort((a, b) => marks[b].count - marks[a].count || a - b);
    if (!same) {
      this.#plane = projected(marks);
      this.view.extent = this.#plane.extent;
      this.hovered = -1;
      this.selected = [];
      this.fit();
    }
    this.redraw();
  }

  /**
   * Where a mark is, in CSS pixels from the canvas's corner.
   * @param {number} index
   */
  position(index) {
    const { xy } = this.#plane;
    return this.view.toPixels(xy[2 * index], xy[2 * index + 1]);
  }

  /**
   * The mark at a place in CSS pixels, the smallest of several; -1 if there is none.
   * @param {number} x
   * @param {number} y
   */
  pick(x, y) {
    let [best, least] = [-1, Infinity];
    const largest = this.#largest();
    for (let index = 0; index < this.#marks.length; index++) {
      const at = this.position(index);
      const radius = this.#radius(index, largest);
      if (radius < least && Math.hypot(at.x - x, at.y - y) <= radius + AROUND) [best, least] = [index, radius];
    }
    return best;
  }

  /** The places in the lasso that have images. */
  inLasso() {
    return within(
      this.#plane.xy,
      this.outline(),
      Uint8Array.from(this.#marks, ({ count }) => (count ? 1 : 0)),
    );
  }

  redraw() {
    this.#frame ||= requestAnimationFrame(() => this.#draw());
  }

  /** The radius of the largest mark: many are drawn small, and closer, they grow. */
  #largest() {
    const { width, height, scale, fitting } = this.view;
    const room = Math.sqrt((width * height) / Math.max(this.#marks.length, 1)) / 2;
    return Math.min(Math.max(room, SMALLEST + 1) * (scale / fitting) ** 0.3, LARGEST);
  }

  /**
   * @param {number} index
   * @param {number} largest
   */
  #radius(index, largest) {
    return Math.max(SMALLEST, largest * this.#shares[index]);
  }

  #draw() {
    this.#frame = 0;
    const { view, context, canvas } = this;
    if (!view.width || !view.height) return;
    const colours = this.#read();
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.setTransform(this.#ratio, 0, 0, this.#ratio, 0, 0);
    context.font = FONT;
    context.textBaseline = "middle";
    this.#drawLines(colours);
    const there = this.#inSight();
    const chosen = new Set(this.selected);
    for (const { index, x, y, radius } of there)
      if (chosen.has(index) || index === this.hovered) this.#ring(x, y, radius, colours.chosen);
    context.setTransform(1, 0, 0, 1, 0, 0); // whole pixels: thousands of stamps are copied much faster than scaled
    for (const { index, x, y, radius } of there) {
      const stamp = this.#stamp(this.#marks[index], radius, colours);
      const half = stamp.width / 2;
      context.drawImage(stamp, Math.round(x * this.#ratio - half), Math.round(y * this.#ratio - half));
    }
    context.setTransform(this.#ratio, 0, 0, this.#ratio, 0, 0);
    this.#drawNames(there, colours);
    if (this.lasso) {
      const dots = dotted(this.lasso);
      context.fillStyle = colours.chosen;
      for (let i = 0; i < dots.length; i += 2)
        context.fillRect(dots[i] - LASSO_DOT / 2, dots[i + 1] - LASSO_DOT / 2, LASSO_DOT, LASSO_DOT);
    }
    this.#drawScale(colours);
  }

  /** The marks in sight, the largest first. */
  #inSight() {
    const { width, height } = this.view;
    const largest = this.#largest();
    const found = [];
    for (const index of this.#order) {
      const { x, y } = this.position(index);
      const radius = this.#radius(index, largest);
      if (x > -radius && y > -radius && x < width + radius && y < height + radius) found.push({ index, x, y, radius });
    }
    return found;
  }

  /**
   * @param {number} x
   * @param {number} y
   * @param {number} radius
   * @param {string} colour
   */
  #ring(x, y, radius, colour) {
    const { context } = this;
    context.strokeStyle = colour;
    context.lineWidth = 2.5;
    context.beginPath();
    context.arc(x, y, radius + 3, 0, 2 * Math.PI);
    context.stroke();
  }

  /**
   * A mark of this look, drawn once for all that are alike.
   * @param {Mark} mark
   * @param {number} radius
   * @param {Record<ColourName, string>} colours
   */
  #stamp({ count, on }, radius, colours) {
    const half = Math.round(2 * radius) / 2;
    const key = `${half} ${count > 0} ${on}`;
    const known = this.#stamps.get(key);
    if (known) return known;
    const stamp = document.createElement("canvas");
    stamp.width = stamp.height = Math.ceil((2 * half + 4) * this.#ratio);
    const context = stamp.getContext("2d");
    if (context) {
      context.translate(stamp.width / 2, stamp.width / 2);
      context.scale(this.#ratio, this.#ratio);
      context.beginPath();
      context.arc(0, 0, half, 0, 2 * Math.PI);
      context.fillStyle = colours.mark;
      context.globalAlpha = on ? 1 : 0.62;
      if (count) context.fill();
      context.globalAlpha = 1;
      context.lineWidth = on ? 2 : 1;
      context.strokeStyle = on ? colours.chosen : count ? colours.rim : colours.empty;
      context.stroke();
    }
    this.#stamps.set(key, stamp);
    return stamp;
  }

  /** @param {Record<ColourName, string>} colours */
  #drawLines(colours) {
    const { context, view } = this;
    const { width, height } = view;
    const [left, high] = view.toUnits(0, 0);
    const [right, low] = view.toUnits(width, height);
    const { parallels, meridians } = graticule(this.#plane, { left, right, low, high });
    context.strokeStyle = colours.line;
    context.fillStyle = colours.quiet;
    context.lineWidth = 1;
    context.beginPath();
    for (const { at, text } of parallels) {
      const y = Math.round(view.toPixels(0, at).y) + 0.5;
      context.moveTo(0, y);
      context.lineTo(width, y);
      context.fillText(text, RIM, y - 8);
    }
    for (const { at, text } of meridians) {
      const x = Math.round(view.toPixels(at, 0).x) + 0.5;
      context.moveTo(x, 0);
      context.lineTo(x, height);
      context.fillText(text, x + 4, RIM);
    }
    context.stroke();
  }

  /**
   * @param {{index: number, x: number, y: number, radius: number}[]} there
   * @param {Record<ColourName, string>} colours
   */
  #drawNames(there, colours) {
    const { context, view } = this;
    const named = there.flatMap(({ index }, mark) =>
      this.#marks[index].count || this.#marks[index].on ? [{ mark, text: this.#marks[index].name }] : [],
    );
    const names = named.slice(0, NAMED).map(({ mark, text }) => ({ mark, text, width: this.#width(text) }));
    const texts = new Map(names.map(({ mark, text }) => [mark, text]));
    context.lineJoin = "round";
    context.lineWidth = 3;
    context.strokeStyle = colours.rim;
    context.fillStyle = colours.text;
    for (const { mark, x, y } of placed(there, names, view)) {
      context.strokeText(texts.get(mark) ?? "", x, y);
      context.fillText(texts.get(mark) ?? "", x, y);
    }
  }

  /** @param {string} text */
  #width(text) {
    const known = this.#widths.get(text) ?? this.context.measureText(text).width;
    this.#widths.set(text, known);
    return known;
  }

  /** @param {Record<ColourName, string>} colours */
  #drawScale(colours) {
    const { context, view } = this;
    const { pixels, text } = scaleBar(view.scale / this.#plane.kilometres, BAR);
    const y = view.height - RIM;
    context.strokeStyle = colours.text;
    context.fillStyle = colours.text;
    context.lineWidth = 2;
    context.beginPath();
    context.moveTo(RIM, y - 5);
    context.lineTo(RIM, y);
    context.lineTo(RIM + pixels, y);
    context.lineTo(RIM + pixels, y - 5);
    context.stroke();
    context.fillText(text, RIM + pixels + 6, y - 3);
    this.canvas.dataset.scale = text;
  }

  /** The colours of the page's style, read once. */
  #read() {
    if (this.#colours) return this.#colours;
    const style = getComputedStyle(this.canvas);
    const entries = Object.entries(COLOURS).map(([name, property]) => [name, style.getPropertyValue(property).trim()]);
    this.#colours = Object.fromEntries(entries);
    return /** @type {Record<ColourName, string>} */ (this.#colours);
  }

  /** The page has become light or dark. */
  #restyle() {
    this.#colours = null;
    this.#stamps.clear();
    this.redraw();
  }

  #resize() {
    const { clientWidth, clientHeight } = this.canvas;
    if (!clientWidth || !clientHeight) return; // not shown now: the view stays for when it is again
    this.#ratio = devicePixelRatio || 1;
    this.canvas.width = Math.round(clientWidth * this.#ratio);
    this.canvas.height = Math.round(clientHeight * this.#ratio);
    this.view.resize(clientWidth, clientHeight);
    this.#stamps.clear();
    cancelAnimationFrame(this.#frame);
    this.#draw(); // at once: a canvas that was resized is empty
  }
}
