// @ts-check
// A long list whose rows have one height: those in sight, and some beside them, are in the document. The row that has the
// keyboard focus stays there while the list is scrolled.

import { el } from "./dom.js";

const BESIDE = 2; // rows kept on either side of what is in sight
const HIGHEST = 12e6; // CSS pixels; browsers cannot scroll through much more, so longer lists scroll faster

/**
 * Which rows stand in the document, and how far they are moved up.
 * @param {{total: number, row: number, view: number, scrolled: number}} room lengths in CSS pixels
 */
export function rowsAt({ total, row, view, scrolled }) {
  const needed = total * row;
  const height = Math.min(needed, HIGHEST);
  const top = needed > height ? (scrolled * (needed - view)) / Math.max(1, height - view) : scrolled;
  return {
    height,
    shift: scrolled - top,
    first: Math.max(0, Math.floor(top / row) - BESIDE),
    end: Math.min(total, Math.ceil((top + view) / row) + BESIDE),
  };
}

export class Rows {
  total = 0;
  /** @type {Map<number, HTMLElement>} */
  #shown = new Map();

  /**
   * @param {HTMLElement} scroller
   * @param {{label: string, row: number, make: (index: number) => HTMLElement, need: (first: number, end: number) => void}} how
   *   `row` is the height of a row, `make` draws one, `need` hears which are wanted
   */
  constructor(scroller, { label, row, make, need }) {
    this.scroller = scroller;
    this.row = row;
    this.make = make;
    this.need = need;
    this.list = el("div", { class: "rows", role: "list", "aria-label": label });
    scroller.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(scroller);
  }

  /**
   * Show so many rows, from the top.
   * @param {number} total
   */
  show(total) {
    this.total = total;
    this.scroller.replaceChildren(this.list);
    this.scroller.scrollTop = 0;
    this.renew();
  }

  /** Draw all rows in sight again. */
  renew() {
    for (const element of this.#shown.values()) element.remove();
    this.#shown.clear();
    this.draw();
  }

  draw() {
    if (!this.list.isConnected || !this.scroller.clientHeight) return;
    const { row, total } = this;
    const at = rowsAt({ total, row, view: this.scroller.clientHeight, scrolled: this.scroller.scrollTop });
    this.list.style.height = `${at.height}px`;
    this.need(at.first, at.end);
    for (const [index, element] of this.#shown) {
      if ((index >= at.first && index < at.end) || element.contains(document.activeElement)) continue;
      element.remove();
      this.#shown.delete(index);
    }
    for (let index = at.first; index < at.end; index++) {
      const element = this.#shown.get(index) ?? this.#add(index);
      element.style.transform = `translateY(${index * row + at.shift}px)`;
    }
  }

  /** @param {number} index */
  #add(index) {
    const element = this.make(index);
    element.setAttribute("role", "listitem");
    element.setAttribute("aria-setsize", String(this.total));
    element.setAttribute("aria-posinset", String(index + 1));
    const after = [...this.#shown].filter(([each]) => each > index).sort(([a], [b]) => a - b)[0];
    this.list.insertBefore(element, after?.[1] ?? null);
    this.#shown.set(index, element);
    return element;
  }
}
