// @ts-check
// The selected images, by id: one selection for all views. Each view says which of them it shows, so that nobody labels
// what is out of sight without knowing it.

import { tellAll } from "./signals.js";

/** @type {Set<string>} */
const chosen = new Set();
/** @type {Record<string, (ids: string[]) => string[] | Promise<string[]>>} */
const shownBy = {};

export const selection = {
  /** @param {string} id */
  has: (id) => chosen.has(id),
  ids: () => [...chosen],
  get size() {
    return chosen.size;
  },
  /** @param {string[]} ids */
  add: (ids) => change(() => addAll(ids)),
  /** @param {string} id */
  toggle: (id) => change(() => chosen.delete(id) || chosen.add(id)),
  /**
   * Take them all away if all are selected, else add them.
   * @param {string[]} ids
   */
  toggleAll: (ids) =>
    change(() => {
      if (!ids.every((id) => chosen.has(id))) addAll(ids);
      else for (const id of ids) chosen.delete(id);
    }),
  /** @param {string[]} ids */
  set: (ids) =>
    change(() => {
      chosen.clear();
      addAll(ids);
    }),
  /** @param {string[]} ids */
  remove: (ids) =>
    change(() => {
      for (const id of ids) chosen.delete(id);
    }),
  clear: () => chosen.size > 0 && change(() => chosen.clear()),
};

/** @param {string[]} ids */
function addAll(ids) {
  for (const id of ids) chosen.add(id);
}

/** @param {() => unknown} action */
function change(action) {
  action();
  tellAll("selection");
}

/**
 * Let a view say what it shows: `which(ids)` gives those of some ids, or a promise of them. "shown" tells of changes.
 * @param {string} view
 * @param {(ids: string[]) => string[] | Promise<string[]>} which
 */
export function showsSelected(view, which) {
  shownBy[view] = which;
}

/**
 * The selected images that a view does not show, however far it is scrolled.
 * @param {string} view
 */
export async function outOfSight(view) {
  const ids = selection.ids();
  const seen = new Set((await shownBy[view]?.(ids)) ?? []);
  return ids.filter((id) => !seen.has(id));
}
