// @ts-check
// A grid of images of any length. Only the rows in sight, and a few beside them, are in the document.

import { thumbnailUrl } from "./api.js";
import { closest, el, icon } from "./dom.js";
import { CAPTION, firstAt, layout, placeOf, stepOf, tilesAt, topToShow } from "./gridlayout.js";
import { selection } from "./selection.js";
import { listen } from "./signals.js";

/**
 * @import {Layout} from "./gridlayout.js"
 * @import {Photo, Source, Timer} from "./types.js"
 */

const FAST = 4; // CSS pixels a millisecond: what passes faster is not loaded
const QUIET = 90; // milliseconds without scrolling after which it is
const RETRY = 1500; // milliseconds until a thumbnail that failed is asked for again
const SPARE = 200; // tiles kept to be used again
let grids = 0;

/**
 * A tile: its elements, and what it shows.
 * @typedef {object} Tile
 * @property {HTMLElement} element
 * @property {HTMLImageElement} image
 * @property {HTMLElement} frame
 * @property {HTMLElement} name
 * @property {HTMLElement} detail
 * @property {number} index
 * @property {Photo | undefined} photo
 * @property {string} wanted the address of its thumbnail
 * @property {string} tried the address that failed once
 */

export class Grid {
  size = 180;
  active = 0;
  /** @type {Source | null} */
  source = null;
  /** @type {Layout | null} null while the grid is hidden */
  #layout = null;
  #width = 0;
  /** @type {Map<number, Tile>} */
  #tiles = new Map();
  /** @type {WeakMap<Element, Tile>} */
  #tileOf = new WeakMap();
  /** @type {Tile[]} */
  #spare = [];
  #anchor = 0;
  #frame = 0;
  #last = { top: 0, at: 0 };
  #touched = false;
  /** @type {Timer | undefined} */
  #timer;

