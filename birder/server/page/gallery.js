// The gallery: the photographs that the filters keep, in an order, or the nearest to what is searched for.

import { api, isAbort } from "./api.js";
import {
  busy,
  cosine,
  count,
  el,
  emptyState,
  failed,
  fill,
  icon,
  iconButton,
  later,
  photographs,
  say,
  toolbar,
} from "./dom.js";
import { where } from "./conditions.js";
import { Grid } from "./grid.js";
import { openPhoto } from "./photo.js";
import { picture } from "./pictures.js";
import { selection } from "./selection.js";
import { List, Pages } from "./sources.js";
import { clearAll, go, listen, searching, state, watch } from "./state.js";

const NEAREST = 500;
let collection, grid, section, scroller, notice, counter, sort, direction;
let shown = ""; // the key of what the grid shows
let tellShown;
let abort = new AbortController();

/** What of the state decides which photographs there are. */
const keyOf = (of) => JSON.stringify([of.filters, of.texts, of.like, of.unlike, of.picture, searching(of) || of.order]);

/** The body of a search for what the state asks; null when its picture is gone. */
export function searchBody(of, k) {
  const kept = of.picture ? picture(of.picture) : undefined;
  if (kept === null) return null;
  const body = { where: where(of.filters), k };
  if (of.texts.length) body.texts = of.texts;
  if (of.like.length) body.ids = of.like;
  if (of.unlike.length) body.unlike = of.unlike;
  if (kept) body.embedding = kept.embedding;
  return body;
}

/** The photographs shown now, for the photo view's arrows. */
export const gallerySource = () => grid.source;

/** The same, once they are there, for a page that was opened at a photograph. */
export const galleryShown = new Promise((resolve) => (tellShown = resolve));
export const focusGallery = (index) => {
  if (Number.isInteger(index)) grid.move(index);
  grid.focus();
};

export function startGallery(of) {
  collection = of;
  section = document.getElementById("view-gallery");
  scroller = el("div", { class: "scroller" });
  notice = el("div", { class: "notice", hidden: true });
  counter = el("p", { class: "count" });
  section.append(galleryTools(), notice, scroller);
  grid = new Grid(scroller, {
    label: "Photographs",
    caption: (photo) => [
      photo.label || fileName(photo.name),
      photo.similarity === undefined ? detail(photo) : `similarity ${cosine(photo.similarity)}`,
    ],
    onOpen: (index) => openPhoto(grid.source.at(index)?.id, { source: grid.source, index }),
  });
  grid.setSize(Number(localStorage.getItem("birder:size")) || (innerWidth < 600 ? 150 : 180));
  scroller.addEventListener("scroll", later(remember, 200), { passive: true });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea, select, [role=dialog]");
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
    if (state().filters.some((filter) => filter.column === column) || state().order.endsWith(column)) reload();
  });
  listen("undone", reload);
  if (state().view === "gallery") load();
}

const fileName = (name) => name.split("/").pop();
const detail = (photo) => (photo.label ? fileName(photo.name) : photo.width ? `${photo.width} × ${photo.height}` : "");

function galleryTools() {
  const orderable = collection.columns.filter((column) => column.filled > 0);
  sort = el(
    "select",
    { id: "sort", "aria-label": "Sort by", onchange: () => go({ order: sort.value }) },
    el("option", { value: "" }, "path"),
    orderable.map((column) => el("option", { value: column.name }, column.name)),
  );
  direction = iconButton("down", "Reverse the order", () => {
    const { order } = state();
    if (order) go({ order: order.startsWith("-") ? order.slice(1) : `-${order}` });
  });
  const size = el("input", {
    type: "range",
    id: "size",
    min: 100,
    max: 360,
    step: 20,
    value: Number(localStorage.getItem("birder:size")) || 180,
    oninput: () => {
      grid.setSize(Number(size.value));
      localStorage.setItem("birder:size", size.value);
    },
  });
  drawSort();
  return toolbar(
    counter,
    el("label", { class: "tool", for: "sort" }, el("span", {}, "Sort by"), sort),
    direction,
    el("label", { class: "tool size", for: "size" }, el("span", {}, "Size"), size),
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
  );
}

