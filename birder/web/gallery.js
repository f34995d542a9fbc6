// @ts-check
// The gallery: the images that match the filters, in an order, or the nearest to what is searched for.

import { api, isAbort } from "./api.js";
import { decide } from "./deciding.js";
import { decisionOf, REJECTED } from "./decisions.js";
import { busy, byId, closest, debounced, el, emptyState, failed, fill, icon, iconButton, say, toolbar } from "./dom.js";
import { exportRows } from "./exporting.js";
import { where } from "./filter.js";
import { cosine, count, fileName, images, percent, quoted } from "./format.js";
import { Grid } from "./grid.js";
import { currentColumn } from "./labelbox.js";
import { meanwhile } from "./meanwhile.js";
import { openPhoto } from "./opening.js";
import { searchBody } from "./query.js";
import { selection, showsSelected } from "./selection.js";
import { listen, tellAll } from "./signals.js";
import { byIds, List, matching } from "./sources.js";
import { decideStack } from "./stackdeciding.js";
import { among, foldedHits, matchingStacks, stacksByIds } from "./stacksource.js";
import { folds, hasSequences, stackCaption } from "./stacktile.js";
import { clearAll, go, searching, state, watch } from "./state.js";
import { idsOf } from "./subset.js";
import { TileLook } from "./tilelook.js";
import { tileTools } from "./tiletools.js";

/** @import {Decision} from "./decisions.js" */
/** @import {Collection, Photo, Source, State} from "./types.js" */

/** @type {string | null} what the similarities of the images shown are, if they are not of embeddings */
let how = null;
const NEAREST = 500;
const SIZE = 180; // CSS pixels
const SIZE_ON_PHONES = 150;
const SIZE_KEY = "birder:size";
const POSITIONS_KEY = "birder:positions";
const POSITIONS_KEPT = 20;

/** @type {Collection} */
let collection;
/** @type {Grid} */
let grid;
/** @type {HTMLElement} */
let section;
/** @type {HTMLElement} */
let scroller;
/** @type {HTMLElement} */
let notice;
/** @type {HTMLElement} */
let counter;
/** @type {HTMLButtonElement} */
let newRows;
/** @type {HTMLSelectElement} */
let sort;
/** @type {HTMLButtonElement} */
let direction;
/** @type {HTMLInputElement} */
let fold;
/** @type {TileLook} */
let look;
/** @type {ReturnType<typeof tileTools>} */
let tileChoices;
let rowsShown = 0; // how many the collection had when they were asked for
let shown = ""; // the key of what the grid shows
let abort = new AbortController();
/** @type {() => void} */
let tellGalleryShown;

/**
 * What of the state decides which images there are.
 * @param {State} of
 */
const keyOf = (of) =>
  JSON.stringify([
    ...[of.filters, of.texts, of.like, of.unlike, of.queryImage, searching(of) || of.order, of.subset],
    ...(folds(of) ? ["folded"] : []),
  ]);

/** The images shown now, for the arrows of an open image. */
export const gallerySource = () => grid.source;

/**
 * Settles once they are there, for a page that was opened at an image.
 * @type {Promise<void>}
 */
export const galleryShown = new Promise((resolve) => {
  tellGalleryShown = resolve;
});

/** @param {number} [index] */
export const focusGallery = (index) => {
  if (index !== undefined) grid.move(index);
  grid.focus();
};

const keptSize = () => Number(localStorage.getItem(SIZE_KEY));

