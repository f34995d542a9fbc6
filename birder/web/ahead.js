// @ts-check
// Images fetched ahead, so that the next one is there at once: first as a thumbnail, then whole.

import { imageUrl, thumbnailUrl } from "./api.js";
import { el } from "./dom.js";

/** @import {Photo} from "./types.js" */

const THUMBNAIL = 512; // pixels

/** @typedef {{thumbnail: HTMLImageElement, large: HTMLImageElement, state: "" | "loaded" | "broken"}} Fetched */

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
    for (const [id, { thumbnail, large }] of this.#kept) {
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
    /** @type {Fetched} */
    const fetched = { thumbnail, large, state: "" };
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
   * The best element of an image that can be shown now; null before there is one.
   * @param {Photo} photo
   */
  element(photo) {
    const { thumbnail, large } = this.of(photo);
    return [large, thumbnail].find((image) => image.complete && image.naturalWidth > 0) ?? null;
  }
}