function drawSort() {
  const { order } = state();
  const near = searching();
  sort.value = order.replace(/^-/, "");
  sort.disabled = near;
  sort.title = near ? "Ordered by similarity to what you search for" : "";
  direction.disabled = near || !order;
  direction.classList.toggle("up", order.startsWith("-"));
  direction.setAttribute("aria-pressed", String(order.startsWith("-")));
}

async function load({ keep = false } = {}) {
  abort.abort();
  abort = new AbortController();
  const { signal } = abort;
  const now = state();
  const key = keyOf(now);
  const first = keep ? grid.first() : remembered(key);
  if (!grid.source) {
    fill(notice, busy("Looking at the collection")).hidden = false;
    scroller.hidden = true;
  }
  section.classList.add("loading");
  try {
    const source = searching(now) ? await nearest(now, signal) : await browse(now, first);
    if (signal.aborted) return;
    shown = key;
    section.classList.remove("loading");
    if (!source) return;
    source.onerror = (error) =>
      (fill(
        notice,
        failed(error, () => load({ keep: true })),
      ).hidden = false);
    scroller.hidden = source.total === 0; // a grid needs its width to be laid out
    grid.show(source, { first });
    tellShown();
    describe(now, source.total);
  } catch (error) {
    if (isAbort(error) || signal.aborted) return;
    shown = "";
    section.classList.remove("loading");
    scroller.hidden = true;
    counter.textContent = "";
    fill(
      notice,
      failed(error, () => load({ keep })),
      removeQuery(now),
    ).hidden = false;
  }
}

/** A query that fails must not lock anyone out: a way back to everything. */
function removeQuery(now) {
  if (!now.filters.length && !searching(now)) return null;
  return el(
    "div",
    { class: "actions" },
    el("button", { type: "button", onclick: clearAll }, "Clear the search and the filters"),
  );
}

async function browse(now, first) {
  const source = new Pages(where(now.filters), now.order);
  return source.open(first);
}

async function nearest(now, signal) {
  const body = searchBody(now, NEAREST);
  if (body === null) {
    grid.show(new List([]));
    scroller.hidden = true;
    counter.textContent = "";
    fill(
      notice,
      emptyState(
        "picture",
        "The picture is no longer here",
        "A picture you search with stays in its tab, and is not part of the address. Drop it here again to search with it.",
        el("button", { type: "button", class: "primary", onclick: () => go({ picture: "" }) }, "Search without it"),
      ),
    ).hidden = false;
    return null;
  }
  return new List((await api.search(body, signal)).photos);
}

function describe(now, total) {
  notice.hidden = total > 0;
  const all = collection.rows;
  const near = searching(now);
  const text =
    near && total === NEAREST
      ? `The ${count(total)} nearest of ${photographs(all)}`
      : near
        ? `${photographs(total)}, nearest first`
        : now.filters.length
          ? `${count(total)} of ${photographs(all)}`
          : photographs(total);
  counter.textContent = text;
  say(text);
  if (total) return;
  if (all === 0) {
    fill(
      notice,
      emptyState("picture", "No photographs yet", [
        "This collection has no rows. Embed a folder of photographs into it, and reload this page:",
        el("code", {}, `birder embed PHOTOS --to ${collection.name}`),
      ]),
    );
  } else {
    fill(
      notice,
      emptyState(
        "filter",
        "Nothing matches",
        `None of the ${photographs(all)} passes ${now.filters.length === 1 ? "the filter" : "all the filters"}.`,
        el("button", { type: "button", class: "primary", onclick: () => go({ filters: [] }) }, "Clear the filters"),
      ),
    );
  }
}

function reload() {
  shown = "";
  if (state().view === "gallery") load({ keep: true });
}

async function selectAll() {
  if (!grid.source?.total) return;
  try {
    selection.add(await grid.source.ids());
    say(`${photographs(selection.size)} selected`);
  } catch (error) {
    fill(notice, failed(error, selectAll)).hidden = false;
  }
}

// Where each query was scrolled to, so that coming back finds the same photographs; also after a reload.

function positions() {
  try {
    return JSON.parse(sessionStorage.getItem("birder:positions")) ?? [];
  } catch {
    return [];
  }
}

function remember() {
  if (!shown || !grid.source) return;
  const others = positions()
    .filter(([key]) => key !== shown)
    .slice(-20);
  sessionStorage.setItem("birder:positions", JSON.stringify([...others, [shown, grid.first()]]));
}

const remembered = (key) => positions().find(([each]) => each === key)?.[1] ?? 0;
