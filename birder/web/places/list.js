// @ts-check
// The list of places beside their map: it does from the keyboard what pressing the marks and drawing around them does.

import { closest, el } from "../dom.js";
import { count, images } from "../format.js";
import { rowsAt } from "../rows.js";

const ROW = 36; // CSS pixels

/**
 * @typedef {object} Entry
 * @property {number} index of the place
 * @property {string} name
 * @property {number} count images
 * @property {boolean} on whether it is filtered by
 */

export class PlaceList {
  active = 0;
  /** @type {Entry[]} */
  #entries = [];
  /** @type {Set<number>} */
  #selected = new Set();
  /** @type {Map<number, HTMLElement>} by the number of the row */
  #shown = new Map();

  /**
   * @param {HTMLElement} scroller
   * @param {object} options
   * @param {(index: number) => void} options.onPress a place is chosen, as by a press on its mark
   * @param {(index: number) => void} options.onSelect the images of a place are to be selected, or no longer
   * @param {(index: number) => void} options.onPoint a place is pointed at; -1: none
   */
  constructor(scroller, { onPress, onSelect, onPoint }) {
    this.scroller = scroller;
    this.onPress = onPress;
    this.onSelect = onSelect;
    this.onPoint = onPoint;
    this.list = el("div", {
      class: "place-list",
      role: "listbox",
      tabindex: "0",
      "aria-label": "Places",
      "aria-multiselectable": "true",
      "aria-describedby": "places-hint",
    });
    scroller.append(this.list);
    scroller.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(scroller);
    this.list.addEventListener("keydown", (event) => this.#key(event));
    this.list.addEventListener("focus", () => this.#point());
    this.list.addEventListener("blur", () => onPoint(-1));
    this.list.addEventListener("pointerover", (event) => onPoint(this.#indexAt(event)));
    this.list.addEventListener("pointerleave", () => onPoint(-1));
    this.list.addEventListener("click", (event) => {
      const row = Number(closest(event, ".place")?.dataset.row ?? -1);
      if (row < 0) return;
      this.active = row;
      this.#act(event.ctrlKey || event.metaKey);
    });
  }

  /** @param {Entry[]} entries */
  show(entries) {
    const was = this.#entries[this.active]?.index;
    this.#entries = entries;
    const place = entries.findIndex(({ index }) => index === was);
    this.active = Math.max(0, place);
    this.#clear();
  }

  /** @param {Iterable<number>} indices */
  setSelected(indices) {
    this.#selected = new Set(indices);
    this.#clear();
  }

  draw() {
    const { clientHeight: view, scrollTop: scrolled } = this.scroller;
    if (!view) return;
    const at = rowsAt({ total: this.#entries.length, row: ROW, view, scrolled });
    this.list.style.height = `${at.height}px`;
    for (const [row, element] of this.#shown) {
      if ((row >= at.first && row < at.end) || row === this.active) continue;
      element.remove();
      this.#shown.delete(row);
    }
    for (let row = at.first; row < at.end; row++) this.#place(row, at.shift);
    if (this.active < this.#entries.length) this.#place(this.active, at.shift); // what the focus is on stays there
    for (const [row, element] of this.#shown) element.classList.toggle("active", row === this.active);
    this.list.setAttribute("aria-activedescendant", this.#entries.length ? `place-${this.active}` : "");
  }

  #clear() {
    this.#shown.clear();
    this.list.replaceChildren();
    this.draw();
  }

  /**
   * @param {number} row
   * @param {number} shift
   */
  #place(row, shift) {
    const element = this.#shown.get(row) ?? this.#add(row);
    element.style.transform = `translateY(${row * ROW + shift}px)`;
  }

  /** @param {number} row */
  #add(row) {
    const { index, name, count: number, on } = this.#entries[row];
    const element = el(
      "div",
      {
        class: ["place", on && "on", !number && "none"].filter(Boolean).join(" "),
        id: `place-${row}`,
        role: "option",
        "data-row": row,
        "aria-selected": String(this.#selected.has(index)),
        "aria-setsize": this.#entries.length,
        "aria-posinset": row + 1,
        "aria-label": `${name}, ${images(number)}${on ? ", filtered by" : ""}`,
        title: name,
      },
      el("span", { class: "value" }, name),
      el("span", { class: "number" }, count(number)),
    );
    this.list.append(element);
    this.#shown.set(row, element);
    return element;
  }

  /** @param {Event} event */
  #indexAt(event) {
    const row = closest(event, ".place")?.dataset.row;
    return row === undefined ? -1 : this.#entries[Number(row)].index;
  }

  /** @param {boolean} select */
  #act(select) {
    const entry = this.#entries[this.active];
    if (!entry) return;
    if (select) this.onSelect(entry.index);
    else this.onPress(entry.index);
  }

  #point() {
    this.onPoint(this.#entries[this.active]?.index ?? -1);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const page = Math.max(1, Math.floor(this.scroller.clientHeight / ROW) - 1);
    /** @type {Record<string, number>} */
    const steps = { ArrowUp: -1, ArrowDown: 1, PageUp: -page, PageDown: page, Home: -Infinity, End: Infinity };
    const step = steps[event.key];
    if (step !== undefined) this.#move(Math.max(0, Math.min(this.active + step, this.#entries.length - 1)));
    else if (event.key === "Enter") this.#act(false);
    else if (event.key === " ") this.#act(true);
    else return;
    event.preventDefault();
  }

  /** @param {number} row */
  #move(row) {
    this.active = Math.max(0, row);
    const { clientHeight: view, scrollTop: top } = this.scroller;
    const start = this.active * ROW;
    if (start < top) this.scroller.scrollTop = start;
    else if (start + ROW > top + view) this.scroller.scrollTop = start + ROW - view;
    this.draw();
    this.#point();
  }
}
