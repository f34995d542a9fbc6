// @ts-check
// Looking closer at an image: enlarged and moved, in its full size, brighter or with more contrast. Nothing of the image
// is changed.

import { fullImageUrl } from "./api.js";
import { el, iconButton } from "./dom.js";
import { enlarged, moved, WHOLE } from "./zoomview.js";

/** @import {Zoomed} from "./zoomview.js" */

const STEP = 1.5;
const STILL = 4; // CSS pixels that a press may move
const WHEEL = 400; // CSS pixels of the wheel for a factor of e

export class Zoom {
  /** @type {Zoomed} */
  #view = WHOLE;
  /** @type {HTMLImageElement | null} */
  #image = null;
  #id = "";
  #full = "";
  /** Told whenever the image is enlarged or moved, for what lies over it. */
  onview = (/** @type {Readonly<Zoomed>} */ _view) => {};
  #light = { brightness: 1, contrast: 1 };

  /** @param {HTMLElement} frame that the image fills, and does not leave */
  constructor(frame) {
    this.frame = frame;
    frame.classList.add("zoom-frame");
    frame.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    frame.addEventListener("pointerdown", (event) => this.#drag(event));
    frame.addEventListener("dblclick", (event) => {
      if (this.#image) this.#to(this.isWhole ? enlarged(WHOLE, 3, this.#at(event), this.#size()) : WHOLE);
    });
    this.tools = this.#buildTools();
  }

  get isWhole() {
    return this.#view.scale === 1;
  }

  /**
   * Look at an image, whole; the same image, when there is a better one of it, stays where it is.
   * @param {HTMLImageElement | null} image
   * @param {string} id
   * @param {string} full the address of every pixel of it
   */
  look(image, id, full = fullImageUrl(id)) {
    this.#image = image;
    this.#full = full;
    this.tools.hidden = !image;
    this.#to(id === this.#id ? this.#view : WHOLE);
    this.#id = id;
  }

  /**
   * Take a key: + and - enlarge, 0 shows all.
   * @param {{key: string}} pressed
   */
  key({ key }) {
    if (!this.#image || !["+", "=", "-", "0"].includes(key)) return false;
    if (key === "0") this.#to(WHOLE);
    else this.#step(key === "-" ? 1 / STEP : STEP);
    return true;
  }

  #buildTools() {
    /** @param {"brightness" | "contrast"} name */
    const slider = (name) =>
      el("input", {
        type: "range",
        min: 0.4,
        max: 3,
        step: 0.1,
        value: 1,
        "aria-label": name === "brightness" ? "Brightness" : "Contrast",
        title: name === "brightness" ? "Brightness" : "Contrast",
        oninput: () => {
          this.#light[name] = Number(sliders[name].value);
          this.#to(this.#view);
        },
      });
    const sliders = { brightness: slider("brightness"), contrast: slider("contrast") };
    const reset = () => {
      for (const each of Object.values(sliders)) each.value = "1";
      this.#light = { brightness: 1, contrast: 1 };
      this.#to(WHOLE);
    };
    return el(
      "div",
      { class: "zoom-tools", role: "group", "aria-label": "Look closer", hidden: true },
      iconButton("minus", "Smaller (−)", () => this.#step(1 / STEP)),
      iconButton("plus", "Larger (+)", () => this.#step(STEP)),
      el(
        "button",
        { type: "button", class: "quiet", title: "Every pixel of the file", onclick: () => this.full() },
        "1:1",
      ),
      iconButton("fit", "Whole, as it is (0)", reset),
      el("span", { class: "light" }, sliders.brightness, sliders.contrast),
    );
  }

  /** Show every pixel of the file as one of the screen. */
  full() {
    const image = this.#image;
    if (!image) return;
    const shown = image.getBoundingClientRect().width / this.#view.scale;
    const show = () => {
      if (image !== this.#image) return;
      const scale = image.naturalWidth / (devicePixelRatio || 1) / shown;
      this.#to(enlarged(WHOLE, scale, { x: 0, y: 0 }, this.#size()));
    };
    const full = this.#full;
    if (image.getAttribute("src") === full) {
      show();
      return;
    }
    image.addEventListener("load", show, { once: true });
    image.src = full;
  }

  /** @param {number} factor */
  #step(factor) {
    this.#to(enlarged(this.#view, factor, { x: 0, y: 0 }, this.#size()));
  }

  /** @param {Zoomed} view */
  #to(view) {
    this.#view = view;
    this.frame.classList.toggle("enlarged", view.scale > 1);
    this.onview(view);
    if (!this.#image) return;
    const { brightness, contrast } = this.#light;
    this.#image.style.transform = view.scale === 1 ? "" : `translate(${view.x}px, ${view.y}px) scale(${view.scale})`;
    this.#image.style.filter =
      brightness === 1 && contrast === 1 ? "" : `brightness(${brightness}) contrast(${contrast})`;
  }

  #size() {
    return { width: this.frame.clientWidth, height: this.frame.clientHeight };
  }

  /** @param {MouseEvent} event */
  #at({ clientX, clientY }) {
    const { left, top, width, height } = this.frame.getBoundingClientRect();
    return { x: clientX - left - width / 2, y: clientY - top - height / 2 };
  }

  /** @param {WheelEvent} event */
  #wheel(event) {
    if (!this.#image) return;
    event.preventDefault();
    this.#to(enlarged(this.#view, Math.exp(-event.deltaY / WHEEL), this.#at(event), this.#size()));
  }

  /** @param {PointerEvent} event */
  #drag(event) {
    if (!this.#image || this.isWhole || event.button !== 0) return;
    let { clientX: x, clientY: y } = event;
    /** @param {PointerEvent} moving */
    const move = (moving) => {
      // Not before it moves: a press on a box over the image stays one.
      if (!this.frame.hasPointerCapture(event.pointerId)) {
        if (Math.hypot(moving.clientX - x, moving.clientY - y) < STILL) return;
        this.frame.setPointerCapture(event.pointerId);
      }
      this.#to(moved(this.#view, { x: moving.clientX - x, y: moving.clientY - y }, this.#size()));
      [x, y] = [moving.clientX, moving.clientY];
    };
    this.frame.addEventListener("pointermove", move);
    const end = () => {
      this.frame.removeEventListener("pointermove", move);
      removeEventListener("pointerup", end);
      removeEventListener("pointercancel", end);
    };
    addEventListener("pointerup", end);
    addEventListener("pointercancel", end);
  }
}
