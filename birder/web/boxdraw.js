// @ts-check
// Drawing a box over an image, or correcting one: with the pointer, with the arrows, or by its numbers.

import { between, dragged, fitted, SIDES } from "./boxshape.js";
import { closest, el, fill } from "./dom.js";
import { objection } from "./labeltext.js";

/** @import {Rectangle} from "./types.js" */

const STEP = 0.01; // of the image's side, an arrow
const FIRST = { x: 0.35, y: 0.35, width: 0.3, height: 0.3 };
/** @type {[keyof Rectangle, string][]} */
const NUMBERS = [
  ["x", "Left"],
  ["y", "Top"],
  ["width", "Width"],
  ["height", "Height"],
];
/** @type {Record<string, {x: number, y: number}>} */
const ARROWS = {
  ArrowLeft: { x: -STEP, y: 0 },
  ArrowRight: { x: STEP, y: 0 },
  ArrowUp: { x: 0, y: -STEP },
  ArrowDown: { x: 0, y: STEP },
};

/** The box that is being drawn: what lies over the image, and the form beside it. */
export class BoxDraw {
  /** @type {Rectangle} */
  #place = FIRST;
  #corrects = false;
  #saving = false;

  /**
   * @param {{save: (place: Rectangle, label: string | null, corrects: boolean) => Promise<void>, ended: () => void}} page
   */
  constructor(page) {
    this.page = page;
    this.draft = el(
      "div",
      {
        class: "draft",
        tabindex: "0",
        role: "group",
        "aria-label": "The box: arrows move it, Shift and arrows size it",
      },
      SIDES.map((side) => el("span", { class: `handle ${side}`, "data-side": side })),
    );
    this.layer = el("div", { class: "drawing", hidden: true }, this.draft);
    this.layer.addEventListener("pointerdown", (event) => this.#drag(event));
    this.layer.addEventListener("dblclick", (event) => event.stopPropagation());
    this.numbers = NUMBERS.map(([name, title]) =>
      el("input", {
        type: "number",
        min: 0,
        max: 100,
        step: 0.1,
        id: `box-${name}`,
        "aria-label": `${title}, percent`,
        oninput: () => this.#typed(),
      }),
    );
    /** @type {HTMLInputElement} */
    this.label = el("input", {
      type: "text",
      id: "box-label",
      class: "box-label",
      placeholder: "What it shows (may stay empty)",
      "aria-label": "Label of the new box",
      autocomplete: "off",
      oninput: () => this.label.setCustomValidity(""),
    });
    this.title = el("h3", {});
    this.saver = el("button", { type: "submit", class: "primary" });
    this.element = el(
      "form",
      {
        class: "box-form",
        hidden: true,
        onsubmit: (event) => {
          event.preventDefault();
          this.save();
        },
        onkeydown: (event) => {
          if (event.key !== "Escape") return;
          event.preventDefault();
          event.stopPropagation();
          this.end();
        },
      },
      this.title,
      el(
        "div",
        { class: "box-numbers" },
        NUMBERS.map(([name, title], number) => el("label", { for: `box-${name}` }, title, this.numbers[number])),
      ),
      this.label,
      el(
        "div",
        { class: "photo-actions" },
        this.saver,
        el("button", { type: "button", onclick: () => this.end() }, "Cancel", el("kbd", {}, "Esc")),
      ),
      el("p", { class: "hint" }, "Drag on the image, drag the edges, use the arrows, or type percentages."),
    );
  }

  get active() {
    return !this.layer.hidden;
  }

  /** Whether it is an existing box that is being put right. */
  get corrects() {
    return this.active && this.#corrects;
  }

  /** @param {Rectangle | null} place of the box that is corrected; null for a new one */
  start(place) {
    this.#corrects = place !== null;
    this.title.textContent = place ? "Correct the box" : "A new box";
    this.label.hidden = place !== null;
    this.label.value = "";
    this.layer.hidden = this.element.hidden = false;
    this.#busy(false);
    this.#draw(place ?? FIRST);
    this.draft.focus({ preventScroll: true });
  }

  end() {
    if (!this.active) return;
    this.layer.hidden = this.element.hidden = true;
    this.page.ended();
  }

  async save() {
    const label = this.label.value.trim();
    this.label.setCustomValidity(objection(label));
    if (this.#saving || !this.element.reportValidity()) return;
    this.#busy(true);
    try {
      await this.page.save(this.#place, this.#corrects || !label ? null : label, this.#corrects);
    } finally {
      this.#busy(false);
    }
  }

  /**
   * Take a key while a box is drawn: arrows move it, with Shift they move its right and lower edge. Other letters, which
   * would decide what the image shows, do nothing.
   * @param {KeyboardEvent} event
   */
  key(event) {
    const { key, shiftKey } = event;
    if (key === "Escape") this.end();
    else if (key in ARROWS) {
      const side = ARROWS[key].x ? "e" : "s";
      this.#draw(dragged(this.#place, shiftKey ? side : "", ARROWS[key]));
    } else if (key === "Enter" && !closest(event, "button")) this.save();
    else return key.length === 1 && !["+", "=", "-", "0", " "].includes(key);
    return true;
  }

  /** @param {boolean} saving */
  #busy(saving) {
    this.#saving = saving;
    this.saver.disabled = saving;
    fill(this.saver, saving ? "Embedding what it shows" : "Save the box", saving ? null : el("kbd", {}, "Enter"));
  }

  #typed() {
    const [x, y, width, height] = this.numbers.map(({ valueAsNumber }) => valueAsNumber / 100);
    if ([x, y, width, height].every(Number.isFinite)) this.#draw(fitted({ x, y, width, height }), { typed: true });
  }

  /** @param {Rectangle} place */
  #draw(place, { typed = false } = {}) {
    this.#place = place;
    for (const [number, [name]] of NUMBERS.entries())
      if (!typed) this.numbers[number].value = (100 * place[name]).toFixed(1);
    const share = (/** @type {number} */ value) => `${100 * value}%`;
    Object.assign(this.draft.style, {
      left: share(place.x),
      top: share(place.y),
      width: share(place.width),
      height: share(place.height),
    });
  }

  /** @param {PointerEvent} event */
  #drag(event) {
    event.stopPropagation(); // the image is not moved meanwhile
    if (event.button !== 0) return;
    event.preventDefault();
    const { layer } = this;
    const at = (/** @type {PointerEvent} */ { clientX, clientY }) => {
      const { left, top, width, height } = layer.getBoundingClientRect();
      return { x: (clientX - left) / width, y: (clientY - top) / height };
    };
    const start = at(event);
    const before = this.#place;
    const onBox = closest(event, ".draft");
    const side = closest(event, ".handle")?.dataset.side ?? "";
    this.draft.focus({ preventScroll: true });
    layer.setPointerCapture(event.pointerId);
    /** @param {PointerEvent} moving */
    const move = (moving) => {
      const now = at(moving);
      this.#draw(onBox ? dragged(before, side, { x: now.x - start.x, y: now.y - start.y }) : between(start, now));
    };
    const end = () => layer.removeEventListener("pointermove", move);
    layer.addEventListener("pointermove", move);
    layer.addEventListener("pointerup", end, { once: true });
    layer.addEventListener("pointercancel", end, { once: true });
  }
}
