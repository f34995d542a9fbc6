// @ts-check
// Near-duplicates: groups of images side by side, with how similar and how large they are. The filters say among which.

import { api, isAbort, thumbnailUrl } from "./api.js";
import { byId, debounced, el, emptyState, fadingImage, failed, fill, icon, say, toolbar } from "./dom.js";
import { where } from "./filter.js";
import { cosine, count, fileName, images, percent, time } from "./format.js";
import { openPhoto } from "./opening.js";
import { Rows } from "./rows.js";
import { selection } from "./selection.js";
import { listen } from "./signals.js";
import { byIds } from "./sources.js";
import { clearAll, go, state, watch } from "./state.js";
import { showIds } from "./subset.js";

/** @import {DuplicateGroup, Duplicates, Photo} from "./types.js" */

const PAGE = 50; // groups that are asked for at a time
const ROW = 326; // CSS pixels from the top of one group to that of the next; parts.css has them so high
const POLL = 400; // milliseconds between two questions how far comparing is
/** @param {number} milliseconds */
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** @type {HTMLElement} */
let scroller;
/** @type {Rows} */
let rows;
/** @type {HTMLElement} */
let counter;
/** @type {HTMLInputElement} */
let slider;
/** @type {HTMLOutputElement} */
let value;
/** @type {HTMLSelectElement} */
let order;
/** @type {HTMLButtonElement} */
let others;
/** @type {Map<number, DuplicateGroup>} by place in the list */
let groups = new Map();
/** @type {Set<number>} pages that are asked for */
let asked = new Set();
let station = "";
let shown = "";
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
  order = el(
    "select",
    { id: "group-order", onchange: () => load() },
    el("option", { value: "size" }, "size"),
    el("option", { value: "time" }, "time"),
  );
  others = el(
    "button",
    {
      type: "button",
      class: "quiet",
      hidden: true,
      title: "All but the largest of every group: label them, or look at them together",
      onclick: () => select(null),
    },
    el("span", { class: "always" }, "Select the others of all"),
  );
  scroller = el("div", { class: "scroller groups" });
  rows = new Rows(scroller, { label: "Groups of near-duplicates", row: ROW, make: rowOf, need });
  byId("view-duplicates").append(
    toolbar(
      counter,
      el("label", { class: "tool", for: "threshold" }, el("span", {}, "Similarity of at least"), slider, value),
      el("label", { class: "tool", for: "group-order" }, el("span", {}, "Order"), order),
      others,
    ),
    scroller,
  );
  watch((now, before) => {
    if (now.view !== "duplicates") return;
    if (keyOf() !== shown) load();
    else if (before.view !== "duplicates") rows.draw();
  });
  listen("selection", drawSelected);
  if (state().view === "duplicates") load();
}

const keyOf = () => JSON.stringify([state().threshold, state().filters]);

/** Which duplicates, as the server takes it. */
const wanted = () => ({ threshold: state().threshold, where: where(state().filters) });

async function load() {
  abort.abort();
  abort = new AbortController();
  const { signal } = abort;
  const { threshold } = state();
  shown = keyOf();
  slider.value = String(threshold);
  value.textContent = cosine(threshold);
  counter.textContent = "";
  others.hidden = true;
  const query = { ...wanted(), order: order.value, limit: PAGE };
  try {
    let found = await api.duplicates(query, signal);
    const drawProgress = found.state === "computing" ? drawComputing(wanted()) : () => {};
    while (found.state === "computing") {
      drawProgress(found.progress, found.stage);
      await pause(POLL);
      if (signal.aborted) return;
      found = await api.duplicates(query, signal);
    }
    if (signal.aborted) return;
    groups = new Map(found.groups.map((group, index) => [index, group]));
    asked = new Set([0]);
    drawOrders(found.station);
    draw(found, threshold);
  } catch (error) {
    if (isAbort(error)) return;
    shown = "";
    fill(scroller, failed(error, load));
  }
}

/**
 * Show how far comparing is, with a button that ends it; gives the function that goes on telling.
 * @param {{threshold: number, where: string | undefined}} of
 */
function drawComputing(of) {
  const bar = el("progress", { max: 1, "aria-label": "Progress of the comparison" });
  const words = el("p", { class: "hint" });
  const cancel = async () => {
    abort.abort();
    const again = el("button", { type: "button", class: "primary", onclick: load }, "Compare them");
    fill(scroller, emptyState("copies", "The comparison was cancelled", "Nothing has been changed.", again));
    counter.textContent = "";
    again.focus();
    await api.cancelDuplicates(of).catch(() => {}); // it then goes on to its end, and nobody asks for it
  };
  fill(
    scroller,
    el(
      "div",
      { class: "empty" },
      el("div", { class: "empty-icon" }, icon("copies")),
      el("h2", {}, "Comparing the images with each other"),
      bar,
      words,
      el("div", { class: "actions" }, el("button", { type: "button", onclick: cancel }, "Cancel")),
    ),
  );
  say("Comparing the images with each other");
  /**
   * @param {number} progress
   * @param {string} stage
   */
  return (progress, stage) => {
    bar.value = progress;
    words.textContent = [stage, progress > 0 ? percent(progress) : ""].filter(Boolean).join(", ");
  };
}

/** @param {string | null} column of the station, if there is one */
function drawOrders(column) {
  station = column ?? "";
  const known = [...order.options].some((option) => option.value === "station");
  if (column && !known) order.append(el("option", { value: "station" }, `${column} and time`));
}

