// @ts-check
// Teach: given a few labels, the images without one, ranked by a classifier on their embeddings; beside them, what it has
// learned so far.

import { api, isAbort, statusOf } from "./api.js";
import { decide } from "./deciding.js";
import { decisionOf } from "./decisions.js";
import { busy, byId, el, emptyState, failed, fill, messageOf, say, toolbar } from "./dom.js";
import { where } from "./filter.js";
import { count, images, percent } from "./format.js";
import { Grid } from "./grid.js";
import { giveAll, labelColumns } from "./labels.js";
import { toast } from "./layers.js";
import { openPhoto } from "./opening.js";
import { selection, showsSelected } from "./selection.js";
import { listen, tellAll } from "./signals.js";
import { List } from "./sources.js";
import { clearAll, go, state, watch } from "./state.js";
import { TeachPanel } from "./teachpanel.js";

/** @import {Decision} from "./decisions.js" */
/** @import {Collection, Label, Photo, State, Suggestions} from "./types.js" */

/** @typedef {{value: string, by?: string}} Accepted the label that an image was given since the ranking; by whom else */

const LIMIT = 200;
const SIZE = 200; // CSS pixels
const SIZE_ON_PHONES = 150;
/** @type {Collection} */
let collection;
/** @type {Grid} */
let grid;
/** @type {List} the suggested images */
let suggested = new List([]);
/** @type {HTMLElement} */
let scroller;
/** @type {HTMLElement} */
let notice;
/** @type {HTMLElement} */
let counter;
/** @type {HTMLElement} */
let note;
/** @type {TeachPanel} */
let panel;
/** @type {HTMLSelectElement} */
let columns;
/** @type {HTMLSelectElement} */
let classes;
/** @type {Record<string, HTMLButtonElement>} */
let orders;
/** @type {HTMLButtonElement} */
let acceptAll;
/** @type {Map<string, Accepted>} by id */
let accepted = new Map();
let shown = "";
let abort = new AbortController();

/** @param {Collection} of */
export function startTeach(of) {
  collection = of;
  buildTools();
  grid = new Grid(scroller, {
    label: "Suggested images",
    caption,
    mark: (photo) => accepted.has(photo.id),
    onOpen: (index) => openPhoto(suggested.at(index)?.id, { source: suggested, index, column: state().teachColumn }),
    onKey: (event, index) => {
      const decision = decisionOf(event);
      if (decision === undefined) return false;
      if (decision === "accept") accept(index, event.repeat);
      else decideOn(index, decision, event.repeat);
      return true;
    },
  });
  grid.setSize(innerWidth < 600 ? SIZE_ON_PHONES : SIZE);
  drawTools();
  watch((now) => {
    if (now.view !== "teach") return;
    drawTools();
    if (keyOf(now) !== shown) load();
  });
  listen("labels", ({ ids, column, value }) => {
    const mine = ids.filter((id) => !accepted.has(id) && suggested.photos.some((photo) => photo.id === id));
    if (column === state().teachColumn && value !== null && mine.length && grid.source) mark(mine, { value });
  });
  listen("columns", drawTools);
  listen("selection", drawTools);
  listen("undone", ({ ids }) => {
    if (ids?.length && ids.every((id) => accepted.has(id))) {
      backTo(ids);
      return;
    }
    shown = "";
    if (state().view === "teach") load();
  });
  listen("theirs", ({ ids, by, column, undone }) => {
    if (column !== state().teachColumn || !grid.source) return;
    const theirs = ids.filter((id) => suggested.photos.some((photo) => photo.id === id));
    if (undone) unmark(theirs);
    else
      mark(
        theirs.filter((id) => !accepted.has(id)),
        { value: "labelled", by: `by ${by}` },
      );
  });
  showsSelected("teach", (ids) => (scroller.hidden || !grid.source ? [] : suggested.among(ids)));
  if (state().view === "teach") load();
}

