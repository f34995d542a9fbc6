// @ts-check
// Where a grid takes its images from: a page at a time from the server, or a list that is all there.

import { api, isAbort } from "./api.js";
import { TextList } from "./idlist.js";
import { meanwhile } from "./meanwhile.js";

/**
 * @import {Ids} from "./idlist.js"
 * @import {Photo, Source} from "./types.js"
 */

const PAGE = 200;
const KEPT = 80; // pages in memory: 16,000 images
const RENEWED = 1000; // images at once

/** What both have. */
class Known {
  onchange = () => {};
  /** @type {(error: unknown) => unknown} */
  onerror = () => {};
  /** @type {string[]} the columns whose values come with the images */
  columns = [];

  /**
   * The images that are there.
   * @returns {Iterable<Photo>}
   */
  known() {
    return [];
  }

  /**
   * @param {string[]} ids
   * @param {Partial<Photo>} changes
   */
  patch(ids, changes) {
    const changed = new Set(ids);
    for (const photo of this.known()) if (changed.has(photo.id)) Object.assign(photo, changes);
    this.onchange();
  }

  /**
   * Ask what has changed of some; again of those that are labelled meanwhile.
   * @param {string[]} ids
   */
  async renew(ids) {
    const wanted = new Set(ids);
    const mine = ids.length ? [...this.known()].filter((photo) => wanted.has(photo.id)).slice(0, RENEWED) : [];
    if (!mine.length) return;
    const { answer, labelled } = await meanwhile(() => this.#again(mine));
    const now = new Map(answer.map((photo) => [photo.id, photo]));
    for (const photo of mine) Object.assign(photo, now.get(photo.id));
    this.onchange();
    const older = labelled.filter((id) => wanted.has(id));
    if (older.length) await this.renew(older);
  }

  /** @param {Photo[]} some */
  #again(some) {
    return api.photosOf(
      some.map((photo) => photo.id),
      undefined,
      this.columns,
    );
  }

  close() {
    this.onchange = () => {};
  }
}

/** @implements {Source} */
export class Pages extends Known {
  total = 0;
  images = 0; // in the places that `total` counts
  /** @type {Map<number, Photo[]>} the least recently seen first */
  #pages = new Map();
  /** @type {Map<number, AbortController>} */
  #underway = new Map();
  /** @type {Promise<Ids> | null} */
  #everyId = null;

  /**
   * @param {(offset: number, limit: number, signal: AbortSignal) => Promise<{photos: Photo[], total: number, images?: number}>} ask
   * @param {() => Promise<Ids>} askIds gives the ids of all
   * @param {string[]} [columns] whose values `ask` gives with the images
   */
  constructor(ask, askIds, columns = []) {
    super();
    this.columns = columns;
    this.ask = ask;
    this.askIds = askIds;
  }

  /** Fetch the page of an image, which says how many there are. */
  async open(index = 0) {
    await this.#fetch(Math.floor(index / PAGE));
    return this;
  }

  /** @param {number} index */
  at(index) {
    return this.#pages.get(Math.floor(index / PAGE))?.[index % PAGE];
  }

  *known() {
    for (const photos of this.#pages.values()) yield* photos;
  }

  /**
   * Have these there soon; requests for others are given up.
   * @param {number} first
   * @param {number} last
   */
  need(first, last) {
    const [from, to] = [Math.floor(first / PAGE), Math.floor(Math.max(first, last - 1) / PAGE)];
    for (const [page, abort] of this.#underway) if (page < from || page > to) abort.abort();
    for (let page = from; page <= to; page++) {
      const known = this.#pages.get(page);
      if (known) {
        this.#pages.delete(page);
        this.#pages.set(page, known);
      } else if (!this.#underway.has(page)) {
        this.#fetch(page).then(
          () => this.onchange(),
          (error) => isAbort(error) || this.onerror(error),
        );
      }
    }
  }

  /** @param {number} page */
  async #fetch(page) {
    const abort = new AbortController();
    this.#underway.set(page, abort);
    try {
      const { answer, labelled } = await meanwhile(() => this.ask(page * PAGE, PAGE, abort.signal));
      const { photos, total, images = total } = answer;
      this.total = total;
      this.images = images;
      this.#pages.set(page, photos);
      this.renew(labelled).catch((error) => this.onerror(error));
      for (const oldest of this.#pages.keys()) {
        if (this.#pages.size <= KEPT) break;
        this.#pages.delete(oldest);
      }
    } finally {
      if (this.#underway.get(page) === abort) this.#underway.delete(page);
    }
  }

  async ids(first = 0, last = Infinity) {
    const known = [];
    for (let index = first; index <= last; index++) {
      const photo = this.at(index);
      if (!photo) break;
      known.push(photo.id);
    }
    if (known.length === Math.min(last, this.total - 1) - first + 1) return known;
    return (await this.#every()).slice(first, last + 1);
  }

  #every() {
    this.#everyId ??= this.askIds().catch((error) => {
      this.#everyId = null;
      throw error;
    });
    return this.#everyId;
  }

  /** @param {string} id */
  async placeOf(id) {
    return (await this.#every()).indexOf(id);
  }

  /** @param {string[]} ids */
  async among(ids) {
    const here = new Set();
    for (const photo of this.known()) here.add(photo.id);
    if (ids.every((id) => here.has(id))) return ids;
    const every = await this.#every();
    return ids.filter((id) => every.indexOf(id) >= 0);
  }

  close() {
    super.close();
    for (const abort of this.#underway.values()) abort.abort();
  }
}

/**
 * The images that match a filter, in an order.
 * @param {string | undefined} where
 * @param {string} order
 * @param {string[]} [columns] whose values come with them
 */
export const matching = (where, order, columns = []) =>
  new Pages(
    (offset, limit, signal) => api.photos({ where, order, offset, limit, columns }, signal),
    () => api.ids({ where, order }),
    columns,
  );

/**
 * Images by their ids.
 * @param {string[]} ids
 * @param {string[]} [columns] whose values come with them
 */
export const byIds = (ids, columns = []) =>
  new Pages(
    async (offset, limit, signal) => ({
      photos: await api.photosOf(ids.slice(offset, offset + limit), signal, columns),
      total: ids.length,
    }),
    async () => new TextList(ids),
    columns,
  );

/** @implements {Source} */
export class List extends Known {
  /**
   * @param {Photo[]} photos
   * @param {string[]} [columns] whose values they have
   */
  constructor(photos, columns = []) {
    super();
    this.columns = columns;
    this.photos = photos;
  }

  get total() {
    return this.photos.length;
  }

  get images() {
    return this.photos.length;
  }

  /** @param {number} index */
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

  /** @param {string} id */
  async placeOf(id) {
    return this.photos.findIndex((photo) => photo.id === id);
  }

  /** @param {string[]} ids */
  async among(ids) {
    const here = new Set(this.photos.map((photo) => photo.id));
    return ids.filter((id) => here.has(id));
  }
}
