// Label help: given a few labels, the photographs without one, ranked by a classifier on their embeddings.

import { api, isAbort } from "./api.js";
import { busy, count, el, emptyState, failed, fill, percent, photographs, say, toolbar } from "./dom.js";
import { Grid } from "./grid.js";
import { giveAll, labelColumns } from "./labels.js";
import { toast } from "./layers.js";
import { openPhoto } from "./photo.js";
import { inSight, selection } from "./selection.js";
import { List } from "./sources.js";
import { go, listen, state, tellAll, watch } from "./state.js";

const LIMIT = 200;
let collection, grid, scroller, notice, counter, columns, classes, orders, acceptAll, note;
let accepted = new Map(); // id -> the label it has been given since the ranking, or by whom
let shown = "";
let abort = new AbortController();

export function startLabelHelp(of) {
  collection = of;
  const section = document.getElementById("view-help");
  columns = el("select", { id: "help-column", onchange: () => go({ helpColumn: columns.value, helpClass: "" }) });
  classes = el(
    "select",
    { id: "help-class", onchange: () => go({ helpClass: classes.value }) },
    el("option", { value: "" }, "any class"),
  );
  orders = Object.fromEntries(
    [
      ["certain", "Most certain", "Photographs that most surely are of the class: quick to accept"],
      ["useful", "Most useful", "Photographs that the classifier is in doubt about: a label here teaches it most"],
    ].map(([order, title, why]) => [
      order,
      el("button", { type: "button", title: why, onclick: () => go({ helpOrder: order }) }, title),
    ]),
  );
  acceptAll = el("button", { type: "button", class: "primary", onclick: acceptSelected });
  counter = el("p", { class: "count" });
  note = el("p", { class: "hint note" });
  notice = el("div", { class: "notice", hidden: true });
  scroller = el("div", { class: "scroller" });
  section.append(
    toolbar(
      counter,
      el("label", { class: "tool", for: "help-column" }, el("span", {}, "Column"), columns),
      el("label", { class: "tool", for: "help-class" }, el("span", {}, "Class"), classes),
      el("div", { class: "segmented", role: "group", "aria-label": "Which come first" }, Object.values(orders)),
      el(
        "button",
        { type: "button", class: "quiet", onclick: () => load() },
        el("span", { class: "always" }, "Rank again"),
      ),
      acceptAll,
    ),
    note,
    notice,
    scroller,
  );
  grid = new Grid(scroller, {
    label: "Suggested photographs",
    caption: (photo) => [
      accepted.has(photo.id) ? `✓ ${accepted.get(photo.id).value}` : (photo.label ?? ""),
      accepted.has(photo.id) ? (accepted.get(photo.id).by ?? "accepted") : `${percent(photo.score ?? 0)} sure`,
    ],
    mark: (photo) => accepted.has(photo.id),
    onOpen: (index) => openPhoto(grid.source.at(index)?.id, { source: grid.source, index }),
    onKey: (event, index) => {
      if (event.key.toLowerCase() !== "a" || event.ctrlKey || event.metaKey) return false;
      accept(index, event.repeat);
      return true;
    },
  });
  grid.setSize(innerWidth < 600 ? 150 : 200);
  drawTools();
  watch((now) => {
    if (now.view !== "help") return;
    drawTools();
    if (keyOf(now) !== shown) load();
  });
  listen("columns", drawTools);
  listen("selection", drawTools);
  listen("undone", ({ ids }) => {
    if (ids?.length && ids.every((id) => accepted.has(id))) return backTo(ids);
    shown = "";
    if (state().view === "help") load();
  });
  listen("theirs", ({ ids, by, column, undone }) => {
    if (column !== state().helpColumn || !grid.source) return;
    const theirs = ids.filter((id) => grid.source.photos.some((photo) => photo.id === id));
    if (undone) unmark(theirs);
    else
      mark(
        theirs.filter((id) => !accepted.has(id)),
        { value: "labelled", by: `by ${by}` },
      );
  });
  inSight("help", (ids) => (scroller.hidden ? [] : (grid.source?.among(ids) ?? [])));
  if (state().view === "help") load();
}

const keyOf = (now) => JSON.stringify([now.helpColumn, now.helpClass, now.helpOrder]);

