// @ts-check
// Near-duplicates: groups of images side by side, with how similar and how large they are.

import { api, isAbort, thumbnailUrl } from "./api.js";
import { busy, byId, debounced, el, emptyState, fadingImage, failed, fill, icon, toolbar } from "./dom.js";
import { cosine, count, fileName, images, percent } from "./format.js";
import { openPhoto } from "./opening.js";
import { selection } from "./selection.js";
import { listen } from "./signals.js";
import { List } from "./sources.js";
import { go, state, watch } from "./state.js";

/** @import {DuplicateGroup, Duplicates, Photo} from "./types.js" */

const LIMIT = 200;
const POLL = 400; // milliseconds between two questions how far comparing is
/** @param {number} milliseconds */
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** @type {HTMLElement} */
let scroller;
/** @type {HTMLElement} */
let counter;
/** @type {HTMLInputElement} */
let slider;
/** @type {HTMLOutputElement} */
let value;
/** @type {{id: string, check: HTMLElement, element: HTMLElement}[]} the images that are shown */
let copies = [];
let shown = 0;
let abort = new AbortController();

export function startDuplicates() {
  counter = el("p", { class: "count" });
  value = el("output", { for: "threshold" });
  slider = el("input", {
    type: "range",
    id: "threshold",
    min: 0.8,
    max: 1,
    step: 0.005,
    value: state().threshold,
    oninput: () => {
      value.textContent = cosine(Number(slider.value));
    },
    onchange: debounced(() => go({ threshold: Number(slider.value) }, { replace: true }), 200),
  });
  scroller = el("div", { class: "scroller groups" });
  byId("view-duplicates").append(
    toolbar(
      counter,
      el("label", { class: "tool", for: "threshold" }, el("span", {}, "Similarity of at least"), slider, value),
    ),
    scroller,
  );
  watch((now) => now.view === "duplicates" && now.threshold !== shown && load());
  listen("selection", drawSelected);
  if (state().view === "duplicates") load();
}

async function load() {
  abort.abort();
  abort = new AbortController();
  const { signal } = abort;
  const { threshold } = state();
  shown = threshold;
  slider.value = String(threshold);
  value.textContent = cosine(threshold);
  counter.textContent = "";
  fill(scroller, busy("Comparing the images with each other"));
  try {
    let found = await api.duplicates(threshold, LIMIT, signal);
    while (found.state === "computing") {
      counter.textContent = found.progress > 0 ? percent(found.progress) : "";
      await pause(POLL);
      if (signal.aborted) return;
      found = await api.duplicates(threshold, LIMIT, signal);
    }
    if (!signal.aborted) draw(found, threshold);
  } catch (error) {
    if (isAbort(error)) return;
    shown = 0;
    fill(scroller, failed(error, load));
  }
}

/**
 * @param {Duplicates} found
 * @param {number} threshold
 */
function draw({ groups, total, by_graph: byGraph }, threshold) {
  const all = `${count(total)} group${total === 1 ? "" : "s"}`;
  const shownOf = groups.length < total ? `${all}, the first ${count(groups.length)} shown` : all;
  counter.textContent = byGraph ? `${shownOf}; a graph proposed which to compare, some may be missing` : shownOf;
  copies = [];
  if (groups.length) fill(scroller, groups.map(groupOf));
  else
    fill(
      scroller,
      emptyState(
        "copies",
        "No near-duplicates",
        `No two images have a similarity of ${cosine(threshold)} or more. Move the slider to the left to find less similar ones.`,
      ),
    );
  drawSelected();
}

/** @param {DuplicateGroup} group */
function groupOf({ kind, photos }) {
  const source = new List(photos);
  /** @param {Photo} photo */
  const pixels = (photo) => (photo.width ?? 0) * (photo.height ?? 0);
  const largest = photos.reduce((best, photo) => (pixels(photo) > pixels(best) ? photo : best));
  const title = kind === "same content" ? "The same file" : "Similar";
  const others = photos.filter((photo) => photo !== largest).map((photo) => photo.id);
  return el(
    "article",
    { class: "group" },
    el(
      "header",
      {},
      el("h2", {}, title, el("span", { class: "hint" }, ` ${images(photos.length)}`)),
      el(
        "button",
        {
          type: "button",
          class: "quiet",
          title: "All but the largest: label them, or look at them together",
          onclick: () => selection.add(others),
        },
        "Select the others",
      ),
    ),
    el(
      "div",
      { class: "copies" },
      photos.map((photo, index) => copyOf(photo, index, source, photo === largest)),
    ),
  );
}

/**
 * @param {Photo} photo
 * @param {number} index
 * @param {List} source
 * @param {boolean} isLargest
 */
function copyOf(photo, index, source, isLargest) {
  const check = el(
    "button",
    {
      type: "button",
      class: "check",
      "aria-label": `Select ${photo.name}`,
      onclick: () => selection.toggle(photo.id),
    },
    icon("check"),
  );
  const size = photo.width ? `${photo.width} × ${photo.height}` : "";
  const similarity = index > 0 && typeof photo.similarity === "number" ? cosine(photo.similarity) : "";
  const element = el(
    "figure",
    { class: "copy" },
    el(
      "button",
      {
        type: "button",
        class: "open",
        "aria-label": `Open ${photo.name}`,
        onclick: () => openPhoto(photo.id, { source, index }),
      },
      fadingImage(thumbnailUrl(photo, 200), { loading: "lazy" }),
    ),
    check,
    el(
      "figcaption",
      {},
      el("span", { class: "name", title: photo.name }, fileName(photo.name)),
      el("span", { class: "detail" }, [size, similarity].filter(Boolean).join(", ")),
      isLargest && size ? el("i", {}, "largest") : null,
    ),
  );
  copies.push({ id: photo.id, check, element });
  return element;
}

function drawSelected() {
  for (const { id, check, element } of copies) {
    const on = selection.has(id);
    element.classList.toggle("selected", on);
    check.setAttribute("aria-pressed", String(on));
  }
}
