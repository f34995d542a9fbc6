// Photographs shown for themselves: those that were selected, or labelled together. The address has a key for them; the
// ids of a selection stay in this tab.

import { api } from "./api.js";
import { go } from "./state.js";

const ACT = "act ";
const known = new Map();

/** Show photographs in the gallery, and nothing else. */
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

/** Show what one act of the history labelled. */
export const showAct = (act) => show(ACT + act);

const show = (these) =>
  go({ view: "gallery", these, filters: [], texts: [], like: [], unlike: [], picture: "", photo: "" });

/** The ids that a key stands for; null when this tab never had them. */
export async function idsOf(these) {
  if (these.startsWith(ACT)) return (await api.act(these.slice(ACT.length))).ids;
  return known.get(these) ?? JSON.parse(sessionStorage.getItem(`birder:these:${these}`));
}

export const named = (these) => (these.startsWith(ACT) ? "labelled together" : "the selected");
