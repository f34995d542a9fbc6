// @ts-check
// What pointer, wheel and keys do to a scatter plot: pan, zoom, hover, open, select, draw a lasso.

/** @import {Scatter} from "./scatter.js" */

/** @typedef {[x: number, y: number]} Place in CSS pixels from the canvas's corner */

/**
 * What is drawn: the scatter plot, or another that offers the same.
 * @typedef {Pick<Scatter, "canvas" | "mode" | "view" | "pan" | "zoom" | "fit" | "pick" | "hover" | "redraw" | "inLasso" |
 *   "setLasso" | "select" | "onOpen"> & {lasso: number[] | null, selected: ArrayLike<number> & Iterable<number>}} Plot
 */

const STILL = 4; // CSS pixels that a click may move
const CORNERS_APART = 2; // CSS pixels from one corner of a lasso to the next
const KEY_ZOOM = 1.4;

export class Interaction {
  /** @type {Map<number, Place>} by pointer, where each is pressed */
  #pointers = new Map();
  /** @type {Place} */
  #start = [0, 0];
  #moved = false;
  #lassoing = false;

  /**
   * @param {Plot} plot
   * @param {AbortSignal} signal ends it
   */
  constructor(plot, signal) {
    this.plot = plot;
    const { canvas } = plot;
    canvas.addEventListener("pointerdown", (event) => this.#down(event), { signal });
    canvas.addEventListener("pointermove", (event) => this.#move(event), { signal });
    canvas.addEventListener("pointerup", (event) => this.#up(event), { signal });
    canvas.addEventListener("pointercancel", (event) => this.#cancel(event), { signal });
    canvas.addEventListener("pointerleave", () => plot.hover(-1), { signal });
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { signal, passive: false });
    canvas.addEventListener("keydown", (event) => this.#key(event), { signal });
  }

  /** @param {PointerEvent} event */
  #down(event) {
    if (event.button !== 0) return;
    const { plot } = this;
    plot.canvas.setPointerCapture(event.pointerId);
    const at = this.#placeOf(event);
    this.#pointers.set(event.pointerId, at);
    if (this.#pointers.size === 1) {
      this.#start = at;
      this.#moved = false;
      this.#lassoing = plot.mode === "lasso" || event.shiftKey;
    } else {
      this.#moved = true; // two fingers: neither a click nor a lasso
      this.#lassoing = false;
      plot.setLasso(null);
    }
  }

  /** @param {PointerEvent} event */
  #move(event) {
    const { plot } = this;
    const at = this.#placeOf(event);
    const before = this.#pointers.get(event.pointerId);
    if (!before) {
      if (event.pointerType !== "touch") plot.hover(plot.pick(...at));
      return;
    }
    if (!this.#moved && Math.hypot(at[0] - this.#start[0], at[1] - this.#start[1]) > STILL) {
      this.#moved = true;
      plot.hover(-1);
      if (this.#lassoing) plot.setLasso([...this.#start]);
    }
    if (!this.#moved) return;
    const { lasso } = plot;
    if (this.#pointers.size === 2) {
      const [other] = [...this.#pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
      /** @param {Place} place */
      const apart = (place) => Math.max(Math.hypot(place[0] - other[0], place[1] - other[1]), 1);
      plot.pan((at[0] - before[0]) / 2, (at[1] - before[1]) / 2);
      plot.zoom(apart(at) / apart(before), (at[0] + other[0]) / 2, (at[1] + other[1]) / 2);
    } else if (lasso) {
      const last = [lasso[lasso.length - 2], lasso[lasso.length - 1]];
      if (Math.hypot(at[0] - last[0], at[1] - last[1]) >= CORNERS_APART) lasso.push(...at);
      plot.redraw();
    } else if (this.#pointers.size === 1 && !this.#lassoing) {
      plot.pan(at[0] - before[0], at[1] - before[1]);
    }
    this.#pointers.set(event.pointerId, at);
  }

  /** @param {PointerEvent} event */
  #up(event) {
    if (!this.#pointers.delete(event.pointerId)) return;
    const { plot } = this;
    const add = event.ctrlKey || event.metaKey;
    if (plot.lasso) {
      const inside = plot.inLasso();
      plot.setLasso(null);
      plot.select(add ? [...new Set([...plot.selected, ...inside])] : inside);
    } else if (!this.#moved) {
      const index = plot.pick(...this.#placeOf(event));
      if (index >= 0 && add) {
        const without = [...plot.selected].filter((each) => each !== index);
        plot.select(without.length < plot.selected.length ? without : [...without, index]);
      } else if (index >= 0) plot.onOpen(index);
      else if (plot.selected.length) plot.select([]);
    }
  }

  /** @param {PointerEvent} event */
  #cancel(event) {
    this.#pointers.delete(event.pointerId);
    this.plot.setLasso(null);
  }

  /** @param {WheelEvent} event */
  #wheel(event) {
    event.preventDefault();
    const step = event.deltaY * (event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? 400 : 1);
    // A pinch on a touchpad comes as a wheel with Ctrl, in small steps.
    const factor = Math.exp(-Math.min(Math.max(step, -300), 300) * (event.ctrlKey ? 0.01 : 0.0018));
    this.plot.zoom(factor, ...this.#placeOf(event));
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { plot } = this;
    const step = Math.min(plot.view.width, plot.view.height) / 8;
    /** @type {Record<string, () => void>} */
    const actions = {
      ArrowLeft: () => plot.pan(step, 0),
      ArrowRight: () => plot.pan(-step, 0),
      ArrowUp: () => plot.pan(0, step),
      ArrowDown: () => plot.pan(0, -step),
      "+": () => plot.zoom(KEY_ZOOM),
      "=": () => plot.zoom(KEY_ZOOM),
      "-": () => plot.zoom(1 / KEY_ZOOM),
      0: () => plot.fit(),
      Home: () => plot.fit(),
    };
    const action = actions[event.key];
    if (action) action();
    else if (event.key === "Escape" && plot.lasso) plot.setLasso(null);
    else if (event.key === "Escape" && plot.selected.length) plot.select([]);
    else return;
    event.preventDefault();
  }

  /**
   * @param {MouseEvent} event
   * @returns {Place}
   */
  #placeOf(event) {
    const { canvas } = this.plot;
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left - canvas.clientLeft, event.clientY - box.top - canvas.clientTop];
  }
}