/** @param {Collection} of */
export function startGallery(of) {
  collection = of;
  section = byId("view-gallery");
  scroller = el("div", { class: "scroller" });
  notice = el("div", { class: "notice", hidden: true });
  counter = el("p", { class: "count" });
  look = new TileLook(localStorage, collection.path, () => collection.columns);
  section.append(galleryTools(), notice, scroller);
  grid = new Grid(scroller, {
    label: "Images",
    caption: (photo) => {
      const [name, more] = photo.stack && photo.stack.count > 1 ? stackCaption(photo.stack) : caption(photo);
      const [first, second, spoken] = look.caption(photo, [
        name,
        typeof photo.similarity === "number" ? `similarity ${cosine(photo.similarity)}` : more,
      ]);
      if (spoken === undefined) return [first, second];
      return [first, second, photo.stack ? `${spoken}, ${images(photo.stack.count)}` : spoken];
    },
    onKey: (event, index) => {
      const decision = selection.size ? undefined : decisionOf(event); // the selected are decided together
      if (decision !== undefined) decideOn(index, decision, event.repeat);
      return decision !== undefined;
    },
    onOpen: (index) => grid.source && openPhoto(grid.source.at(index)?.id, { source: grid.source, index }),
  });
  grid.setWhole(look.whole);
  grid.setSize(keptSize() || (innerWidth < 600 ? SIZE_ON_PHONES : SIZE));
  scroller.addEventListener("scroll", debounced(rememberPosition, 200), { passive: true });
  document.addEventListener("keydown", (event) => {
    const typing = closest(event, "input, textarea, select, [role=dialog]");
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "a" && state().view === "gallery" && !typing) {
      event.preventDefault();
      selectAll();
    }
  });
  watch((now, before) => {
    if (now.view !== "gallery") return;
    drawSort();
    if (keyOf(now) !== shown) load();
    else if (before.view !== "gallery") grid.refresh();
  });
  listen("labels", ({ ids, column, value }) => {
    if (column === "label") grid.source?.patch(ids, { label: value });
    if (column === REJECTED) grid.source?.patch(ids, { rejected: value });
    if (look.wanted.includes(column)) grid.source?.renew(ids);
    if (state().filters.some((filter) => filter.column === column) || state().order.endsWith(column)) reload();
  });
  listen("undone", reload);
  listen("rows", reload);
  listen("back", reload); // images that could not be had meanwhile are asked for again
  listen("theirs", ({ ids }) => grid.source?.renew(ids)); // in its place: nothing moves under somebody's hand
  listen("columns", drawColumns);
  listen("collection", () => shown && grid.source && drawCount(state(), grid.source));
  showsSelected("gallery", (ids) => (grid.source && !scroller.hidden ? grid.source.among(ids) : []));
  if (state().view === "gallery") load();
}

/**
 * Decide what the image with the focus shows, once it is there to be judged, and go on.
 * @param {number} index
 * @param {Decision} decision
 * @param {boolean} held
 */
async function decideOn(index, decision, held) {
  const photo = grid.source?.at(index);
  const loading = grid.imageState(index);
  if (!photo || !collection.writable) return;
  if (loading !== "loaded" && (held || loading !== "broken")) {
    grid.move(index);
    return;
  }
  const byName = decision === "accept" || decision === "reject";
  const column = byName ? "label" : currentColumn();
  const done =
    photo.stack && grid.source
      ? await decideStack(grid.source, index, decision, column)
      : decide(decision, [photo], column)?.text;
  if (!done) return;
  say(`${fileName(photo.name)}: ${done}`);
  grid.move(index + 1);
}

/**
 * The two lines below an image.
 * @param {Photo} photo
 * @returns {[string, string]}
 */
const caption = (photo) => [
  photo.label || (photo.predicted ? `${photo.predicted}?` : fileName(photo.name)),
  detail(photo),
];

/** @param {Photo} photo */
const detail = (photo) =>
  photo.predicted && typeof photo.predicted_score === "number"
    ? `${photo.label ? `${photo.predicted} ` : ""}predicted, ${percent(photo.predicted_score)}`
    : sizeOrName(photo);

/** @param {Photo} photo */
const sizeOrName = (photo) =>
  photo.label ? fileName(photo.name) : photo.width ? `${photo.width} × ${photo.height}` : "";

function galleryTools() {
  sort = el("select", { id: "sort", "aria-label": "Sort by", onchange: () => go({ order: sort.value }) });
  newRows = el("button", { type: "button", class: "link", hidden: true, onclick: reload });
  direction = iconButton("down", "Reverse the order", () => {
    const { order } = state();
    if (order) go({ order: order.startsWith("-") ? order.slice(1) : `-${order}` });
  });
  fold = el("input", {
    type: "checkbox",
    id: "fold",
    onchange: () => go({ folded: fold.checked ? "yes" : "" }),
  });
  const folding = el("label", { class: "tool", for: "fold" }, fold, el("span", { class: "always" }, "Fold sequences"));
  const size = el("input", {
    type: "range",
    id: "size",
    min: 100,
    max: 360,
    step: 20,
    value: keptSize() || SIZE,
    oninput: () => {
      grid.setSize(Number(size.value));
      localStorage.setItem(SIZE_KEY, size.value);
    },
  });
  tileChoices = tileTools(look, { onWhole: () => grid.setWhole(look.whole), onLines: reload });
  drawColumns();
  return toolbar(
    el("div", { class: "counts" }, counter, newRows),
    el("label", { class: "tool", for: "sort" }, el("span", {}, "Sort by"), sort),
    direction,
    folding,
    el("label", { class: "tool size", for: "size" }, el("span", {}, "Size"), size),
    tileChoices.element,
    el(
      "button",
      {
        type: "button",
        class: "quiet",
        onclick: selectAll,
        title: "Select all (Ctrl+A)",
        "aria-label": "Select all",
      },
      icon("select"),
      el("span", {}, "Select all"),
    ),
    el("button", { type: "button", class: "quiet", onclick: exportShown }, el("span", { class: "always" }, "Export")),
  );
}

