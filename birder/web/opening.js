// @ts-check
// Opening an image: which one is in the address; what the arrows go through from it is kept here.

import { go } from "./state.js";

/** @import {Context} from "./types.js" */

/** @type {Context | null} */
let context = null;

/**
 * Open an image; the arrows then go through `where.source`, in which it is at `where.index`.
 * @param {string | undefined} id
 * @param {Context | null} [where]
 */
export function openPhoto(id, where = null) {
  if (!id) return;
  context = where;
  go({ photo: id });
}

/** What the arrows go through; null if that is not known. */
export const openContext = () => context;

/** @param {Context | null} where */
export function setContext(where) {
  context = where;
}
