// Where a grid takes its photographs from: a page at a time from the server, or a list that is all there.
//
// Both have `total`, `at(index)` (a photograph, or undefined while it is not there), `need(first, last)`,
// `ids(first, last)` (a promise, all without arguments), `among(ids)` (a promise of those of some ids that it has),
// `patch(ids, changes)`, `renew(ids)` (ask what has changed of some), `close()` and `onchange`.

import { api, isAbort } from "./api.js";

const PAGE = 200;
const KEPT = 80; // pages in memory: 16,000 photographs
const RENEWED = 1000; // photographs at once

class Source {
  onchange = () => {};

  patch(ids, changes) {
    const changed = new Set(ids);
    for (const photo of this.known()) if (changed.has(photo.id)) Object.assign(photo, changes);
    this.onchange();
  }

  async renew(ids) {
    const wanted = new Set(ids);
    const mine = [...this.known()].filter((photo) => wanted.has(photo.id)).slice(0, RENEWED);
    if (!mine.length) return;
    const now = new Map((await api.photosOf(mine.map((photo) => photo.id))).map((photo) => [photo.id, photo]));
    for (const photo of mine) Object.assign(photo, now.get(photo.id));
    this.onchange();
  }

  close() {
    this.onchange = () => {};
  }
}

export class Pages extends Source {
  /** `ask(offset, limit, signal)` gives {photos, total}; `askIds()` gives the ids of all. */
  constructor(ask, askIds) {
    super();
    this.ask = ask;
    this.askIds = askIds;
    this.total = 0;
    this.pages = new Map(); // the least recently seen first
    this.underway = new Map();
    this.everyId = null;
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

  *known() {
    for (const photos of this.pages.values()) yield* photos;
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
      const { photos, total } = await this.ask(page * PAGE, PAGE, abort.signal);
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
    this.everyId ??= this.askIds().catch((error) => {
      this.everyId = null;
      throw error;
    });
    return (await this.everyId).slice(first, last + 1);
  }

  async among(ids) {
    const here = new Set();
    for (const photo of this.known()) here.add(photo.id);
    if (ids.every((id) => here.has(id))) return ids;
    const every = new Set(await this.ids());
    return ids.filter((id) => every.has(id));
  }

  close() {
    super.close();
    for (const abort of this.underway.values()) abort.abort();
  }
}

/** The photographs that a condition holds for, in an order. */
export const matching = (where, order) =>
  new Pages(
    (offset, limit, signal) => api.photos({ where, order, offset, limit }, signal),
    async () => (await api.ids({ where, order })).ids,
  );

/** Photographs by their ids. */
export const chosen = (ids) =>
  new Pages(
    async (offset, limit, signal) => ({
      photos: await api.photosOf(ids.slice(offset, offset + limit), signal),
      total: ids.length,
    }),
    async () => ids,
  );

export class List extends Source {
  constructor(photos) {
    super();
    this.photos = photos;
  }

  get total() {
    return this.photos.length;
  }

  at(index) {
    return this.photos[index];
  }

  known() {
    return this.photos;
  }

  need() {}

  async ids(first = 0, last = Infinity) {
    return this.photos.slice(first, last + 1).map((photo) => photo.id);
  }

  async among(ids) {
    const here = new Set(this.photos.map((photo) => photo.id));
    return ids.filter((id) => here.has(id));
  }
}