function drawColumns() {
  const names = collection.columns.filter((column) => column.filled > 0).map((column) => column.name);
  fill(
    sort,
    el("option", { value: "" }, "path"),
    names.map((name) => el("option", { value: name }, name)),
  );
  tileChoices.drawColumns();
  drawSort();
}

function drawSort() {
  const { order } = state();
  const near = searching();
  sort.value = order.replace(/^-/, "");
  sort.disabled = near;
  sort.title = near ? "Ordered by similarity to the query" : "";
  direction.disabled = near || !order;
  direction.classList.toggle("up", order.startsWith("-"));
  direction.setAttribute("aria-pressed", String(order.startsWith("-")));
  fold.checked = folds(state());
  /** @type {HTMLElement} */ (fold.parentElement).hidden = !hasSequences(collection) && !fold.checked;
}

/**
 * Show something in place of the images, or above them.
 * @param {Node[]} children
 */
function showNotice(...children) {
  fill(notice, ...children).hidden = false;
}

async function load({ keep = false } = {}) {
  abort.abort();
  abort = new AbortController();
  const { signal } = abort;
  const now = state();
  const key = keyOf(now);
  const first = keep ? grid.first() : positionOf(key);
  const active = keep ? grid.active : first;
  if (!grid.source) {
    showNotice(busy("Loading the images"));
    scroller.hidden = true;
  }
  section.classList.add("loading");
  try {
    const source = searching(now) ? await nearest(now, signal) : await browse(now, first);
    if (signal.aborted) return;
    shown = key;
    section.classList.remove("loading");
    if (!source) return;
    source.onerror = (error) => showNotice(failed(error, () => load({ keep: true })));
    scroller.hidden = source.total === 0; // a grid needs its width to be laid out
    grid.show(source, { first, active });
    rowsShown = collection.rows;
    tellGalleryShown();
    tellAll("shown");
    drawCount(now, source);
  } catch (error) {
    if (isAbort(error) || signal.aborted) return;
    shown = "";
    section.classList.remove("loading");
    scroller.hidden = true;
    counter.textContent = "";
    showNotice(
      failed(error, () => load({ keep })),
      ...clearButton(now),
    );
  }
}

/**
 * A query that fails must not lock anyone out: a way back to everything.
 * @param {State} now
 */
function clearButton(now) {
  if (!now.filters.length && !searching(now) && !now.subset) return [];
  const button = el("button", { type: "button", onclick: clearAll }, "Clear the search and the filters");
  return [el("div", { class: "actions" }, button)];
}

/**
 * @param {State} now
 * @param {number} first
 * @returns {Promise<Source | null>}
 */
async function browse(now, first) {
  const list = folds(now) ? matchingStacks : matching;
  const source = now.subset ? await subset(now) : list(where(now.filters), now.order, look.wanted);
  return source ? source.open(first) : null;
}

/**
 * Those of the images shown by themselves that match the filters, in the order asked for.
 * @param {State} now
 */
async function subset(now) {
  const wanted = new Set(await idsOf(now.subset));
  if (!wanted.size) {
    showGone(
      "This selection is no longer available",
      "A selection is kept in its own tab, and is not part of the address.",
      { subset: "" },
    );
    return null;
  }
  const asked = { where: where(now.filters), order: now.order };
  if (folds(now))
    return stacksByIds(
      among(await api.allStacks(asked), (id) => wanted.has(id)),
      look.wanted,
    );
  const ids = await api.ids(asked);
  return byIds(
    ids.slice().filter((id) => wanted.has(id)),
    look.wanted,
  );
}

