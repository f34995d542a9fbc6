// Where a grid takes its photographs from: a page at a time from the server, or a list that is all there.
//
// Both have `total`, `at(index)` (a photograph, or undefined while it is not there), `need(first, last)`,
// `ids(first, last)` (a promise, all without arguments), `patch(ids, changes)`, `close()` and `onchange`.

import { api, isAbort } from "./api.js";

const PAGE = 200;
const KEPT = 80; // pages in memory: 16,000 photographs

export class Pages {
  constructor(where, order) {
    this.where = where;
    this.order = order;
    this.total = 0;
    this.pages = new Map(); // the least recently seen first
    this.underway = new Map();
    this.everyId = null;
    this.onchange = () => {};
    this.onerror = () => {};
  }

  /** Fetch the first page, which says how many there are. */
  async open(index = 0) {
    await this.#fetch(Math.floor(index / PAGE));
    return this;
  }

  at(index) {
    return this.pages.get(Math.floor(index / PAGE))?.[index % PAGE];
  }

  /** Have these there soon; requests for others are given up. */
  need(first, last) {
    const [from, to] = [Math.floor(first / PAGE), Math.floor(Math.max(first, last - 1) / PAGE)];
    for (const [page, abort] of this.underway) if (page < from || page > to) abort.abort();
    for (let page = from; page <= to; page++) {
      const known = this.pages.get(page);
      if (known) {
        this.pages.delete(page);
        this.pages.set(page, known);
      } else if (!this.underway.has(page)) {
        this.#fetch(page).then(
          () => this.onchange(),
          (error) => isAbort(error) || this.onerror(error),
        );
      }
    }
  }

  async #fetch(page) {
    const abort = new AbortController();
    this.underway.set(page, abort);
    try {
      const values = { where: this.where, order: this.order, offset: page * PAGE, limit: PAGE };
      const { photos, total } = await api.photos(values, abort.signal);
      this.total = total;
      this.pages.set(page, photos);
      while (this.pages.size > KEPT) this.pages.delete(this.pages.keys().next().value);
    } finally {
      if (this.underway.get(page) === abort) this.underway.delete(page);
    }
  }

  async ids(first = 0, last = Infinity) {
    const known = [];
    for (let index = first; index <= last && this.at(index); index++) known.push(this.at(index).id);
    if (known.length === Math.min(last, this.total - 1) - first + 1) return known;
    this.everyId ??= api.ids({ where: this.where, order: this.order }).then(
      (answer) => answer.ids,
      (error) => {
        this.everyId = null;
        throw error;
      },
    );
    return (await this.everyId).slice(first, last + 1);
  }

  patch(ids, changes) {
    const changed = new Set(ids);
    for (const photos of this.pages.values()) {
      for (const photo of photos) if (changed.has(photo.id)) Object.assign(photo, changes);
    }
    this.onchange();
  }

  close() {
    this.onchange = () => {};
    for (const abort of this.underway.values()) abort.abort();
  }
}

export class List {
  constructor(photos) {
    this.photos = photos;
    this.onchange = () => {};
  }

  get total() {
    return this.photos.length;
  }

  at(index) {
    return this.photos[index];
  }

  need() {}

  async ids(first = 0, last = Infinity) {
    return this.photos.slice(first, last + 1).map((photo) => photo.id);
  }

  patch(ids, changes) {
    const changed = new Set(ids);
    for (const photo of this.photos) if (changed.has(photo.id)) Object.assign(photo, changes);
    this.onchange();
  }

  close() {
    this.onchange = () => {};
  }
}
