// @ts-check
// A scatter plot of many points on a <canvas>: WebGL 2, or canvas-2D where that is missing or done by the processor,
// which takes longer (`renderer: "webgl"` or `"2d"` asks for one).
//
//   const plot = new Scatter(canvas, { onHover, onSelect, onOpen });
//   plot.setPoints(xy);               // Float32Array, x0 y0 x1 y1 ...; shows all of them
//   plot.setColours(rgba);            // Uint8Array, r g b a of each
//   plot.setHighlighted(indices);     // the others are faded, and neither picked nor selected; null: none is faded
//   plot.setSelected(indices);        // ringed in --map-selected; does not call onSelect
//   plot.setMode("lasso");            // what dragging does: "pan" (then Shift-drag is a lasso) or "lasso"
//   plot.fit(); plot.zoom(1.4); plot.position(index); plot.redraw(); plot.destroy();
//
// The canvas takes its size from the page's style sheet; its background is --map-background, rings and the lasso are
// --map-selected. Wheel and pinch zoom, dragging pans; arrows, + and - and 0 (all) do the same from the keyboard.

import { Canvas2DDrawing } from "./canvas2d.js";
import { CssColour } from "./csscolour.js";
import { Interaction } from "./interaction.js";
import { dotted, within } from "./lasso.js";
import { Plot } from "./plot.js";
import { framed, PointIndex } from "./points.js";
import { hasFastWebGL, WebGLDrawing } from "./webgl.js";

const PICK = 10; // CSS pixels from the pointer within which a point is hovered
const FADED = 0.13; // opacity
const PLAIN = [76, 120, 168, 200]; // the colour of points that were given none
const LASSO_DOT = 2.5; // CSS pixels

/**
 * @import {Told} from "./plot.js"
 * @typedef {Told & {onDraw?: () => void, renderer?: "webgl" | "2d"}} Options
 *   onDraw: it was drawn, and what stands at `plot.position(index)` may have moved
 */

export class Scatter extends Plot {
  selected = new Uint32Array(0);
  #count = 0;
  /** @type {Float32Array} */
  #xy = new Float32Array(0);
  #index = new PointIndex(this.#xy);
  /** @type {Uint8Array} */
  #colours = new Uint8Array(0);
  /** @type {Uint32Array | null} */
  #highlighted = null;
  /** @type {Uint8Array | null} 1 for each point that is highlighted; null: all are shown */
  #shown = null;
  #ratio = 1;
  #frame = 0;
  #ended = new AbortController();
  #sizes = new ResizeObserver((entries) => this.#resize(entries[entries.length - 1]));
  // Rings are drawn, so they follow light and dark only when drawn again.
  #themes = new MutationObserver(() => this.redraw());

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {Options} options
   */
  constructor(canvas, { onHover, onSelect, onOpen, onDraw, renderer } = {}) {
    super(canvas, { onHover, onSelect, onOpen });
    this.onDraw = onDraw ?? (() => {});
    if (!canvas.hasAttribute("tabindex")) canvas.tabIndex = 0;
    Object.assign(canvas.style, {
      touchAction: "none",
      background: "var(--map-background, Canvas)",
      color: "var(--map-selected, CanvasText)",
    });
    const wanted = renderer ?? (hasFastWebGL() ? "webgl" : "2d");
    const gl = wanted === "webgl" ? canvas.getContext("webgl2", { antialias: false }) : null;
    this.renderer = gl ? "webgl" : "2d";
    this.drawing = gl ? new WebGLDrawing(gl) : new Canvas2DDrawing(context2D(canvas));
    this.colour = new CssColour(canvas);
    this.#listen();
  }

