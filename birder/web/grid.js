// A grid of photographs of any length. Only the rows in sight, and a few beside them, are in the document; places and
// sizes follow from the number of tiles and the width alone, so nothing moves when pictures arrive.

import { thumbnail } from "./api.js";
import { el, icon } from "./dom.js";
import { selection } from "./selection.js";
import { listen } from "./state.js";

const GAP = 10;
const CAPTION = 42;
const BESIDE = 2; // rows kept on either side of what is in sight
const HIGHEST = 12e6; // CSS pixels; browsers cannot scroll through much more, so longer grids scroll faster
const FAST = 4; // CSS pixels a millisecond: what passes faster is not loaded
const QUIET = 90; // milliseconds without scrolling after which it is
let grids = 0;

export class Grid {
  /**
   * `scroller` scrolls; `onOpen(index)` opens a photograph, `caption(photo)` gives two lines of text, `onKey(event,
   * index)` may take a key (and return true), `label` names the grid for screen readers.
   */
  constructor(scroller, { onOpen, caption, onKey = () => false, label, mark = () => false }) {
    Object.assign(this, { scroller, onOpen, caption, onKey, mark });
    this.name = `grid${++grids}`;
    this.size = 180;
    this.source = null;
    this.tiles = new Map(); // index -> element
    this.spare = [];
    this.active = 0;
    this.anchor = 0;
    this.frame = 0;
    this.last = { top: 0, at: 0 };
    this.columns = 1;
    this.canvas = el("div", {
      class: "grid",
      tabindex: "0",
      role: "listbox",
      "aria-multiselectable": "true",
      "aria-label": label,
    });
    scroller.append(this.canvas);
    scroller.addEventListener("scroll", () => this.#soon(), { passive: true });
    new ResizeObserver(() => this.#resized()).observe(scroller);
    this.canvas.addEventListener("pointerdown", ({ pointerType }) => (this.touched = pointerType === "touch"));
    this.canvas.addEventListener("click", (event) => this.#click(event));
    this.canvas.addEventListener("dblclick", (event) => this.#doubled(event));
    this.canvas.addEventListener("keydown", (event) => this.#key(event));
    this.canvas.addEventListener("focus", () => this.#activate(this.active, { scroll: false }));
    listen("selection", () => this.#marks());
  }

  /** Show another source, from a photograph on; `active` is the one that keys act on. */
  show(source, { first = 0, active = first } = {}) {
    this.source?.close();
    this.source = source;
    source.onchange = () => this.refresh();
    this.active = this.anchor = Math.max(0, Math.min(active, source.total - 1));
    this.#clear();
    this.#layout();
    this.scrollTo(first);
  }

  /** Draw again what is there: its photographs have changed. */
  refresh() {
    if (!this.source) return;
    if (this.laidOut !== this.source.total) this.#layout();
    for (const [index, tile] of this.tiles) this.#fill(tile, index);
    this.#soon();
  }

  setSize(size) {
    const first = this.first();
    this.size = size;
    this.#layout();
    this.scrollTo(first);
  }

  /** The first photograph in sight. */
  first() {
    return Math.max(0, Math.floor(this.#top() / this.row) * this.columns) || 0;
  }

  scrollTo(index) {
    if (!this.source) return;
    this.scroller.scrollTop = (Math.floor(index / this.columns) * this.row) / this.ratio;
    this.draw();
  }

  focus() {
    this.canvas.focus({ preventScroll: true });
  }

  #top() {
    return this.scroller.scrollTop * this.ratio;
  }

  #resized() {
    if (!this.source || !this.scroller.clientWidth || this.scroller.clientWidth === this.width) return this.#soon();
    const first = this.first();
    this.#layout();
    this.scrollTo(first);
  }

  #layout() {
    if (!this.source) return;
    const style = getComputedStyle(this.scroller);
    this.width = this.scroller.clientWidth;
    const width = this.width - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    if (!(width > 0)) {
      this.tile = 0; // hidden: laid out when it is shown
      return;
    }
    this.columns = Math.max(width < 420 ? 2 : 1, Math.floor((width + GAP) / (this.size + GAP)));
    this.tile = Math.floor((width - GAP * (this.columns - 1)) / this.columns);
    this.row = this.tile + CAPTION + GAP;
    this.laidOut = this.source.total;
    const height = Math.ceil(this.source.total / this.columns) * this.row;
    this.height = Math.min(height, HIGHEST);
    const view = this.scroller.clientHeight;
    this.ratio = height > this.height ? (height - view) / (this.height - view) : 1;
    this.canvas.style.height = `${this.height}px`;
    this.#clear();
  }

  #clear() {
    for (const index of [...this.tiles.keys()]) this.#remove(index);
  }

  #soon() {
    this.frame ||= requestAnimationFrame(() => this.draw());
  }

  /** Put the rows in sight into the document, and take the others out. */
  draw() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    if (!this.source || !this.scroller.clientHeight || !this.tile) return;
    const top = this.#top();
    const now = performance.now();
    const speed = Math.abs(top - this.last.top) / Math.max(1, now - this.last.at);
    this.last = { top, at: now };
    const { total } = this.source;
    const [from, to] = [Math.floor(top / this.row), Math.ceil((top + this.scroller.clientHeight) / this.row)];
    const first = Math.max(0, (from - BESIDE) * this.columns);
    const end = Math.min(total, (to + BESIDE) * this.columns);
    for (const index of [...this.tiles.keys()]) if (index < first || index >= end) this.#remove(index);
    const shift = this.scroller.scrollTop - top; // 0 unless the grid is higher than a browser can scroll
    for (let index = first; index < end; index++) {
      const tile = this.tiles.get(index) ?? this.#add(index);
      const x = (index % this.columns) * (this.tile + GAP);
      tile.style.transform = `translate(${x}px, ${Math.floor(index / this.columns) * this.row + shift}px)`;
    }
    clearTimeout(this.timer);
    if (speed > FAST) this.timer = setTimeout(() => this.#load(first, end), QUIET);
    else this.#load(first, end);
  }

  #load(first, end) {
    if (end > first) this.source.need(first, end);
    for (const tile of this.tiles.values()) {
      if (tile.wanted && tile.picture.getAttribute("src") !== tile.wanted) tile.picture.src = tile.wanted;
    }
  }

  #add(index) {
    const tile = this.spare.pop() ?? newTile();
    tile.id = `${this.name}-${index}`;
    tile.index = index;
    tile.style.width = `${this.tile}px`;
    tile.style.height = `${this.tile + CAPTION}px`;
    tile.frame.style.height = `${this.tile}px`;
    this.#fill(tile, index);
    this.tiles.set(index, tile);
    this.canvas.append(tile);
    return tile;
  }

  #fill(tile, index) {
    const photo = this.source.at(index);
    tile.setAttribute("aria-posinset", index + 1);
    tile.setAttribute("aria-setsize", this.source.total);
    tile.classList.toggle("active", index === this.active);
    tile.photo = photo;
    if (!photo) {
      tile.wanted = "";
      tile.name.textContent = tile.detail.textContent = "";
      tile.setAttribute("aria-label", "Loading");
      return;
    }
    const [name, detail] = this.caption(photo);
    tile.name.textContent = name;
    tile.detail.textContent = detail;
    tile.title = photo.name;
    tile.removeAttribute("aria-label"); // its caption is its name
    tile.wanted = thumbnail(photo, this.tile * (devicePixelRatio || 1));
    tile.classList.toggle("marked", this.mark(photo));
    this.#mark(tile);
  }

  #remove(index) {
    const tile = this.tiles.get(index);
    this.tiles.delete(index);
    tile.remove();
    tile.picture.removeAttribute("src"); // gives up a request that is under way
    tile.className = "tile";
    tile.wanted = "";
    if (this.spare.length < 200) this.spare.push(tile);
  }

