// Label help: given a few labels, the photographs without one, ranked by a classifier on their embeddings.

import { api, isAbort } from "./api.js";
import { busy, count, el, emptyState, failed, fill, percent, photographs, say, toolbar } from "./dom.js";
import { Grid } from "./grid.js";
import { give, labelColumns } from "./labels.js";
import { openPhoto } from "./photo.js";
import { selection } from "./selection.js";
import { List } from "./sources.js";
import { go, listen, state, watch } from "./state.js";

const LIMIT = 200;
let collection, grid, scroller, notice, counter, columns, classes, orders, acceptAll, note;
let accepted = new Set(); // ids labelled since the ranking
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
      accepted.has(photo.id) ? `✓ ${photo.accepted}` : (photo.label ?? ""),
      accepted.has(photo.id) ? "accepted" : `${percent(photo.score ?? 0)} sure`,
    ],
    mark: (photo) => accepted.has(photo.id),
    onOpen: (index) => openPhoto(grid.source.at(index)?.id, { source: grid.source, index }),
    onKey: (event, index) => {
      if (event.key.toLowerCase() !== "a" || event.ctrlKey || event.metaKey) return false;
      accept(index);
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
  listen("undone", () => {
    shown = "";
    if (state().view === "help") load();
  });
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
  accepted = new Set();
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
  tally();
  grid.focus();
}

function tally() {
  counter.textContent = `${photographs(grid.source.total)} suggested${accepted.size ? `, ${count(accepted.size)} accepted` : ""}`;
}

async function accept(index) {
  const photo = grid.source.at(index);
  if (!photo || !collection.writable) return;
  if (!accepted.has(photo.id)) {
    const value = photo.label || state().helpClass;
    mark([photo.id], value);
    say(`${photo.name} is ${value}`);
    give([photo.id], state().helpColumn, value, { quiet: true }).then((done) => done || unmark([photo.id]));
  }
  grid.move(index + 1);
}

async function acceptSelected() {
  const byValue = new Map();
  const suggested = new Map(grid.source.photos.map((photo) => [photo.id, photo.label]));
  for (const id of selection.ids()) {
    const value = suggested.get(id) || state().helpClass;
    if (value && suggested.has(id)) byValue.set(value, [...(byValue.get(value) ?? []), id]);
  }
  selection.clear();
  for (const [value, ids] of byValue) {
    mark(ids, value);
    if (!(await give(ids, state().helpColumn, value))) unmark(ids);
  }
}

function mark(ids, value) {
  for (const id of ids) {
    accepted.add(id);
    grid.source.photos.find((photo) => photo.id === id).accepted = value;
  }
  tally();
  grid.refresh();
}

function unmark(ids) {
  for (const id of ids) accepted.delete(id);
  tally();
  grid.refresh();
}