  /** @param {Float32Array} xy */
  setPoints(xy) {
    const { xy: placed, extent } = framed(xy);
    this.#xy = placed;
    this.#count = placed.length / 2;
    this.view.extent = extent;
    this.#index = new PointIndex(placed);
    this.#highlighted = this.#shown = null;
    this.selected = new Uint32Array(0);
    this.hovered = -1;
    if (this.#colours.length !== 4 * this.#count) {
      this.#colours = new Uint8Array(4 * this.#count);
      for (let i = 0; i < this.#count; i++) this.#colours.set(PLAIN, 4 * i);
    }
    this.drawing.setPoints(this.#xy);
    this.drawing.setColours(this.#colours);
    this.fit();
  }

  /** @param {Uint8Array} rgba */
  setColours(rgba) {
    const bytes = 4 * this.#count;
    if (rgba.length !== bytes) throw new RangeError(`${this.#count} points take ${bytes} bytes, not ${rgba.length}`);
    this.#colours = rgba;
    this.drawing.setColours(rgba);
    this.redraw();
  }

  /** @param {ArrayLike<number> | null} indices */
  setHighlighted(indices) {
    this.#highlighted = indices === null ? null : Uint32Array.from(indices);
    this.#shown = null;
    if (this.#highlighted) {
      this.#shown = new Uint8Array(this.#count);
      for (const index of this.#highlighted) this.#shown[index] = 1;
    }
    this.redraw();
  }

  /** @param {ArrayLike<number>} indices */
  setSelected(indices) {
    this.selected = Uint32Array.from(indices);
    this.redraw();
  }

  /**
   * Where a point is, in CSS pixels from the canvas's corner.
   * @param {number} index
   */
  position(index) {
    return this.view.toPixels(this.#xy[2 * index], this.#xy[2 * index + 1]);
  }

  /**
   * The point at a place in CSS pixels; -1 if there is none.
   * @param {number} x
   * @param {number} y
   */
  pick(x, y) {
    return this.#index.nearest(...this.view.toUnits(x, y), PICK / this.view.scale, this.#shown);
  }

  /** The points in the lasso. */
  inLasso() {
    return within(this.#xy, this.outline(), this.#shown);
  }

  redraw() {
    if (!this.#frame && !this.#ended.signal.aborted) this.#frame = requestAnimationFrame(() => this.#draw());
  }

  destroy() {
    this.#ended.abort();
    this.#sizes.disconnect();
    this.#themes.disconnect();
    cancelAnimationFrame(this.#frame);
    this.drawing.destroy();
  }

  #draw() {
    this.#frame = 0;
    const { view, drawing, selected } = this;
    if (!view.width || !view.height) return;
    const ratio = this.#ratio;
    const size = view.diameter(this.#count) * ratio;
    const ring = this.colour.read();
    drawing.begin(view, ratio);
    drawing.points(null, size, this.#highlighted ? FADED : 1);
    if (this.#highlighted) drawing.points(this.#highlighted, size, 1);
    // Rings go under all the points they are for, so that of a dense group the outline is seen.
    if (selected.length) {
      drawing.points(selected, size + 4 * ratio, 1, ring);
      drawing.points(selected, size, 1);
    }
    if (this.hovered >= 0) {
      drawing.points([this.hovered], size + 8 * ratio, 1, ring);
      drawing.points([this.hovered], size + 4 * ratio, 1);
    }
    if (this.lasso) drawing.dots(dotted(this.lasso), LASSO_DOT * ratio, ring);
    drawing.end();
    this.onDraw();
  }

  /** @param {ResizeObserverEntry} entry */
  #resize(entry) {
    const { width, height } = entry.contentRect;
    this.#ratio = window.devicePixelRatio || 1;
    const exact = entry.devicePixelContentBoxSize?.[0];
    this.canvas.width = pixelsOf(width, exact?.inlineSize, this.#ratio);
    this.canvas.height = pixelsOf(height, exact?.blockSize, this.#ratio);
    this.view.resize(width, height);
    cancelAnimationFrame(this.#frame);
    this.#draw(); // at once: a canvas that was resized is empty
  }

  #listen() {
    const { canvas } = this;
    const { signal } = this.#ended;
    new Interaction(this, signal);
    try {
      this.#sizes.observe(canvas, { box: "device-pixel-content-box" });
    } catch {
      this.#sizes.observe(canvas);
    }
    this.#themes.observe(document.documentElement, { attributes: true });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw(), { signal });
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault(), { signal });
    canvas.addEventListener("webglcontextrestored", () => this.#restore(), { signal });
  }

  #restore() {
    const gl = this.canvas.getContext("webgl2");
    if (!gl) return;
    this.drawing = new WebGLDrawing(gl);
    this.drawing.setPoints(this.#xy);
    this.drawing.setColours(this.#colours);
    this.redraw();
  }
}

/** @param {HTMLCanvasElement} canvas */
function context2D(canvas) {
  const context = canvas.getContext("2d");
  if (!context) throw new Error("This browser cannot draw on a canvas.");
  return context;
}

/**
 * A length in pixels. The exact one differs from the computed one by a rounding, but for browsers that emulate a device:
 * these give CSS pixels.
 * @param {number} length CSS pixels
 * @param {number | undefined} exact
 * @param {number} ratio
 */
function pixelsOf(length, exact, ratio) {
  const computed = Math.round(length * ratio);
  return Math.max(exact !== undefined && Math.abs(exact - computed) < 2 ? exact : computed, 1);
}