/**
 * @param {Duplicates} found
 * @param {number} threshold
 */
function draw({ total, images: number, by_graph: byGraph }, threshold) {
  const among = state().filters.length ? " among those that the filters keep" : "";
  const missed = byGraph ? "; a graph proposed which to compare, some may be missing" : "";
  const text = `${count(total)} group${total === 1 ? "" : "s"} of ${images(number)}${among}${missed}`;
  counter.textContent = total ? text : "";
  say(total ? text : "No near-duplicates");
  others.hidden = !total;
  if (total) {
    rows.show(total);
    return;
  }
  const none = `No two images${among} have a similarity of ${cosine(threshold)} or more. Move the slider to the left to find less similar ones.`;
  const clear = el("button", { type: "button", onclick: clearAll }, "Clear the filters");
  fill(scroller, emptyState("copies", "No near-duplicates", none, among ? clear : null));
}

/**
 * Have these groups there soon.
 * @param {number} first
 * @param {number} end
 */
function need(first, end) {
  for (let page = Math.floor(first / PAGE); page * PAGE < end; page++) {
    if (asked.has(page)) continue;
    asked.add(page);
    fetchPage(page, abort.signal);
  }
}

/**
 * @param {number} page
 * @param {AbortSignal} signal
 */
async function fetchPage(page, signal) {
  const query = { ...wanted(), order: order.value, offset: page * PAGE, limit: PAGE };
  try {
    const found = await api.duplicates(query, signal);
    if (signal.aborted) return;
    found.groups.forEach((group, index) => {
      groups.set(page * PAGE + index, group);
    });
    rows.renew();
  } catch (error) {
    if (isAbort(error)) return;
    shown = "";
    fill(scroller, failed(error, load));
  }
}

/** @param {number} index */
function rowOf(index) {
  const group = groups.get(index);
  const element = el("div", { class: "group" });
  if (group) fillGroup(element, group);
  return element;
}

/**
 * Select all but the largest of one group, or of all.
 * @param {number | null} group
 */
async function select(group) {
  try {
    const { ids } = await api.duplicateIds({ ...wanted(), group, others: "true" });
    selection.add(ids);
    say(`${images(selection.size)} selected`);
  } catch (error) {
    fill(scroller, failed(error, load));
  }
}

/**
 * @param {HTMLElement} element
 * @param {DuplicateGroup} group
 */
function fillGroup(element, group) {
  const { number, kind, photos, count: members, largest } = group;
  const title = kind === "same content" ? "The same file" : "Similar";
  const all = async () => (await api.duplicateIds({ ...wanted(), group: number })).ids;
  /** @param {number} index */
  const open = async (index) => {
    try {
      const source = await byIds(await all()).open(index);
      openPhoto(photos[index].id, { source, index });
    } catch (error) {
      fill(scroller, failed(error, load));
    }
  };
  const rest = members - photos.length;
  fill(
    element,
    el(
      "header",
      {},
      el(
        "h2",
        {},
        title,
        el("span", { class: "hint" }, ` ${[images(members), whereAndWhen(group)].filter(Boolean).join(", ")}`),
      ),
      el(
        "button",
        {
          type: "button",
          class: "quiet",
          title: "All but the largest: label them, or look at them together",
          onclick: () => select(number),
        },
        "Select the others",
      ),
    ),
    el(
      "div",
      { class: "copies" },
      photos.map((photo, index) => copyOf(photo, index, open, photo.id === largest)),
      rest > 0
        ? el(
            "button",
            { type: "button", onclick: async () => showIds(await all()) },
            `Show all ${count(members)} in the gallery`,
          )
        : null,
    ),
  );
}

/** @param {DuplicateGroup} group */
function whereAndWhen({ stations, first, last }) {
  const from = first ? time(first) : "";
  const to = last ? time(last) : "";
  const day = from.slice(0, 10) === to.slice(0, 10);
  const times = from === to ? from : `${from} to ${day ? to.slice(11) : to}`;
  return [station && stations.length ? `${station} ${stations.join(", ")}` : "", times].filter(Boolean).join(", ");
}

/**
 * @param {Photo} photo
 * @param {number} index
 * @param {(index: number) => void} open
 * @param {boolean} isLargest
 */
function copyOf(photo, index, open, isLargest) {
  const on = selection.has(photo.id);
  const check = el(
    "button",
    {
      type: "button",
      class: "check",
      "aria-label": `Select ${photo.name}`,
      "aria-pressed": String(on),
      onclick: () => selection.toggle(photo.id),
    },
    icon("check"),
  );
  const size = photo.width ? `${photo.width} × ${photo.height}` : "";
  const similarity = index > 0 && typeof photo.similarity === "number" ? cosine(photo.similarity) : "";
  return el(
    "figure",
    { class: on ? "copy selected" : "copy", "data-id": photo.id },
    el(
      "button",
      { type: "button", class: "open", "aria-label": `Open ${photo.name}`, onclick: () => open(index) },
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
}

function drawSelected() {
  for (const element of /** @type {NodeListOf<HTMLElement>} */ (scroller.querySelectorAll(".copy"))) {
    const on = selection.has(element.dataset.id ?? "");
    element.classList.toggle("selected", on);
    element.querySelector(".check")?.setAttribute("aria-pressed", String(on));
  }
}
