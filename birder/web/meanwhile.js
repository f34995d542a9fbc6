// @ts-check
// Rows on their way: what somebody labels meanwhile may be missing from them.

import { listen } from "./signals.js";

/** @type {Set<Set<string>>} the ids that were labelled during each request */
const underway = new Set();

/** @param {{ids: string[]}} labelled */
function note({ ids }) {
  for (const each of underway) for (const id of ids) each.add(id);
}
listen("labels", note);
listen("theirs", note);

/**
 * What was asked for, and the ids of images that were labelled before it came: of these it may have former values.
 * @template T
 * @param {() => Promise<T>} ask
 * @returns {Promise<{answer: T, labelled: string[]}>}
 */
export async function meanwhile(ask) {
  /** @type {Set<string>} */
  const labelled = new Set();
  underway.add(labelled);
  try {
    return { answer: await ask(), labelled: [...labelled] };
  } finally {
    underway.delete(labelled);
  }
}