function drawTools() {
  const now = state();
  const names = [...new Set([...labelColumns(), now.helpColumn])];
  fill(
    columns,
    names.map((name) => el("option", { value: name }, name)),
  );
  columns.value = now.helpColumn;
  for (const [order, button] of Object.entries(orders))
    button.setAttribute("aria-pressed", String(order === now.helpOrder));
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
  fill(notice, busy("Learning from the labels")).hidden = false;
  try {
    const answer = await api.suggest(
      { column: now.helpColumn, label: now.helpClass, order: now.helpOrder, limit: LIMIT },
      signal,
    );
    if (!signal.aborted) draw(now, answer);
  } catch (error) {
    if (isAbort(error)) return;
    shown = "";
    if (error.status >= 400 && error.status < 500) fill(notice, teach(error.message));
    else fill(notice, failed(error, load));
  }
}

function teach(message) {
  return emptyState(
    "tag",
    "A few labels first",
    [
      message,
      "In the gallery, select some photographs of one kind and label them; do the same for a second kind. Then come back: the rest is ranked for you.",
    ],
    el("button", { type: "button", class: "primary", onclick: () => go({ view: "gallery" }) }, "To the gallery"),
  );
}

function draw(now, { classes: all, photos, note: words }) {
  fill(
    classes,
    el("option", { value: "" }, "any class"),
    all.map(({ name, count: number }) => el("option", { value: name }, `${name} (${count(number)})`)),
  );
  if (now.helpClass && !all.some(({ name }) => name === now.helpClass))
    classes.append(el("option", { value: now.helpClass }, now.helpClass));
  classes.value = now.helpClass;
  note.textContent = [
    words,
    collection.writable && photos.length ? "A accepts the suggestion and goes on; arrows move; Enter opens." : "",
  ]
    .filter(Boolean)
    .join(" ");
  if (!photos.length) {
    fill(
      notice,
      all.length < 2
        ? teach(words || "There are not yet two classes to tell apart.")
        : emptyState("check", "Nothing left to label", `Every photograph has a value in ${now.helpColumn} already.`),
    );
    counter.textContent = "";
    return;
  }
  notice.hidden = true;
  scroller.hidden = false;
  grid.show(new List(photos));
  tellAll("shown");
  tally();
  grid.focus();
}

function tally() {
  const mine = [...accepted.values()].filter(({ by }) => !by).length;
  counter.textContent = `${photographs(grid.source.total)} suggested${mine ? `, ${count(mine)} accepted` : ""}`;
}

/** Accept what is suggested, once its picture is there to be judged; a key held down waits for it. */
function accept(index, held) {
  const photo = grid.source.at(index);
  if (!photo || !collection.writable) return;
  const picture = grid.pictureOf(index);
  if (picture !== "loaded" && (held || picture !== "broken")) {
    grid.move(index); // perhaps it was scrolled away
    if (!held) say("The picture has not arrived yet");
    return;
  }
  if (!accepted.has(photo.id)) {
    const value = photo.label || state().helpClass;
    mark([photo.id], { value });
    say(`${photo.name} is ${value}`);
    write([{ ids: [photo.id], column: state().helpColumn, value }], { gather: true });
  }
  grid.move(index + 1);
}

/** Accept the selected that are suggested; the others are told of, and stay selected. */
function acceptSelected() {
  const suggested = new Map(grid.source?.photos.map((photo) => [photo.id, photo.label]));
  const values = new Map();
  for (const id of selection.ids()) {
    const value = suggested.get(id) || state().helpClass;
    if (suggested.has(id) && value && !accepted.has(id)) values.set(value, [...(values.get(value) ?? []), id]);
  }
  const ids = [...values.values()].flat();
  const others = selection.size - ids.length;
  if (others) {
    const done = ids.length ? `${photographs(ids.length)} accepted. ` : "Nothing accepted: ";
    const what = others === 1 ? "1 selected photograph is" : `${count(others)} selected photographs are`;
    toast(`${done}${what} no suggestion here, and ${others === 1 ? "stays" : "stay"} selected.`);
  }
  if (!ids.length) return;
  selection.remove(ids);
  for (const [value, some] of values) mark(some, { value });
  write([...values].map(([value, some]) => ({ ids: some, column: state().helpColumn, value })));
}

/** Write labels; those that are not written are suggestions again. */
async function write(labels, how) {
  if (!(await giveAll(labels, how))) unmark(labels.flatMap(({ ids }) => ids));
}

function mark(ids, how) {
  for (const id of ids) accepted.set(id, how);
  tally();
  grid.refresh();
}

function unmark(ids) {
  for (const id of ids) accepted.delete(id);
  tally();
  grid.refresh();
}

/** What was accepted is taken back: go on there. */
function backTo(ids) {
  unmark(ids);
  grid.move(grid.source.photos.findIndex((photo) => photo.id === ids[0]));
}
