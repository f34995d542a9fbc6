// @ts-check
// The boxes of the open image: drawn over the whole of it, and listed beside it. Each is a row of its own; what a person
// says of a box itself, that it is right or wrong, is a label of that row.

import { api, fullImageUrl, imageUrl, isAbort, thumbnailUrl } from "./api.js";
import { BoxDraw } from "./boxdraw.js";
import { inOrder, nameOf, neighbourOf, RIGHT, SAID, WRONG } from "./boxlist.js";
import { el, fadingImage, failed, fill, keepingFocus, messageOf } from "./dom.js";
import { count, percent } from "./format.js";
import { actOf, give } from "./labels.js";
import { toast } from "./layers.js";
import { tellAll } from "./signals.js";
import { WHOLE } from "./zoomview.js";

/**
 * @import {Zoom} from "./zoom.js"
 * @import {Zoomed} from "./zoomview.js"
 * @import {BoxesOfImage, BoxOnImage, Collection, Rectangle} from "./types.js"
 */

const LOW = 0.06; // of the image's height: a box that begins above it has its name inside

/** The boxes of one image at a time, and which of them is open. */
export class Boxes {
  /** @type {BoxesOfImage} */
  #found = { whole: null, boxes: [] };
  #id = "";
  /** Names the image that is shown: the row by which it was asked for. */
  #shown = "";
  #showsWhole = true;
  #showsWrong = false;
  /** @type {Readonly<Zoomed>} */
  #view = WHOLE;

