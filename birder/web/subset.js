// @ts-check
// Images shown by themselves: those that were selected, or labelled together. The address has a key for them; the ids of
// a selection stay in this tab.

import { api } from "./api.js";
import { go } from "./state.js";

const ACT = "act ";
/** @type {Map<string, string[]>} */
const known = new Map();

/**
 * Show images in the gallery, and nothing else.
 * @param {string[]} ids
 */
export function showIds(ids) {
  const key = crypto.getRandomValues(new Uint32Array(2)).join("");
  known.set(key, ids);
  try {
    sessionStorage.setItem(`birder:these:${key}`, JSON.stringify(ids));
  } catch {
    // The tab's storage is full: they are known until the page is reloaded.
  }
  show(key);
}

/**
 * Show what one act of the history labelled.
 * @param {string} act
 */
export const showAct = (act) => show(ACT + act);

/** @param {string} subset */
const show = (subset) =>
  go({ view: "gallery", subset, filters: [], texts: [], like: [], unlike: [], queryImage: "", photo: "" });

/**
 * The ids that a key refers to; null when this tab never had them.
 * @param {string} subset
 * @returns {Promise<string[] | null>}
 */
export async function idsOf(subset) {
  if (subset.startsWith(ACT)) return (await api.act(subset.slice(ACT.length))).ids;
  return known.get(subset) ?? JSON.parse(sessionStorage.getItem(`birder:these:${subset}`) ?? "null");
}

/** @param {string} subset */
export const nameOf = (subset) => (subset.startsWith(ACT) ? "labelled together" : "the selected");
