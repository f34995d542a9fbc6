// @ts-check
// The labels that were given in this tab, so that Ctrl+Z takes back the last one. They outlive a reload.

/** @typedef {{change: string, ids: string[]}} Given a change, and the first of the images that it labelled */
/** @typedef {{act: string, changes: Given[]}} GivenAct */
/** @typedef {Pick<Storage, "getItem" | "setItem" | "removeItem">} Kept */

const KEY = "birder:mine";
const REMEMBERED = 200; // acts

export class GivenLabels {
  /** @type {GivenAct[]} the last given last */
  #acts = [];

  /**
   * @param {Kept} storage
   * @param {string} path of the collection: another one's labels are not taken over
   */
  constructor(storage, path) {
    this.storage = storage;
    this.path = path;
    try {
      const kept = JSON.parse(storage.getItem(KEY) ?? "null");
      if (kept?.path === path) this.#acts = kept.given;
    } catch {
      this.#acts = []; // nothing of this tab can be taken back by a key; the history still can
    }
  }

  /** The last act, and its last change; undefined if nothing was given. */
  last() {
    const last = this.#acts.at(-1);
    const change = last?.changes.at(-1);
    return last && change ? { act: last.act, ...change } : undefined;
  }

  /**
   * The images that an act labelled; undefined if it was not given here.
   * @param {string | undefined} act
   */
  idsOf(act) {
    return this.#acts.find((each) => each.act === act)?.changes.flatMap(({ ids }) => ids);
  }

  /**
   * @param {string} act
   * @param {Given[]} changes
   */
  remember(act, changes) {
    const last = this.#acts.at(-1);
    if (last?.act === act) last.changes.push(...changes);
    else this.#acts = [...this.#acts, { act, changes }].slice(-REMEMBERED);
    this.#store();
  }

  /**
   * An act is undone: there is nothing left of it to take back.
   * @param {string} act
   */
  forget(act) {
    this.#acts = this.#acts.filter((each) => each.act !== act);
    this.#store();
  }

  /**
   * @param {string} act
   * @param {string} change
   */
  forgetChange(act, change) {
    for (const each of this.#acts)
      if (each.act === act) each.changes = each.changes.filter((one) => one.change !== change);
    this.#acts = this.#acts.filter(({ changes }) => changes.length);
    this.#store();
  }

  #store() {
    try {
      this.storage.setItem(KEY, JSON.stringify({ path: this.path, given: this.#acts }));
    } catch {
      this.storage.removeItem(KEY); // the tab's storage is full
    }
  }
}
