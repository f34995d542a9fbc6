// @ts-check
// In which order a person wants the filters of the columns, and which they have hidden; kept in this browser.

/** @typedef {{order: string[], hidden: string[]}} Arrangement names of columns; without an order, the page's own */
/** @typedef {Pick<Storage, "getItem" | "setItem" | "removeItem">} Kept */

/** @param {unknown} list */
const texts = (list) => (Array.isArray(list) ? list.filter((each) => typeof each === "string") : []);

export class FacetOrder {
  /**
   * @param {Kept} storage
   * @param {string} path of the collection, as each has columns of its own
   */
  constructor(storage, path) {
    this.storage = storage;
    this.key = `birder:facets:${path}`;
    /** @type {Arrangement} */
    this.kept = { order: [], hidden: [] };
    try {
      const { order, hidden } = JSON.parse(storage.getItem(this.key) ?? "{}");
      this.kept = { order: texts(order), hidden: texts(hidden) };
    } catch {
      storage.removeItem(this.key);
    }
  }

  /** Whether the order is the person's own. */
  get isOwn() {
    return this.kept.order.length > 0;
  }

  get isChanged() {
    return this.isOwn || this.kept.hidden.length > 0;
  }

  /**
   * Names in the person's order; those that came later stand at the end.
   * @param {string[]} names in the page's order
   */
  ordered(names) {
    const { order } = this.kept;
    return [...order.filter((name) => names.includes(name)), ...names.filter((name) => !order.includes(name))];
  }

  /** @param {string} name */
  isHidden(name) {
    return this.kept.hidden.includes(name);
  }

  /**
   * Let a column change places with the one before it (-1) or after it (1).
   * @param {string[]} names all that can be seen, in the page's order
   * @param {string} name
   * @param {-1 | 1} step
   */
  move(names, name, step) {
    const order = this.ordered(names);
    const at = order.indexOf(name);
    const to = at + step;
    if (at < 0 || to < 0 || to >= order.length) return;
    [order[at], order[to]] = [order[to], order[at]];
    const gone = this.kept.order.filter((each) => !names.includes(each)); // columns without values now
    this.kept.order = [...order, ...gone];
    this.#store();
  }

  /** @param {string} name */
  toggle(name) {
    const others = this.kept.hidden.filter((each) => each !== name);
    this.kept.hidden = this.isHidden(name) ? others : [...others, name];
    this.#store();
  }

  /** Back to the page's own order, with all columns. */
  reset() {
    this.kept = { order: [], hidden: [] };
    this.#store();
  }

  #store() {
    if (this.isChanged) this.storage.setItem(this.key, JSON.stringify(this.kept));
    else this.storage.removeItem(this.key);
  }
}