  /**
   * @param {HTMLElement} scroller the element that scrolls
   * @param {object} options
   * @param {string} options.label names the grid for screen readers
   * @param {(index: number) => unknown} options.onOpen opens an image
   * @param {(photo: Photo) => [string, string] | [string, string, string]} options.caption gives two lines of text and,
   *   if these do not say what they are, the name of the tile for screen readers
   * @param {(event: KeyboardEvent, index: number) => boolean} [options.onKey] may take a key (and give true)
   * @param {(photo: Photo) => boolean} [options.mark] whether an image is marked
   */
  constructor(scroller, { onOpen, caption, onKey = () => false, label, mark = () => false }) {
    this.scroller = scroller;
    this.onOpen = onOpen;
    this.caption = caption;
    this.onKey = onKey;
    this.mark = mark;
    this.name = `grid${++grids}`;
    this.canvas = el("div", {
      class: "grid",
      tabindex: "0",
      role: "listbox",
      "aria-multiselectable": "true",
      "aria-label": label,
    });
    scroller.append(this.canvas);
    scroller.addEventListener("scroll", () => this.#drawSoon(), { passive: true });
    new ResizeObserver(() => this.#resized()).observe(scroller);
    this.canvas.addEventListener("pointerdown", ({ pointerType }) => {
      this.#touched = pointerType === "touch";
    });
    this.canvas.addEventListener("click", (event) => this.#click(event));
    this.canvas.addEventListener("dblclick", (event) => this.#doubleClick(event));
    this.canvas.addEventListener("keydown", (event) => this.#key(event));
    this.canvas.addEventListener("focus", () => this.#activate(this.active, { scroll: false }));
    listen("selection", () => this.#drawSelected());
  }

  /**
   * Show another source, from an image on; `active` is the one that keys act on.
   * @param {Source} source
   * @param {{first?: number, active?: number}} options
   */
  show(source, { first = 0, active = first } = {}) {
    this.source?.close();
    this.source = source;
    source.onchange = () => this.refresh();
    this.active = this.#anchor = Math.max(0, Math.min(active, source.total - 1));
    this.#clear();
    this.#layOut();
    this.scrollTo(first);
  }

  /** Redraw the current view: its images have changed. */
  refresh() {
    if (!this.source) return;
    if (this.#layout?.total !== this.source.total) this.#layOut();
    for (const tile of this.#tiles.values()) this.#fill(tile);
    this.#drawSoon();
  }

  /** @param {number} size */
  setSize(size) {
    const first = this.first();
    this.size = size;
    this.#layOut();
    this.scrollTo(first);
  }

  /**
   * Show whole images, or square cuts of them.
   * @param {boolean} whole
   */
  setWhole(whole) {
    this.canvas.classList.toggle("whole", whole);
  }

  /**
   * The first image in sight.
   * @returns {number}
   */
  first() {
    return this.#layout ? firstAt(this.#layout, this.#top()) : 0;
  }

  /** @param {number} index */
  scrollTo(index) {
    if (!this.#layout) return;
    this.scroller.scrollTop = placeOf(this.#layout, index).y / this.#layout.ratio;
    this.draw();
  }

  focus() {
    this.canvas.focus({ preventScroll: true });
  }

  #top() {
    return this.scroller.scrollTop * (this.#layout?.ratio ?? 1);
  }

  #resized() {
    const { clientWidth } = this.scroller;
    if (!this.source || !clientWidth || clientWidth === this.#width) return this.#drawSoon();
    const first = this.first();
    this.#layOut();
    this.scrollTo(first);
  }

  #layOut() {
    if (!this.source) return;
    const style = getComputedStyle(this.scroller);
    this.#width = this.scroller.clientWidth;
    const width = this.#width - Number.parseFloat(style.paddingLeft) - Number.parseFloat(style.paddingRight);
    if (!(width > 0)) {
      this.#layout = null; // hidden: laid out when it is shown
      return;
    }
    const { clientHeight: view } = this.scroller;
    this.#layout = layout({ width, view, size: this.size, total: this.source.total });
    this.canvas.style.height = `${this.#layout.height}px`;
    this.#clear();
  }

  #clear() {
    for (const tile of [...this.#tiles.values()]) this.#remove(tile);
  }

  #drawSoon() {
    this.#frame ||= requestAnimationFrame(() => this.draw());
  }

  /** Put the rows in sight into the document, and take the others out. */
  draw() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    const view = this.scroller.clientHeight;
    if (!this.source || !this.#layout || !view) return;
    this.#layout.view = view;
    const top = this.#top();
    const now = performance.now();
    const speed = Math.abs(top - this.#last.top) / Math.max(1, now - this.#last.at);
    this.#last = { top, at: now };
    const { first, end } = tilesAt(this.#layout, top);
    for (const tile of [...this.#tiles.values()]) if (tile.index < first || tile.index >= end) this.#remove(tile);
    const shift = this.scroller.scrollTop - top; // 0 unless the grid is higher than a browser can scroll
    for (let index = first; index < end; index++) {
      const tile = this.#tiles.get(index) ?? this.#add(index, this.#layout);
      const { x, y } = placeOf(this.#layout, index);
      tile.element.style.transform = `translate(${x}px, ${y + shift}px)`;
    }
    clearTimeout(this.#timer);
    if (speed > FAST) this.#timer = setTimeout(() => this.#load(first, end), QUIET);
    else this.#load(first, end);
  }

  /**
   * @param {number} first
   * @param {number} end
   */
  #load(first, end) {
    if (end > first) this.source?.need(first, end);
    for (const { image, wanted } of this.#tiles.values()) {
      if (wanted && image.getAttribute("src") !== wanted) image.src = wanted;
    }
  }

  /**
   * @param {number} index
   * @param {Layout} layout
   */
  #add(index, { tile: width }) {
    const tile = this.#spare.pop() ?? newTile();
    const { element } = tile;
    this.#tileOf.set(element, tile);
    tile.index = index;
    element.id = `${this.name}-${index}`;
    element.style.width = `${width}px`;
    element.style.height = `${width + CAPTION}px`;
    tile.frame.style.height = `${width}px`;
    this.#fill(tile);
    this.#tiles.set(index, tile);
    this.canvas.append(element);
    return tile;
  }

  /** @param {Tile} tile */
  #fill(tile) {
    const { element, index } = tile;
    const photo = this.source?.at(index);
    element.setAttribute("aria-posinset", String(index + 1));
    element.setAttribute("aria-setsize", String(this.source?.total));
    element.classList.toggle("active", index === this.active);
    tile.photo = photo;
    element.dataset.id = photo?.id ?? "";
    if (!photo) {
      tile.wanted = "";
      tile.name.textContent = tile.detail.textContent = "";
      element.setAttribute("aria-label", "Loading");
      return;
    }
    const [name, detail, spoken] = this.caption(photo);
    tile.name.textContent = name;
    tile.detail.textContent = detail;
    element.title = spoken ? `${photo.name}\n${spoken}` : photo.name;
    if (spoken) element.setAttribute("aria-label", spoken);
    else element.removeAttribute("aria-label"); // its caption is its name
    tile.wanted = thumbnailUrl(photo, (this.#layout?.tile ?? this.size) * (devicePixelRatio || 1));
    element.classList.toggle("marked", this.mark(photo));
    this.#drawSelectedOf(tile);
  }

  /** @param {Tile} tile */
  #remove(tile) {
    this.#tiles.delete(tile.index);
    tile.element.remove();
    tile.image.removeAttribute("src"); // gives up a request that is under way
    tile.element.className = "tile";
    tile.wanted = "";
    if (this.#spare.length < SPARE) this.#spare.push(tile);
  }

  #drawSelected() {
    for (const tile of this.#tiles.values()) this.#drawSelectedOf(tile);
  }

  /** @param {Tile} tile */
  #drawSelectedOf({ element, photo }) {
    const selected = photo !== undefined && selection.has(photo.id);
    element.setAttribute("aria-selected", String(selected));
    element.classList.toggle("selected", selected);
    this.canvas.classList.toggle("selecting", selection.size > 0);
  }

  /** @param {Event} event */
  #tileAt(event) {
    const element = closest(event, ".tile");
    return element ? this.#tileOf.get(element) : undefined;
  }

  /** @param {MouseEvent} event */
  #click(event) {
    const tile = this.#tileAt(event);
    if (!tile?.photo) return;
    const { index, photo } = tile;
    this.#activate(index, { scroll: false });
    if (event.shiftKey) {
      this.#extend(index);
      return;
    }
    const more = event.ctrlKey || event.metaKey || closest(event, ".check") !== null;
    if (closest(event, ".open") || (this.#touched && !more && !selection.size)) {
      this.onOpen(index);
      return;
    }
    this.#anchor = index;
    if (more || this.#touched) selection.toggle(photo.id);
    else selection.set([photo.id]);
  }

  /** @param {MouseEvent} event */
  #doubleClick(event) {
    const tile = this.#tileAt(event);
    const plain = !event.shiftKey && !event.ctrlKey && !event.metaKey && !closest(event, ".check, .open");
    if (tile?.photo && plain && !this.#touched) this.onOpen(tile.index);
  }

  /**
   * Whether an image stands before somebody's eyes: "loaded", "broken" (it cannot be shown), or "" (not yet).
   * @param {number} index
   */
  imageState(index) {
    const tile = this.#tiles.get(index);
    return ["loaded", "broken"].find((each) => tile?.element.classList.contains(each)) ?? "";
  }

  /** @param {number} index */
  async #extend(index) {
    if (!this.source) return;
    const [first, last] = [Math.min(this.#anchor, index), Math.max(this.#anchor, index)];
    selection.add(await this.source.ids(first, last));
  }

  /**
   * Make one the active tile, which keys act on.
   * @param {number} index
   */
  #activate(index, { scroll = true } = {}) {
    if (!this.source?.total) return;
    this.#tiles.get(this.active)?.element.classList.remove("active");
    this.active = Math.max(0, Math.min(index, this.source.total - 1));
    if (scroll && this.#layout) {
      this.#layout.view = this.scroller.clientHeight;
      const now = this.#top();
      const top = topToShow(this.#layout, this.active, now);
      if (top !== now) this.scroller.scrollTop = top / this.#layout.ratio;
      this.draw();
    }
    this.#tiles.get(this.active)?.element.classList.add("active");
    this.canvas.setAttribute("aria-activedescendant", `${this.name}-${this.active}`);
  }

  /**
   * Go on to another tile, as an arrow key would.
   * @param {number} index
   */
  move(index) {
    this.#activate(index);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (!this.source?.total || !this.#layout || event.altKey) return;
    if (this.onKey(event, this.active)) return event.preventDefault();
    this.#layout.view = this.scroller.clientHeight;
    const to = stepOf(this.#layout, this.active, event.key);
    if (to !== undefined) {
      this.#activate(to);
      if (event.shiftKey) this.#extend(this.active);
      else this.#anchor = this.active;
    } else if (event.key === " ") {
      const photo = this.source.at(this.active);
      if (photo) selection.toggle(photo.id);
      this.#anchor = this.active;
    } else if (event.key === "Enter") this.onOpen(this.active);
    else return;
    event.preventDefault();
  }
}

/** @returns {Tile} */
function newTile() {
  const image = el("img", { alt: "", decoding: "async", draggable: "false" });
  const check = el("span", { class: "check", "aria-hidden": "true" }, icon("check"));
  const open = el("span", { class: "open", "aria-hidden": "true", title: "Open (double click, Enter)" }, icon("fit"));
  const frame = el("div", { class: "frame" }, image, check, open);
  const name = el("span", { class: "name" });
  const detail = el("span", { class: "detail" });
  const element = el("div", { class: "tile", role: "option" }, frame, el("div", { class: "caption" }, name, detail));
  /** @type {Tile} */
  const tile = { element, image, frame, name, detail, index: -1, photo: undefined, wanted: "", tried: "" };
  image.addEventListener("load", () => element.classList.add("loaded"));
  image.addEventListener("error", () => {
    const { wanted } = tile;
    if (!wanted) return;
    if (tile.tried === wanted) {
      element.classList.add("broken");
      return;
    }
    tile.tried = wanted; // the server may have been busy: once more
    setTimeout(() => {
      if (tile.wanted === wanted) image.src = wanted;
    }, RETRY);
  });
  return tile;
}
