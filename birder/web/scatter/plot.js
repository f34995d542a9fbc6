// @ts-check
// What every plot on a <canvas> does alike: zoom, move, point at one of its marks, and choose some by a lasso. The scatter
// plot of the map and the map of stations build on it; each says where its marks are, and draws them.

import { View } from "./view.js";

/**
 * @typedef {object} Told
 * @property {(index: number, at: {x: number, y: number}) => void} [onHover]
 *   the mark under the pointer, -1 when there is none; its place in CSS pixels
 * @property {(indices: number[]) => void} [onSelect]
 *   the selection was changed by a lasso, Ctrl-click, Escape, or emptied
 * @property {(index: number) => void} [onOpen] a mark was clicked, or tapped
 */

export class Plot {
  /** @type {"pan" | "lasso"} */
  mode = "pan";
  view = new View();
  /** @type {ArrayLike<number> & Iterable<number>} */
  selected = [];
  /** @type {number[] | null} corners in CSS pixels while one is drawn */
  lasso = null;
  hovered = -1;

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {Told} told
   */
  constructor(canvas, { onHover, onSelect, onOpen }) {
    this.canvas = canvas;
    this.onHover = onHover ?? (() => {});
    this.onSelect = onSelect ?? (() => {});
    this.onOpen = onOpen ?? (() => {});
  }

  /** Draw it again soon. */
  redraw() {
    throw new Error("A plot says how it is drawn.");
  }

  /**
   * Where a mark is, in CSS pixels from the canvas's corner.
   * @param {number} _index
   * @returns {{x: number, y: number}}
   */
  position(_index) {
    throw new Error("A plot says where its marks are.");
  }

  /** @param {"pan" | "lasso"} mode */
  setMode(mode) {
    if (mode !== "pan" && mode !== "lasso") throw new RangeError(`The mode is "pan" or "lasso", not ${mode}`);
    this.mode = mode;
    this.canvas.style.cursor = mode === "lasso" ? "crosshair" : "";
  }

  /** Show all marks. */
  fit() {
    this.view.fit();
    this.redraw();
  }

  /**
   * Zoom by a factor about a place in CSS pixels, default: the middle.
   * @param {number} factor
   */
  zoom(factor, x = this.view.width / 2, y = this.view.height / 2) {
    this.view.zoom(factor, x, y);
    this.redraw();
  }

  /**
   * Move by CSS pixels.
   * @param {number} dx
   * @param {number} dy
   */
  pan(dx, dy) {
    this.view.pan(dx, dy);
    this.redraw();
  }

  /** @param {number[] | null} lasso */
  setLasso(lasso) {
    this.lasso = lasso;
    this.redraw();
  }

  /** The corners of the lasso where the marks are, in the units of the view. */
  outline() {
    const lasso = this.lasso ?? [];
    const outline = [];
    for (let i = 0; i < lasso.length; i += 2) outline.push(...this.view.toUnits(lasso[i], lasso[i + 1]));
    return outline;
  }

  /** @param {ArrayLike<number> & Iterable<number>} indices */
  setSelected(indices) {
    this.selected = indices;
    this.redraw();
  }

  /**
   * Select marks, and tell.
   * @param {number[]} indices
   */
  select(indices) {
    this.setSelected(indices);
    this.onSelect(indices);
  }

  /**
   * The pointer is over another mark; -1: over none.
   * @param {number} index
   */
  hover(index) {
    if (index === this.hovered) return;
    this.hovered = index;
    this.redraw();
    this.onHover(index, index >= 0 ? this.position(index) : { x: 0, y: 0 });
  }
}