function buildTools() {
  columns = el("select", { id: "teach-column", onchange: () => go({ teachColumn: columns.value, teachClass: "" }) });
  classes = el(
    "select",
    { id: "teach-class", onchange: () => go({ teachClass: classes.value }) },
    el("option", { value: "" }, "any class"),
  );
  /**
   * @param {string} order
   * @param {string} title
   * @param {string} why
   */
  const orderButton = (order, title, why) =>
    el("button", { type: "button", title: why, onclick: () => go({ teachOrder: order }) }, title);
  orders = {
    certain: orderButton("certain", "Most certain", "The images with the highest probability first: quick to accept"),
    useful: orderButton(
      "useful",
      "Most useful",
      "The images that the classifier is in doubt about: labels teach it most",
    ),
  };
  acceptAll = el("button", { type: "button", class: "primary", onclick: acceptSelected });
  counter = el("p", { class: "count" });
  note = el("p", { class: "hint note" });
  panel = new TeachPanel(collection);
  notice = el("div", { class: "notice", hidden: true });
  scroller = el("div", { class: "scroller" });
  byId("view-teach").append(
    toolbar(
      counter,
      el("label", { class: "tool", for: "teach-column" }, el("span", {}, "Column"), columns),
      el("label", { class: "tool", for: "teach-class" }, el("span", {}, "Class"), classes),
      el("div", { class: "segmented", role: "group", "aria-label": "Which come first" }, Object.values(orders)),
      el(
        "button",
        { type: "button", class: "quiet", onclick: () => load() },
        el("span", { class: "always" }, "Rank again"),
      ),
      acceptAll,
    ),
    note,
    el("div", { class: "teach" }, el("div", { class: "taught" }, notice, scroller), panel.element),
  );
}

/**
 * @param {Photo} photo
 * @returns {[string, string]}
 */
function caption(photo) {
  const label = accepted.get(photo.id);
  return label
    ? [`✓ ${label.value}`, label.by ?? "accepted"]
    : [photo.label ?? "", `probability ${percent(photo.score ?? 0)}`];
}

/** @param {State} now */
const keyOf = (now) => JSON.stringify([now.teachColumn, now.teachClass, now.teachOrder, now.filters]);

function drawTools() {
  const now = state();
  const names = [...new Set([...labelColumns(), now.teachColumn])];
  fill(
    columns,
    names.map((name) => el("option", { value: name }, name)),
  );
  columns.value = now.teachColumn;
  for (const [order, button] of Object.entries(orders))
    button.setAttribute("aria-pressed", String(order === now.teachOrder));
  const number = selection.size;
  acceptAll.hidden = !collection.writable;
  acceptAll.disabled = !number;
  acceptAll.textContent = number ? `Accept ${count(number)} selected` : "Accept selected";
}

async function load() {
  abort.abort();
  abort = new AbortController();
  const { signal } = abort;
  const now = state();
  shown = keyOf(now);
  accepted = new Map();
  scroller.hidden = true;
  note.textContent = counter.textContent = "";
  panel.show(now.teachColumn);
  fill(notice, busy("Fitting a classifier to the labels")).hidden = false;
  try {
    const answer = await api.suggest(
      {
        column: now.teachColumn,
        label: now.teachClass,
        order: now.teachOrder,
        limit: LIMIT,
        where: where(now.filters),
      },
      signal,
    );
    if (signal.aborted) return;
    draw(now, answer);
  } catch (error) {
    if (isAbort(error)) return;
    shown = "";
    const status = statusOf(error);
    if (status >= 400 && status < 500) fill(notice, labelsNeeded(messageOf(error)));
    else fill(notice, failed(error, load));
  }
}

/** @param {string} message */
function labelsNeeded(message) {
  return emptyState(
    "tag",
    "Teach it a few names",
    [
      message,
      "In the gallery, select five images or more of one class and label them, then the same for a second class; images of different days or places teach the most. Then come back: the others are ranked for you, and you see how often that is right.",
    ],
    el("button", { type: "button", class: "primary", onclick: () => go({ view: "gallery" }) }, "To the gallery"),
  );
}

/**
 * @param {State} now
 * @param {Suggestions} suggestions
 */
function draw(now, { classes: all, photos, note: text }) {
  fill(
    classes,
    el("option", { value: "" }, "any class"),
    all.map(({ name, count: number }) => el("option", { value: name }, `${name} (${count(number)})`)),
  );
  if (now.teachClass && !all.some(({ name }) => name === now.teachClass))
    classes.append(el("option", { value: now.teachClass }, now.teachClass));
  classes.value = now.teachClass;
  const keys =
    collection.writable && photos.length
      ? "A accepts the suggestion and goes on, X rejects it, 1 to 9 give the latest labels; arrows move; Enter opens."
      : "";
  note.textContent = [text, keys].filter(Boolean).join(" ");
  if (!photos.length) {
    fill(
      notice,
      all.length < 2
        ? labelsNeeded(text || "There are not yet two classes to tell apart.")
        : now.filters.length
          ? emptyState(
              "filter",
              "Nothing to suggest",
              `No image without a value in ${now.teachColumn} that the filters keep is suggested here.`,
              el("button", { type: "button", class: "primary", onclick: clearAll }, "Clear the filters"),
            )
          : emptyState("check", "Nothing left to label", `Every image has a value in ${now.teachColumn} already.`),
    );
    counter.textContent = "";
    return;
  }
  notice.hidden = true;
  scroller.hidden = false;
  suggested = new List(photos.map((photo) => ({ ...photo, predicted: photo.label, predicted_score: photo.score })));
  grid.show(suggested);
  tellAll("shown");
  drawCount();
  grid.focus();
}

