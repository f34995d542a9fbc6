// @ts-check
// The latest labels of each column, for the keys 1 to 9. A label keeps its key until nine others were used since.

import { BLANK, REJECTED, UNKNOWN } from "./decisions.js";

/** @import {Label} from "./types.js" */

const KEYS = 9;
const PREFIX = "birder:latest:";
const OWN_KEYS = [UNKNOWN, BLANK]; // U and B

/** @typedef {{value: string, used: number}} Slot */

export class LatestLabels {
  #key;

  /**
   * @param {Pick<Storage, "getItem" | "setItem">} storage
   * @param {string} path of the collection
   */
  constructor(storage, path) {
    this.storage = storage;
    this.#key = PREFIX + path;
  }

  /**
   * @param {string} column
   * @returns {string[]}
   */
  of(column) {
    return (this.#kept()[column] ?? []).map(({ value }) => value);
  }

  /** @param {Label} label that was given */
  note({ column, value }) {
    if (value === null || column === REJECTED || OWN_KEYS.includes(value)) return;
    const kept = this.#kept();
    const slots = kept[column] ?? [];
    const used = Math.max(0, ...slots.map((slot) => slot.used)) + 1;
    const known = slots.find((slot) => slot.value === value);
    if (known) known.used = used;
    else if (slots.length < KEYS) slots.push({ value, used });
    else
      Object.assign(
        slots.reduce((a, b) => (a.used < b.used ? a : b)),
        { value, used },
      );
    try {
      this.storage.setItem(this.#key, JSON.stringify({ ...kept, [column]: slots }));
    } catch {
      // The browser's storage is full: the keys stay as they were.
    }
  }

  /** @returns {Record<string, Slot[]>} */
  #kept() {
    try {
      return JSON.parse(this.storage.getItem(this.#key) ?? "{}");
    } catch {
      return {};
    }
  }
}
