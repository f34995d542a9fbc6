// @ts-check
// Images fetched ahead, so that the next one is there at once: first as a thumbnail, then whole, once it is decoded:
// to decode a large one takes longer than a person's step from one image to the next may.

import { imageUrl, thumbnailUrl } from "./api.js";
import { el } from "./dom.js";

/** @import {Photo} from "./types.js" */

const THUMBNAIL = 512; // pixels

/**
 * @typedef {object} Fetched
 * @property {HTMLImageElement} thumbnail
 * @property {HTMLImageElement} large
 * @property {"" | "loaded" | "broken"} state
 * @property {"" | "under way" | "done"} decoded whether the large one can be drawn without waiting
 */

/** @param {HTMLImageElement} image */
const isThere = (image) => image.complete && image.naturalWidth > 0;

export class Ahead {
  /** @type {Map<string, Fetched>} by id */
  #kept = new Map();

  /** @param {(id: string) => void} onchange called when an image has become better, or cannot be shown */
  constructor(onchange) {
    this.onchange = onchange;
  }

  /**
   * Have these there soon, and let others go.
   * @param {Photo[]} photos the first of them first
   */
  keep(photos) {
    const wanted = new Set(photos.map(({ id }) => id));
    for (const [id, fetched] of this.#kept) {
      const { thumbnail, large } = fetched;
      if (id !== photos[0]?.id) fetched.decoded = ""; // the browser may drop what is not shown
      if (wanted.has(id)) continue;
      this.#kept.delete(id);
      for (const image of [thumbnail, large]) image.removeAttribute("src"); // gives up a request under way
    }
    for (const photo of photos) this.of(photo);
  }

  /**
   * What there is of an image; it is asked for if nobody has.
   * @param {Photo} photo
   */
  of(photo) {
    const known = this.#kept.get(photo.id);
    if (known) return known;
    const [thumbnail, large] = [0, 0].map(() => el("img", { class: "large", alt: "", draggable: "false" }));
    thumbnail.decoding = "sync"; // it is in the next picture that the browser draws
    /** @type {Fetched} */
    const fetched = { thumbnail, large, state: "", decoded: "" };
    const isKept = () => this.#kept.get(photo.id) === fetched;
    /** @param {Fetched["state"]} to */
    const become = (to) => {
      if (!isKept()) return;
      fetched.state = to;
      this.onchange(photo.id);
    };
    const whole = () => {
      if (isKept()) large.src = imageUrl(photo.id);
    };
    thumbnail.addEventListener("load", () => {
      become("loaded");
      whole();
    });
    thumbnail.addEventListener("error", whole);
    large.addEventListener("load", () => become("loaded"));
    large.addEventListener("error", () => fetched.state || become("broken"));
    this.#kept.set(photo.id, fetched);
    thumbnail.src = thumbnailUrl(photo, THUMBNAIL);
    return fetched;
  }

  /**
   * The best element of an image that can be shown now; null before there is one. A better one is announced.
   * @param {Photo} photo
   */
  element(photo) {
    const fetched = this.of(photo);
    const { thumbnail, large } = fetched;
    if (fetched.decoded === "done" || !isThere(thumbnail)) return isThere(large) ? large : null;
    if (isThere(large) && !fetched.decoded) this.#decode(photo.id, fetched);
    return thumbnail;
  }

  /**
   * @param {string} id
   * @param {Fetched} fetched
   */
  async #decode(id, fetched) {
    fetched.decoded = "under way";
    try {
      await fetched.large.decode();
    } catch {
      return; // given up meanwhile, or damaged: the thumbnail stays
    }
    if (this.#kept.get(id) !== fetched || fetched.decoded !== "under way") return;
    fetched.decoded = "done";
    this.onchange(id);
  }
}