function drawCount() {
  const mine = [...accepted.values()].filter(({ by }) => !by).length;
  const kept = state().filters.length ? " of those that the filters keep" : "";
  counter.textContent = `${images(suggested.total)} suggested${kept}${mine ? `, ${count(mine)} accepted` : ""}`;
}

/**
 * Accept what is suggested, once its image is there to be judged; a key held down waits for it.
 * @param {number} index
 * @param {boolean} held
 */
function accept(index, held) {
  const photo = canJudge(index, held);
  if (!photo) return;
  if (!accepted.has(photo.id)) {
    const value = photo.label || state().teachClass;
    mark([photo.id], { value });
    say(`${photo.name} is ${value}`);
    write([{ ids: [photo.id], column: state().teachColumn, value }], { gather: true });
  }
  grid.move(index + 1);
}

/**
 * Decide otherwise than by accepting what is suggested.
 * @param {number} index
 * @param {Decision} decision
 * @param {boolean} held
 */
function decideOn(index, decision, held) {
  const photo = canJudge(index, held);
  if (!photo) return;
  const done = accepted.has(photo.id) ? null : decide(decision, [photo], state().teachColumn);
  if (done) {
    mark([photo.id], { value: done.text });
    say(`${photo.name}: ${done.text}`);
    done.written.then((written) => written || unmark([photo.id]));
  }
  if (done || accepted.has(photo.id)) grid.move(index + 1);
}

/**
 * An image that can be decided on, as it is there to be judged.
 * @param {number} index
 * @param {boolean} held
 */
function canJudge(index, held) {
  const photo = suggested.at(index);
  if (!photo || !collection.writable) return null;
  const loading = grid.imageState(index);
  if (loading === "loaded" || (loading === "broken" && !held)) return photo;
  grid.move(index); // perhaps it was scrolled away
  if (!held) say("The image has not loaded yet");
  return null;
}

/** Accept the selected that are suggested; the others are told of, and stay selected. */
function acceptSelected() {
  const labels = new Map(suggested.photos.map((photo) => [photo.id, photo.label]));
  /** @type {Map<string, string[]>} ids by label */
  const values = new Map();
  for (const id of selection.ids()) {
    const value = labels.get(id) || state().teachClass;
    if (labels.has(id) && value && !accepted.has(id)) values.set(value, [...(values.get(value) ?? []), id]);
  }
  const ids = [...values.values()].flat();
  const others = selection.size - ids.length;
  if (others) {
    const done = ids.length ? `${images(ids.length)} accepted. ` : "Nothing accepted: ";
    const what =
      others === 1
        ? "1 selected image is not suggested here, and stays selected."
        : `${count(others)} selected images are not suggested here, and stay selected.`;
    toast(done + what);
  }
  if (!ids.length) return;
  selection.remove(ids);
  for (const [value, some] of values) mark(some, { value });
  write([...values].map(([value, some]) => ({ ids: some, column: state().teachColumn, value })));
}

/**
 * Write labels; those that are not written are suggestions again.
 * @param {Label[]} labels
 * @param {{gather?: boolean}} [how]
 */
async function write(labels, how) {
  if (!(await giveAll(labels, how))) unmark(labels.flatMap(({ ids }) => ids));
}

/**
 * @param {string[]} ids
 * @param {Accepted} how
 */
function mark(ids, how) {
  for (const id of ids) accepted.set(id, how);
  drawCount();
  grid.refresh();
}

/** @param {string[]} ids */
function unmark(ids) {
  for (const id of ids) accepted.delete(id);
  drawCount();
  grid.refresh();
}

/**
 * What was accepted is undone: go on there.
 * @param {string[]} ids
 */
function backTo(ids) {
  unmark(ids);
  grid.move(suggested.photos.findIndex((photo) => photo.id === ids[0]));
}
