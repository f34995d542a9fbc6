// @ts-check
// The search that the state asks for, as the server takes it.

import { where } from "./filter.js";
import { queryImage } from "./queryimages.js";

/** @import {SearchBody, State} from "./types.js" */

/**
 * The body of a search; null when its query image is gone.
 * @param {State} of
 * @param {number} k how many images to find
 * @returns {SearchBody | null}
 */
export function searchBody(of, k) {
  const kept = of.queryImage ? queryImage(of.queryImage) : undefined;
  if (kept === null) return null;
  /** @type {SearchBody} */
  const body = { where: where(of.filters), k };
  if (of.texts.length) body.texts = of.texts;
  if (of.like.length) body.ids = of.like;
  if (of.unlike.length) body.unlike = of.unlike;
  if (kept) body.embedding = kept.embedding;
  return body;
}