  #marks() {
    for (const tile of this.tiles.values()) this.#mark(tile);
  }

  #mark(tile) {
    const selected = Boolean(tile.photo && selection.has(tile.photo.id));
    tile.setAttribute("aria-selected", String(selected));
    tile.classList.toggle("selected", selected);
    this.canvas.classList.toggle("selecting", selection.size > 0);
  }

  #click(event) {
    const tile = event.target.closest(".tile");
    if (!tile?.photo) return;
    const { index } = tile;
    this.#activate(index, { scroll: false });
    if (event.shiftKey) this.#extend(index);
    else {
      const more = event.ctrlKey || event.metaKey || event.target.closest(".check");
      if (event.target.closest(".open") || (this.touched && !more && !selection.size)) return this.onOpen(index);
      this.anchor = index;
      if (more || this.touched) selection.toggle(tile.photo.id);
      else selection.set([tile.photo.id]);
    }
  }

  #doubled(event) {
    const tile = event.target.closest(".tile");
    const plain = !event.shiftKey && !event.ctrlKey && !event.metaKey && !event.target.closest(".check, .open");
    if (tile?.photo && plain && !this.touched) this.onOpen(tile.index);
  }

  /** Whether a photograph's picture stands before somebody's eyes: "loaded", "broken" (it has none), or "" (not yet). */
  pictureOf(index) {
    const tile = this.tiles.get(index);
    return ["loaded", "broken"].find((each) => tile?.classList.contains(each)) ?? "";
  }

  async #extend(index) {
    const [first, last] = [Math.min(this.anchor, index), Math.max(this.anchor, index)];
    selection.add(await this.source.ids(first, last));
  }

  /** Make one the active tile, which keys act on. */
  #activate(index, { scroll = true } = {}) {
    if (!this.source?.total) return;
    this.tiles.get(this.active)?.classList.remove("active");
    this.active = Math.max(0, Math.min(index, this.source.total - 1));
    if (scroll) {
      const top = Math.floor(this.active / this.columns) * this.row;
      const view = this.scroller.clientHeight;
      const now = this.#top();
      if (top < now) this.scroller.scrollTop = top / this.ratio;
      else if (top + this.row > now + view) this.scroller.scrollTop = (top + this.row + GAP - view) / this.ratio;
      this.draw();
    }
    const tile = this.tiles.get(this.active);
    tile?.classList.add("active");
    this.canvas.setAttribute("aria-activedescendant", `${this.name}-${this.active}`);
  }

  /** Go on to another tile, as an arrow key would. */
  move(index) {
    this.#activate(index);
  }

  #key(event) {
    if (!this.source?.total || event.altKey) return;
    if (this.onKey(event, this.active)) return event.preventDefault();
    const page = Math.max(1, Math.floor(this.scroller.clientHeight / this.row)) * this.columns;
    const steps = {
      ArrowLeft: -1,
      ArrowRight: 1,
      ArrowUp: -this.columns,
      ArrowDown: this.columns,
      PageUp: -page,
      PageDown: page,
      Home: -Infinity,
      End: Infinity,
    };
    if (event.key in steps) {
      const from = this.active;
      let to = from + steps[event.key];
      if (Math.abs(steps[event.key]) === this.columns && (to < 0 || to >= this.source.total)) to = from;
      this.#activate(to);
      if (event.shiftKey) this.#extend(this.active);
      else this.anchor = this.active;
    } else if (event.key === " ") {
      const photo = this.source.at(this.active);
      if (photo) selection.toggle(photo.id);
      this.anchor = this.active;
    } else if (event.key === "Enter") this.onOpen(this.active);
    else return;
    event.preventDefault();
  }
}

function newTile() {
  const picture = el("img", { alt: "", decoding: "async", draggable: "false" });
  const check = el("span", { class: "check", "aria-hidden": "true" }, icon("check"));
  const open = el("span", { class: "open", "aria-hidden": "true", title: "Open (double click, Enter)" }, icon("fit"));
  const frame = el("div", { class: "frame" }, picture, check, open);
  const name = el("span", { class: "name" });
  const detail = el("span", { class: "detail" });
  const tile = el("div", { class: "tile", role: "option" }, frame, el("div", { class: "caption" }, name, detail));
  picture.addEventListener("load", () => tile.classList.add("loaded"));
  picture.addEventListener("error", () => {
    const { wanted } = tile;
    if (!wanted) return;
    if (tile.tried === wanted) return tile.classList.add("broken");
    tile.tried = wanted; // the server may have been busy: once more
    setTimeout(() => tile.wanted === wanted && (picture.src = wanted), 1500);
  });
  return Object.assign(tile, { picture, frame, name, detail });
}
