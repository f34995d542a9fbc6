// @ts-check
// Deciding a folded sequence as one, as the review does: all of its images get what the stack is named.

import { api } from "./api.js";
import { decide } from "./deciding.js";
import { count } from "./format.js";
import { toast } from "./layers.js";
import { asOne, stackOf } from "./stacks.js";

/** @import {Decision} from "./decisions.js" */
/** @import {Photo, Source} from "./types.js" */

const MOST = 1000; // images whose rejected names are asked for

/**
 * Decide all images of the stack at a place; what was written in words, null where nothing was.
 * @param {Source} source
 * @param {number} index
 * @param {Decision} decision
 * @param {string} column
 * @returns {Promise<string | null>}
 */
export async function decideStack(source, index, decision, column) {
  const given = source.at(index)?.stack;
  if (!given) return null;
  const stack = stackOf(given.photos);
  const photos = given.photos.length === given.count ? given.photos : await allOf(source, index, decision);
  if (!photos) return null;
  return decide(decision, asOne({ ...stack, photos }), column)?.text ?? null;
}

/**
 * The images of a stack that does not have all of them with it; null, said to the person, if they are too many.
 * @param {Source} source
 * @param {number} index
 * @param {Decision} decision
 * @returns {Promise<Photo[] | null>}
 */
async function allOf(source, index, decision) {
  const ids = await source.ids(index, index);
  if (decision !== "reject") return ids.map(bare);
  if (ids.length <= MOST) return api.photosOf(ids);
  toast(`X is for up to ${count(MOST)} images; this sequence has ${count(ids.length)}.`);
  return null;
}

/**
 * An image of which the id alone matters.
 * @param {string} id
 * @returns {Photo}
 */
const bare = (id) => ({ id, name: "", label: null, width: null, height: null, v: "" });
