// @ts-check
// The stack of an open image: a strip of its images to step through, and whether what is done is for all of them.

import { api, thumbnailUrl } from "./api.js";
import { el, fadingImage, fill, keepingFocus } from "./dom.js";
import { count, fileName, images } from "./format.js";
import { openContext } from "./opening.js";
import { Stacks } from "./stacksource.js";
import { go } from "./state.js";

/** @import {Context, Photo, StackAnswer} from "./types.js" */

/**
 * @typedef {object} StackStrip
 * @property {HTMLElement} element hidden unless the open image is of a stack
 * @property {(id: string) => Promise<void>} draw for the image that is open now
 * @property {(by: number) => boolean} step opens the next or previous image of the stack; false if there is none
 * @property {() => void} redraw for labels that have changed
 * @property {() => Promise<void>} renew asks for labels that may have changed
 * @property {() => Photo[] | null} whole the images of the stack, if what is done is for all of them
 * @property {(id: string) => Promise<string[]>} meant the images that what is done is for
 */

/**
 * @param {() => unknown} onchange is called when what is done is for others than before
 * @returns {StackStrip}
 */
export function stackStrip(onchange) {
  let open = "";
  /** @type {StackAnswer | null} */
  let stack = null;
  /** @type {HTMLInputElement} */
  const all = el("input", { type: "checkbox", id: "whole-stack", checked: true, onchange });
  const told = el("span", {});
  const strip = el("div", { class: "strip", role: "group", "aria-label": "Images of this sequence" });
  const hint = el("p", { class: "hint" });
  const element = el(
    "section",
    { class: "open-stack", hidden: true },
    el("h3", {}, "Sequence"),
    strip,
    hint,
    el("label", { class: "keep", for: "whole-stack" }, all, told),
  );
  /** @param {string} id */
  const pick = (id) => go({ photo: id }, { replace: true });

  function drawStack() {
    element.hidden = stack === null;
    if (!stack) return;
    const { photos, count: number } = stack;
    told.textContent = `Label, decide and select all ${images(number)}`;
    hint.hidden = photos.length === number;
    hint.textContent = `The first ${count(photos.length)} of ${images(number)}.`;
    keepingFocus(strip, () =>
      fill(
        strip,
        photos.map((photo) => tile(photo, photo.id === open, () => pick(photo.id))),
      ),
    );
    strip.querySelector("[aria-pressed=true]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  return {
    element,
    async draw(id) {
      open = id;
      const context = openContext();
      const here = context?.source instanceof Stacks ? context : null;
      let found = here?.source.at(here.index)?.stack;
      if (here && !found) {
        stack = null;
        drawStack();
        found = await fetched(here);
        if (open !== id) return;
      }
      stack = found && found.count > 1 && found.photos.some((photo) => photo.id === id) ? found : null;
      drawStack();
    },
    step(by) {
      const at = stack ? stack.photos.findIndex((photo) => photo.id === open) + by : -1;
      const next = stack?.photos[at];
      if (next) pick(next.id);
      return next !== undefined;
    },
    redraw: drawStack,
    async renew() {
      const photos = new Map(stack?.photos.map((photo) => [photo.id, photo]));
      for (const now of await api.photosOf([...photos.keys()])) Object.assign(photos.get(now.id) ?? {}, now);
      drawStack();
    },
    whole: () => (stack && all.checked ? stack.photos : null),
    async meant(id) {
      const context = openContext();
      return stack && all.checked && context ? context.source.ids(context.index, context.index) : [id];
    },
  };
}

/**
 * The stack at a place whose images have not come yet.
 * @param {Context} context
 */
async function fetched({ source, index }) {
  if (source instanceof Stacks) await source.open(index);
  return source.at(index)?.stack;
}

/**
 * @param {Photo} photo
 * @param {boolean} isOpen
 * @param {() => void} onclick
 */
const tile = (photo, isOpen, onclick) =>
  el(
    "button",
    {
      type: "button",
      class: "neighbour",
      title: photo.name,
      "aria-pressed": String(isOpen),
      "data-key": photo.id,
      onclick,
    },
    fadingImage(thumbnailUrl(photo, 96)),
    el("span", { class: "name" }, photo.label || (photo.predicted ? `${photo.predicted}?` : fileName(photo.name))),
  );