/**
 * What the address asks for is not there any more: say so, and offer to go on without it.
 * @param {string} title
 * @param {string} why
 * @param {Partial<State>} without
 */
function showGone(title, why, without) {
  grid.show(new List([]));
  scroller.hidden = true;
  counter.textContent = "";
  const onward = el("button", { type: "button", class: "primary", onclick: () => go(without) }, "Continue without it");
  showNotice(emptyState("image", title, why, onward));
  tellAll("shown");
}

/**
 * @param {State} now
 * @param {AbortSignal} signal
 * @returns {Promise<Source | null>}
 */
async function nearest(now, signal) {
  const body = searchBody(now, NEAREST);
  if (body === null) {
    showGone(
      "The query image is no longer available",
      "An image that you search with is kept in its own tab, and is not part of the address. Drop it here again to search with it.",
      { queryImage: "" },
    );
    return null;
  }
  const columns = look.wanted;
  const { answer, labelled } = await meanwhile(async () => {
    const { photos, note } = await api.search({ ...body, columns }, signal);
    how = note;
    return folds(now) ? (await foldedHits(photos, columns, signal)).open() : new List(photos, columns);
  });
  answer.renew(labelled).catch((error) => answer.onerror(error));
  return answer;
}

/**
 * Say how many images there are, and why there are none.
 * @param {State} now
 * @param {Source} source
 */
function drawCount(now, { images: total, total: stacks }) {
  notice.hidden = total > 0;
  const all = collection.rows;
  const near = searching(now);
  const counted =
    near && total === NEAREST
      ? `The ${count(total)} nearest of ${images(all)}${how ? ", by class names" : ""}`
      : near
        ? `${images(total)}, ${how ? "by class names" : "nearest first"}`
        : now.filters.length || now.subset
          ? `${count(total)} of ${images(all)}`
          : images(total);
  const text = folds(now) ? `${counted} in ${count(stacks)} ${stacks === 1 ? "stack" : "stacks"}` : counted;
  if (counter.textContent !== text) say(text);
  counter.textContent = text;
  counter.title = (near && how) || "";
  const added = all - rowsShown;
  newRows.hidden = added <= 0 || near;
  newRows.textContent = `Show ${count(added)} new`;
  if (total) return;
  if (all === 0) {
    showNotice(
      emptyState("image", "No images yet", [
        "This collection is empty. Embed a folder of images into it, and reload this page:",
        el("code", {}, `birder embed IMAGES --in ${quoted(collection.path)}`),
      ]),
    );
  } else {
    showNotice(
      emptyState(
        "filter",
        "No images match",
        `None of the ${images(all)} matches ${now.filters.length === 1 ? "the filter" : "all the filters"}.`,
        el("button", { type: "button", class: "primary", onclick: clearAll }, "Clear the filters"),
      ),
    );
  }
}

function reload() {
  shown = "";
  if (state().view === "gallery") load({ keep: true });
}

/** Export what is shown: all that match the filters, or the images themselves where something else chose them. */
async function exportShown() {
  const now = state();
  const ids = grid.source && (searching(now) || now.subset) ? await grid.source.ids() : undefined;
  exportRows({ where: ids ? undefined : where(now.filters), ids, total: grid.source?.images ?? 0 });
}

async function selectAll() {
  if (!grid.source?.total) return;
  try {
    selection.add(await grid.source.ids());
    say(`${images(selection.size)} selected`);
  } catch (error) {
    showNotice(failed(error, selectAll));
  }
}

// Where each query was scrolled to, so that coming back finds the same images; also after a reload.

/** @returns {[key: string, first: number][]} */
function positions() {
  try {
    return JSON.parse(sessionStorage.getItem(POSITIONS_KEY) ?? "[]");
  } catch {
    return [];
  }
}

function rememberPosition() {
  if (!shown || !grid.source) return;
  const others = positions()
    .filter(([key]) => key !== shown)
    .slice(-POSITIONS_KEPT);
  sessionStorage.setItem(POSITIONS_KEY, JSON.stringify([...others, [shown, grid.first()]]));
}

/** @param {string} key */
const positionOf = (key) => positions().find(([each]) => each === key)?.[1] ?? 0;