  /**
   * @param {HTMLImageElement} image
   * @param {Zoom} zoom
   * @param {{open: (id: string) => void, show: () => void, collection: Collection}} page
   *   `open` opens another row, `show` asks for the image again
   */
  constructor(image, zoom, page) {
    this.image = image;
    this.page = page;
    this.drawing = new BoxDraw({
      save: (place, label, corrects) => this.#save(place, label, corrects),
      ended: () => this.#draw(),
    });
    this.over = el("div", { class: "over", role: "group", "aria-label": "Boxes on the image" });
    this.overlay = el("div", { class: "boxes", hidden: true }, this.over, this.drawing.layer);
    this.strip = el("div", { class: "strip" });
    this.note = el("p", { class: "hint" });
    this.title = el("h3", {});
    this.toggle = el("button", { type: "button", "aria-keyshortcuts": "W", onclick: () => this.#turn() });
    this.right = this.#saying(RIGHT, "Box is right", "R");
    this.wrong = this.#saying(WRONG, "Box is wrong", "Delete");
    this.correct = el(
      "button",
      { type: "button", "aria-keyshortcuts": "E", onclick: () => this.#start(true) },
      "Correct it",
      el("kbd", {}, "E"),
    );
    this.add = el(
      "button",
      { type: "button", "aria-keyshortcuts": "D", onclick: () => this.#start(false) },
      "Draw a box",
      el("kbd", {}, "D"),
    );
    this.element = el(
      "section",
      { class: "boxes-beside", hidden: true },
      this.title,
      this.strip,
      el(
        "div",
        { class: "photo-actions" },
        this.toggle,
        page.collection.writable ? [this.right, this.wrong, this.correct, this.add] : null,
      ),
      this.drawing.element,
      this.note,
    );
    zoom.onview = (view) => this.place(view);
    new ResizeObserver(() => this.place()).observe(image);
  }

  /** Names the image that is shown, for what is kept about it. */
  get shown() {
    return this.#shown;
  }

  /** Whether the whole image is shown, and not the cut-out of a box alone. */
  get showsWhole() {
    return this.#showsWhole;
  }

  /** Where the image comes from. */
  get address() {
    return imageUrl(this.#shown, { whole: this.#showsWhole });
  }

  /** Where every pixel of it comes from. */
  get fullAddress() {
    return fullImageUrl(this.#shown, { whole: this.#showsWhole });
  }

  /** The box that is open; undefined for a whole image, and before it is known. */
  get own() {
    return this.#found.boxes.find(({ id }) => id === this.#id);
  }

  /**
   * Turn to a row; whether it is of the image that is shown already, which stays.
   * @param {string} id
   */
  look(id) {
    const known = this.#found.whole === id || this.#found.boxes.some((box) => box.id === id);
    const stays = known && this.#showsWhole && this.image.classList.contains("loaded");
    this.#id = id;
    this.drawing.end();
    if (!known) this.#found = { whole: null, boxes: [] };
    if (!known) this.#showsWrong = false;
    if (!stays) this.#shown = id;
    this.#draw();
    return stays;
  }

  /** @param {AbortSignal} [signal] */
  async load(signal) {
    const id = this.#id;
    try {
      const found = await api.boxes(id, signal);
      if (id !== this.#id) return;
      this.#found = found;
      this.#draw();
    } catch (error) {
      if (isAbort(error) || id !== this.#id) return;
      this.element.hidden = this.strip.hidden = false;
      fill(
        this.strip,
        failed(error, () => this.load(signal)),
      );
    }
  }

  /**
   * Take a key: N and Shift N go to the next and the previous box, W shows the whole image or the cut-out alone, R and
   * Delete say that the box is right or wrong, D draws a new one and E corrects this one.
   * @param {KeyboardEvent} event
   */
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || this.element.hidden) return false;
    if (this.drawing.active) return this.drawing.key(event);
    const { key, shiftKey } = event;
    if (key.toLowerCase() === "n") this.#step(shiftKey ? -1 : 1);
    else if (shiftKey) return false;
    else if (key.toLowerCase() === "w" && this.own) this.#turn();
    else if (key.toLowerCase() === "r" && this.own) this.#say(RIGHT);
    else if ((key === "Delete" || key === "Backspace") && this.own) this.#say(WRONG);
    else if (key.toLowerCase() === "d") this.#start(false);
    else if (key.toLowerCase() === "e" && this.own) this.#start(true);
    else return false;
    return true;
  }

  /**
   * Lay the boxes over the image, wherever it is enlarged and moved to.
   * @param {Readonly<Zoomed>} view
   */
  place(view = this.#view) {
    this.#view = view;
    const { image, overlay } = this;
    overlay.hidden = !(this.#showsWhole && image.isConnected && image.classList.contains("loaded"));
    if (overlay.hidden) return;
    const fit = Math.min(image.offsetWidth / image.naturalWidth, image.offsetHeight / image.naturalHeight);
    Object.assign(overlay.style, {
      left: `${image.offsetLeft + image.offsetWidth / 2 + view.x}px`,
      top: `${image.offsetTop + image.offsetHeight / 2 + view.y}px`,
      width: `${image.naturalWidth * fit * view.scale}px`,
      height: `${image.naturalHeight * fit * view.scale}px`,
    });
  }

  /**
   * @param {string} value
   * @param {string} title
   * @param {string} key
   */
  #saying(value, title, key) {
    const onclick = () => this.#say(value);
    return el("button", { type: "button", "aria-keyshortcuts": key, onclick }, title, el("kbd", {}, key));
  }

  /** @param {string} value */
  #say(value) {
    const { own } = this;
    if (own && this.page.collection.writable) give([own.id], SAID, own.box === value ? null : value);
  }

  /** Show the whole image in place of the cut-out, or the other way round. */
  #turn() {
    this.#showsWhole = !this.#showsWhole;
    this.#shown = this.#id;
    this.#draw();
    this.page.show();
  }

  /**
   * Draw a box, or correct the one that is open, over the whole image.
   * @param {boolean} corrects
   */
  #start(corrects) {
    const { can, writable } = this.page.collection;
    if (!writable) return;
    const why = !can.search_image
      ? `A box cannot be drawn here, because what it shows has to be embedded: ${can.why}`
      : !this.image.isConnected && "A box can be drawn on an image that is shown, not on a video or a missing file.";
    if (why) {
      toast(why, { error: true });
      return;
    }
    if (!this.#showsWhole) this.#turn();
    this.drawing.start(corrects && this.own ? this.own.place : null);
    this.#draw();
  }

  /**
   * @param {Rectangle} place
   * @param {string | null} label
   * @param {boolean} corrects
   */
  async #save(place, label, corrects) {
    const id = this.#id;
    let made = "";
    try {
      await actOf(
        async (act) => {
          made = (await api.drawBox(id, { ...place, corrects, label, ...act })).id;
          return corrects ? [made, id] : [made];
        },
        corrects ? "The box is corrected" : "The box is added",
      );
    } catch (error) {
      toast(messageOf(error), { error: true });
      return;
    }
    tellAll("rows");
    if (id !== this.#id) return; // another image is open by now
    await this.load();
    this.drawing.end();
    this.page.open(made);
  }

  /** @param {1 | -1} by */
  #step(by) {
    const next = neighbourOf(this.#listed(), this.#id, by);
    if (next) this.page.open(next.id);
  }

  /**
   * Ask again after labels have changed.
   * @param {string[]} [ids] of these rows; of some, if that is not known
   */
  again(ids) {
    if (!ids || this.#found.boxes.some((box) => ids.includes(box.id))) this.load();
  }

  /** Those that are listed and drawn: what was said to be wrong is not, unless it is open or asked for. */
  #listed() {
    return inOrder(this.#found.boxes).filter((box) => box.box !== WRONG || box.id === this.#id || this.#showsWrong);
  }

  #draw() {
    const { own } = this;
    const boxes = this.#listed();
    const { whole } = this.#found;
    const hidden = this.#found.boxes.length - boxes.length;
    this.element.hidden = !boxes.length && !hidden && !this.page.collection.writable;
    this.strip.hidden = !boxes.length;
    const at = boxes.findIndex(({ id }) => id === this.#id) + 1;
    this.title.textContent = at
      ? `Boxes on this image: ${at} of ${boxes.length}, and the others`
      : "Boxes on this image";
    keepingFocus(this.strip, () =>
      fill(
        this.strip,
        boxes.map((box) => this.#tile(box)),
        whole && boxes.length ? this.#wholeTile(whole) : null,
      ),
    );
    // The small ones above the large ones, so that each can be reached.
    const above = [...boxes].sort((a, b) => b.place.width * b.place.height - a.place.width * a.place.height);
    fill(
      this.over,
      above.filter(({ id }) => !this.drawing.corrects || id !== this.#id).map((box) => this.#drawn(box)),
    );
    fill(this.toggle, this.#showsWhole ? "Only the cut-out" : "Whole image", el("kbd", {}, "W"));
    for (const each of [this.toggle, this.right, this.wrong, this.correct]) each.hidden = !own;
    const { active, corrects } = this.drawing;
    this.correct.setAttribute("aria-pressed", String(corrects));
    this.add.setAttribute("aria-pressed", String(active && !corrects));
    this.right.setAttribute("aria-pressed", String(own?.box === RIGHT));
    this.wrong.setAttribute("aria-pressed", String(own?.box === WRONG));
    fill(
      this.note,
      hidden ? `${count(hidden)} ${hidden === 1 ? "box is" : "boxes are"} marked as wrong. ` : null,
      hidden ? el("button", { type: "button", class: "link", onclick: () => this.#showWrong() }, "Show") : null,
    );
    this.place();
  }

  #showWrong() {
    this.#showsWrong = true;
    this.#draw();
  }

  /** @param {BoxOnImage} box */
  #tile(box) {
    const sure = box.confidence === null ? "" : percent(box.confidence);
    return el(
      "button",
      {
        type: "button",
        class: "neighbour",
        title: box.name,
        "data-key": box.id,
        "aria-current": box.id === this.#id ? "true" : null,
        onclick: () => this.page.open(box.id),
      },
      fadingImage(thumbnailUrl(box, 96), { loading: "lazy" }),
      el("span", { class: "name" }, nameOf(box)),
      el("span", { class: "detail" }, [box.box ?? "", sure].filter(Boolean).join(", ")),
    );
  }

  /** @param {string} id */
  #wholeTile(id) {
    return el(
      "button",
      {
        type: "button",
        class: "neighbour",
        "data-key": id,
        "aria-current": id === this.#id ? "true" : null,
        onclick: () => this.page.open(id),
      },
      fadingImage(thumbnailUrl({ id }, 96)),
      el("span", { class: "name" }, "whole image"),
      el("span", { class: "detail" }, "a row, too"),
    );
  }

  /** @param {BoxOnImage} box */
  #drawn(box) {
    const { x, y, width, height } = box.place;
    const share = (/** @type {number} */ value) => `${100 * value}%`;
    const name = nameOf(box);
    const state = [box.box === WRONG && "wrong", y < LOW && "low"].filter(Boolean).join(" ");
    return el(
      "button",
      {
        type: "button",
        class: `box ${state}`,
        tabindex: "-1", // the list beside it is there for the keyboard
        title: name,
        "aria-label": `Box: ${name}`,
        "aria-current": box.id === this.#id ? "true" : null,
        style: { left: share(x), top: share(y), width: share(width), height: share(height) },
        onclick: () => box.id !== this.#id && this.page.open(box.id),
      },
      el("span", { class: "box-name" }, name),
    );
  }
}
