// @ts-check
// How a person wants the tiles of the gallery: the whole image or a square cut, and what stands in the two lines under it;
// kept in this browser.

import { columnValue } from "./format.js";

/** @import {Column, Photo} from "./types.js" */

/** @typedef {Pick<Storage, "getItem" | "setItem" | "removeItem">} Kept */

const WHOLE = "birder:whole";
const LINES = 2;
const LONGEST = 300; // characters of a value: a tile has room for fewer

export class TileLook {
  /**
   * @param {Kept} storage
   * @param {string} path of the collection, as each has columns of its own
   * @param {() => Column[]} columns those that the collection has now
   */
  constructor(storage, path, columns) {
    this.storage = storage;
    this.key = `birder:tiles:${path}`;
    this.all = columns;
    this.whole = storage.getItem(WHOLE) === "yes";
    /** @type {string[]} the column of each line; empty for what the gallery itself shows there */
    this.lines = Array(LINES).fill("");
    try {
      const kept = JSON.parse(storage.getItem(this.key) ?? "[]");
      if (Array.isArray(kept)) this.lines = this.lines.map((_, line) => String(kept[line] ?? ""));
    } catch {
      storage.removeItem(this.key);
    }
  }

  /** @param {boolean} whole */
  setWhole(whole) {
    this.whole = whole;
    if (whole) this.storage.setItem(WHOLE, "yes");
    else this.storage.removeItem(WHOLE);
  }

  /**
   * Have a line show another column, or with an empty name what the gallery itself shows there.
   * @param {number} line
   * @param {string} column
   */
  setLine(line, column) {
    this.lines[line] = column;
    if (this.lines.some(Boolean)) this.storage.setItem(this.key, JSON.stringify(this.lines));
    else this.storage.removeItem(this.key);
  }

  /** The column of each line, of those that have values now; else empty. */
  get shown() {
    const there = new Set(this.all().flatMap(({ name, filled }) => (filled > 0 ? [name] : [])));
    return this.lines.map((name) => (there.has(name) ? name : ""));
  }

  /** The columns whose values are needed, each once. */
  get wanted() {
    return [...new Set(this.shown.filter(Boolean))];
  }

  /**
   * The two lines of a tile and, where columns are shown, its name for screen readers, which says what the values are of.
   * An image that came without values has the gallery's own lines.
   * @param {Photo} photo
   * @param {[string, string]} own what the gallery itself shows
   * @returns {[string, string] | [string, string, string]}
   */
  caption(photo, own) {
    const { shown } = this;
    if (!photo.values || !shown.some(Boolean)) return own;
    const [first, second] = shown.map((name, line) => (name ? this.#text(photo, name) : own[line]));
    const spoken = [first, second].map((text, line) => (shown[line] ? `${shown[line]}: ${text}` : text));
    return [first, second, spoken.filter(Boolean).join(", ")];
  }

  /**
   * @param {Photo} photo
   * @param {string} name
   */
  #text(photo, name) {
    const value = photo.values?.[name] ?? null;
    const type = this.all().find((column) => column.name === name)?.type;
    return value === null ? "no value" : columnValue(name, type, value).slice(0, LONGEST) || "empty";
  }
}
