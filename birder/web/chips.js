// @ts-check
// What is searched for and filtered by, as chips above the images that can be removed.

import { filterChips } from "./activefilters.js";
import { thumbnailUrl } from "./api.js";
import { byId, el, fill, iconButton } from "./dom.js";
import { drawPreview, queryImage } from "./queryimages.js";
import { clearAll, go, resultsView, searching, state, watch } from "./state.js";
import { nameOf } from "./subset.js";

/** @import {Child, State} from "./types.js" */

const FILTERED = ["stations", "teach", "duplicates"]; // views that follow the filters, and not the search

export function startChips() {
  watch(draw);
  draw();
}

/**
 * @param {string} kind
 * @param {Child} content
 * @param {string} removing the name of the button that removes it
 * @param {() => void} remove
 */
const queryChip = (kind, content, removing, remove) =>
  el("span", { class: `chip query ${kind}`.trim() }, content, iconButton("x", removing, remove));

/** @param {string} title */
const chipsTitle = (title) => el("span", { class: "chips-title" }, title);

function draw() {
  const now = state();
  if (FILTERED.includes(now.view)) {
    drawFilters(now);
    return;
  }
  const chips = [];
  const near = now.view !== "review"; // which knows filters alone
  if (near && searching(now)) chips.push(chipsTitle("Near to"));
  for (const text of near ? now.texts : []) {
    const without = () => go({ texts: now.texts.filter((each) => each !== text) });
    chips.push(queryChip("", `“${text}”`, `Do not search for “${text}”`, without));
  }
  if (near && now.queryImage) chips.push(queryImageChip(now.queryImage));
  if (near && now.like.length) chips.push(photosChip("like", now.like, "more like"));
  if (near && now.unlike.length) chips.push(photosChip("unlike", now.unlike, "unlike"));
  if (near && now.subset)
    chips.push(
      chipsTitle("Only"),
      queryChip("", nameOf(now.subset), "Show all images again", () => go({ subset: "" })),
    );
  const filters = filterChips();
  if (filters.length) chips.push(chipsTitle("Where"), ...filters);
  if (chips.length) chips.push(el("button", { type: "button", class: "link", onclick: clearAll }, "Clear all"));
  fill(byId("chips"), chips).hidden = !chips.length || (near && resultsView() !== now.view);
}

/**
 * Where nothing is searched for, the filters alone hold; a search says that it does not.
 * @param {State} now
 */
function drawFilters(now) {
  const filters = filterChips();
  const chips = filters.length ? [chipsTitle("Where"), ...filters] : [];
  if (searching(now) || now.subset) chips.push(el("span", { class: "hint" }, "The search does not apply here."));
  if (filters.length) {
    const clear = () => go({ filters: [] });
    chips.push(el("button", { type: "button", class: "link", onclick: clear }, "Clear the filters"));
  }
  fill(byId("chips"), chips).hidden = !chips.length;
}

/** @param {string} key */
function queryImageChip(key) {
  const kept = queryImage(key);
  const canvas = el("canvas", { class: "preview", "aria-hidden": "true", width: 1, height: 1 });
  drawPreview(canvas, kept).catch(() => {});
  const remove = () => go({ queryImage: "" });
  return queryChip("", [canvas, kept?.name ?? "an image"], "Do not search with the image", remove);
}

/**
 * @param {"like" | "unlike"} key
 * @param {string[]} ids
 * @param {string} title
 */
function photosChip(key, ids, title) {
  const previews = ids.slice(0, 3).map((id) => el("img", { class: "preview", alt: "", src: thumbnailUrl({ id }, 96) }));
  const text = ids.length === 1 ? `${title} this` : `${title} these ${ids.length}`;
  return queryChip(key, [previews, text], `Do not search ${text}`, () => go({ [key]: [] }));
}
