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
import { inSight, selection } from "./selection.js";
import { chosen, List, matching } from "./sources.js";
import { clearAll, go, listen, searching, state, tellAll, watch } from "./state.js";
import { idsOf } from "./these.js";

const NEAREST = 500;
let collection, grid, section, scroller, notice, counter, newRows, sort, direction;
let rowsShown = 0; // how many the collection had when they were asked for
let shown = ""; // the key of what the grid shows
let tellShown;
let abort = new AbortController();

/** What of the state decides which photographs there are. */
const keyOf = (of) =>
  JSON.stringify([of.filters, of.texts, of.like, of.unlike, of.picture, searching(of) || of.order, of.these]);

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
  listen("theirs", ({ ids }) => grid.source?.renew(ids)); // in its place: nothing moves under somebody's hand
  listen("columns", drawColumns);
  listen("collection", () => shown && grid.source && describe(state(), grid.source.total));
  inSight("gallery", (ids) => (grid.source && !scroller.hidden ? grid.source.among(ids) : []));
  if (state().view === "gallery") load();
}

const fileName = (name) => name.split("/").pop();
const detail = (photo) => (photo.label ? fileName(photo.name) : photo.width ? `${photo.width} × ${photo.height}` : "");

function galleryTools() {
  sort = el("select", { id: "sort", "aria-label": "Sort by", onchange: () => go({ order: sort.value }) });
  newRows = el("button", { type: "button", class: "link", hidden: true, onclick: reload });
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
  drawColumns();
  return toolbar(
    el("div", { class: "counts" }, counter, newRows),
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

function drawColumns() {
  const names = collection.columns.filter((column) => column.filled > 0).map((column) => column.name);
  fill(
    sort,
    el("option", { value: "" }, "path"),
    names.map((name) => el("option", { value: name }, name)),
  );
  drawSort();
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
  const active = keep ? grid.active : first;
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
    grid.show(source, { first, active });
    rowsShown = collection.rows;
    tellShown();
    tellAll("shown");
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
  if (!now.filters.length && !searching(now) && !now.these) return null;
  return el(
    "div",
    { class: "actions" },
    el("button", { type: "button", onclick: clearAll }, "Clear the search and the filters"),
  );
}

async function browse(now, first) {
  const source = now.these ? await selected(now) : matching(where(now.filters), now.order);
  return source?.open(first);
}

/** Those of the photographs shown for themselves that the filters keep, in the order asked for. */
async function selected(now) {
  const these = new Set(await idsOf(now.these));
  if (!these.size)
    return gone(
      "These photographs are no longer known",
      "What is selected stays in its tab, and is not part of the address.",
      { these: "" },
    );
  const { ids } = await api.ids({ where: where(now.filters), order: now.order });
  return chosen(ids.filter((id) => these.has(id)));
}

/** What the address asks for is not there any more: say so, and offer to go on without it. */
function gone(title, why, without) {
  grid.show(new List([]));
  scroller.hidden = true;
  counter.textContent = "";
  const onward = el("button", { type: "button", class: "primary", onclick: () => go(without) }, "Go on without");
  fill(notice, emptyState("picture", title, why, onward)).hidden = false;
  tellAll("shown");
  return null;
}

async function nearest(now, signal) {
  const body = searchBody(now, NEAREST);
  if (body === null)
    return gone(
      "The picture is no longer here",
      "A picture you search with stays in its tab, and is not part of the address. Drop it here again to search with it.",
      { picture: "" },
    );
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
        : now.filters.length || now.these
          ? `${count(total)} of ${photographs(all)}`
          : photographs(total);
  if (counter.textContent !== text) say(text);
  counter.textContent = text;
  const more = all - rowsShown;
  newRows.hidden = more <= 0 || near;
  newRows.textContent = `Show ${count(more)} new`;
  if (total) return;
  if (all === 0) {
    fill(
      notice,
      emptyState("picture", "No photographs yet", [
        "This collection has no rows. Embed a folder of photographs into it, and reload this page:",
        el("code", {}, `birder embed IMAGES --in ${collection.name}`),
      ]),
    );
  } else {
    fill(
      notice,
      emptyState(
        "filter",
        "Nothing matches",
        `None of the ${photographs(all)} passes ${now.filters.length === 1 ? "the filter" : "all the filters"}.`,
        el("button", { type: "button", class: "primary", onclick: clearAll }, "Clear the filters"),
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
