// One photograph: large, with its row, its neighbours, what it may show, and its label.

import { api, image, isAbort, thumbnail } from "./api.js";
import { busy, bytes, cosine, decimal, el, emptyState, failed, fill, icon, iconButton, percent, time } from "./dom.js";
import { focusGallery, galleryShown, gallerySource } from "./gallery.js";
import { labelBox } from "./labelbox.js";
import { give } from "./labels.js";
import { layer } from "./layers.js";
import { searchLike, searchUnlike } from "./search.js";
import { selection } from "./selection.js";
import { List } from "./sources.js";
import { go, listen, state, watch } from "./state.js";

const FIRST = ["label", "kingdom", "phylum", "class", "order", "family", "genus", "species"];
const LAST = [
  "width",
  "height",
  "bytes",
  "modified",
  "taken_at",
  "latitude",
  "longitude",
  "uri",
  "id",
  "sha256",
  "etag",
];
const LARGE = 900; // pixels
const ENLARGED = 3.5; // times
let collection;
let context = null; // {source, index}: what the arrows go through
let view = null; // the open view: its element, its parts, and `close`
let abort = new AbortController();

/** Open a photograph; the arrows then go through `source`, where it is at `index`. */
export function openPhoto(id, where = null) {
  if (!id) return;
  context = where;
  go({ photo: id });
}

export function startPhoto(of) {
  collection = of;
  watch(({ photo }) => sync(photo));
  document.addEventListener("keydown", (event) => view && key(event));
  listen("selection", () => view && drawSelected());
  listen("labels", ({ ids }) => view && ids.includes(view.id) && drawDetails(view.id));
  listen("theirs", ({ ids }) => view && ids.includes(view.id) && drawDetails(view.id));
  listen("undone", () => view && drawDetails(view.id));
  sync(state().photo);
}

function sync(id) {
  if (!id) {
    abort.abort();
    view?.close();
    view = null;
    return;
  }
  if (view?.id === id) return;
  view ??= build();
  show(id);
}

function build() {
  const parts = {
    picture: el("img", { class: "large", alt: "" }),
    stage: el("div", { class: "stage" }),
    title: el("h2", { class: "photo-title" }),
    position: el("span", { class: "hint position" }),
    label: el("div", {}),
    row: el("div", {}),
    predictions: el("div", {}),
    neighbours: el("div", {}),
    select: el("button", { type: "button", onclick: () => selection.toggle(view.id) }),
    previous: iconButton("left", "Previous photograph (left arrow)", () => step(-1), {
      class: "icon-button turn previous",
    }),
    next: iconButton("right", "Next photograph (right arrow)", () => step(1), { class: "icon-button turn next" }),
  };
  const closer = iconButton("x", "Close (Esc)", leave);
  const section = (title, ...children) => el("section", {}, el("h3", {}, title), children);
  const element = el(
    "div",
    { class: "photo", "aria-label": "Photograph" },
    el("div", { class: "stage-side" }, parts.stage, parts.previous, parts.next),
    el(
      "div",
      { class: "details" },
      el("header", {}, el("div", { class: "heading" }, parts.title, parts.position), closer),
      el(
        "div",
        { class: "photo-actions" },
        el("button", { type: "button", class: "primary", onclick: () => searchLike([view.id]) }, "More like this"),
        el("button", { type: "button", onclick: () => searchUnlike([view.id]) }, "Unlike this"),
        parts.select,
      ),
      section("Label", parts.label),
      section("Nearest photographs", parts.neighbours),
      section("What it may show", parts.predictions),
      section("Its row", parts.row),
    ),
  );
  parts.picture.addEventListener("load", () => {
    const { picture } = parts;
    // A small photograph is shown larger than it is, but not so large that it dissolves.
    picture.style.width = picture.naturalWidth < LARGE ? `${Math.min(LARGE, ENLARGED * picture.naturalWidth)}px` : "";
    picture.classList.add("loaded");
  });
  parts.picture.addEventListener(
    "error",
    () =>
      view &&
      fill(
        parts.stage,
        emptyState(
          "picture",
          "The picture cannot be shown",
          "Its file is not where it was when it was embedded, or cannot be read any more. Its row and its embedding are still here.",
        ),
      ),
  );
  swipe(parts.stage);
  return { element, parts, id: "", close: layer(element, { onclose: leave, focus: closer }) };
}

function leave() {
  const index = context?.source === gallerySource() ? context.index : undefined;
  go({ photo: "" });
  if (state().view === "gallery") focusGallery(index);
}

function key(event) {
  if (event.target.closest("input, select, textarea")) return;
  if (event.key === "ArrowLeft") step(-1);
  else if (event.key === "ArrowRight") step(1);
  else if (event.key === " " && event.target.tagName !== "BUTTON") selection.toggle(view.id);
  else if (event.key.toLowerCase() === "l" && !event.ctrlKey && !event.metaKey) view.box?.focusText?.();
  else return;
  event.preventDefault();
}

function swipe(stage) {
  let start = null;
  stage.addEventListener(
    "touchstart",
    (event) => (start = event.touches.length === 1 ? event.touches[0].clientX : null),
    { passive: true },
  );
  stage.addEventListener("touchend", (event) => {
    const way = start === null ? 0 : event.changedTouches[0].clientX - start;
    if (Math.abs(way) > 50) step(way > 0 ? -1 : 1);
  });
}

/** Find where the photograph is, if the page was opened at it. */
async function find(id) {
  if (state().view !== "gallery") return null;
  await galleryShown;
  const source = gallerySource();
  const index = (await source.ids()).indexOf(id);
  return index < 0 ? null : { source, index };
}

async function step(by) {
  const { id } = view;
  try {
    context ??= await find(id);
    if (!context || !view || view.id !== id) return;
    const index = context.index + by;
    if (index < 0 || index >= context.source.total) return;
    const [next] = context.source.at(index) ? [context.source.at(index).id] : await context.source.ids(index, index);
    if (!view || view.id !== id) return;
    context = { ...context, index };
    go({ photo: next }, { replace: true });
  } catch (error) {
    fill(
      view.parts.neighbours,
      failed(error, () => step(by)),
    );
  }
}

function show(id) {
  abort.abort();
  abort = new AbortController();
  const { parts } = view;
  view.id = id;
  view.row = view.box = null;
  parts.picture.classList.remove("loaded");
  parts.picture.src = image(id);
  fill(parts.stage, parts.picture);
  fill(parts.label);
  parts.title.textContent = "";
  drawSelected();
  drawPosition();
  fill(parts.neighbours, el("div", { class: "strip" }));
  fill(parts.predictions, busy("Looking"));
  drawDetails(id);
  part(id, parts.neighbours, () => api.neighbours(id, 12, abort.signal), drawNeighbours);
  part(id, parts.predictions, () => api.predictions(id, abort.signal), drawPredictions);
}

/** Fill one part of the view from a request of its own: none waits for another, or fails with it. */
async function part(id, element, ask, draw) {
  try {
    const answer = await ask();
    if (view?.id === id) draw(answer);
  } catch (error) {
    if (!isAbort(error) && view?.id === id)
      fill(
        element,
        failed(error, () => part(id, element, ask, draw)),
      );
  }
}

function drawPosition() {
  const { parts } = view;
  const total = context?.source.total;
  parts.position.textContent = context ? `${context.index + 1} of ${total}` : "";
  parts.previous.disabled = Boolean(context) && context.index === 0;
  parts.next.disabled = Boolean(context) && context.index >= total - 1;
}

function drawSelected() {
  const on = selection.has(view.id);
  fill(view.parts.select, on ? icon("check") : null, on ? "Selected" : "Select");
  view.parts.select.setAttribute("aria-pressed", String(on));
}

function drawDetails(id) {
  part(
    id,
    view.parts.row,
    () => api.photo(id, abort.signal),
    (photo) => {
      const { parts } = view;
      parts.title.textContent = photo.name.split("/").pop();
      parts.title.title = photo.uri;
      parts.picture.alt = photo.row.label ? `${photo.row.label} (${photo.name})` : photo.name;
      view.row = photo.row;
      if (view.box)
        view.box.renew?.(); // the same photograph: what is typed stays
      else {
        const apply = (column, value) => give([id], column, value);
        view.box = labelBox({ compact: true, apply, valueIn: (column) => view?.row?.[column] });
        fill(parts.label, view.box);
      }
      fill(parts.row, rowTable(photo));
    },
  );
}

function rowTable({ uri, row }) {
  const rank = (name) =>
    FIRST.includes(name) ? FIRST.indexOf(name) : LAST.includes(name) ? 100 + LAST.indexOf(name) : 50;
  const names = Object.keys(row)
    .filter((name) => row[name] !== null)
    .sort((a, b) => rank(a) - rank(b));
  const empty = Object.keys(row).filter((name) => row[name] === null);
  return [
    el(
      "table",
      { class: "row" },
      el(
        "tbody",
        {},
        names.map((name) => el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, written(name, row[name])))),
      ),
    ),
    "uri" in row ? null : el("p", { class: "hint" }, uri),
    empty.length ? el("p", { class: "hint" }, `No value: ${empty.join(", ")}`) : null,
  ];
}

function written(name, value) {
  if (name === "bytes") return bytes(value);
  const column = collection.columns.find((each) => each.name === name);
  if (column?.type === "time") return time(value);
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : decimal(value);
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function drawNeighbours({ photos }) {
  const others = photos.filter((photo) => photo.id !== view.id);
  if (!others.length)
    return fill(view.parts.neighbours, el("p", { class: "hint" }, "There are no other photographs to compare with."));
  const source = new List(others);
  fill(
    view.parts.neighbours,
    el(
      "div",
      { class: "strip" },
      others.map((photo, index) =>
        el(
          "button",
          {
            type: "button",
            class: "neighbour",
            title: photo.name,
            onclick: () => openPhoto(photo.id, { source, index }),
          },
          el("img", { alt: "", src: thumbnail(photo, 96), onload: (event) => event.target.classList.add("loaded") }),
          el("span", { class: "name" }, photo.label || photo.name.split("/").pop()),
          el("span", { class: "detail" }, el("span", { class: "unseen" }, "similarity "), cosine(photo.similarity)),
        ),
      ),
    ),
  );
}

const METHODS = {
  examples: "From the labelled photographs nearest to it",
  classes: "From the classes that its model was trained on",
};

function drawPredictions({ method, column, predictions, note }) {
  const from = METHODS[method] ?? "";
  fill(
    view.parts.predictions,
    predictions.length
      ? el(
          "ul",
          { class: "predictions" },
          predictions.map(({ name, score }) =>
            el(
              "li",
              {},
              el("span", { class: "name" }, name),
              el(
                "span",
                { class: "bar" },
                el("span", { style: { width: `${Math.max(1, 100 * Math.min(1, score))}%` } }),
              ),
              el("span", { class: "number" }, percent(score)),
              method === "examples" && collection.writable
                ? iconButton("check", `Label it “${name}”`, () => give([view.id], column ?? "label", name))
                : null,
            ),
          ),
        )
      : null,
    el(
      "p",
      { class: "hint" },
      [predictions.length ? from + (column ? ` (${column}).` : ".") : "", note].filter(Boolean).join(" ") ||
        "Nothing to say about it yet: label a few photographs first.",
    ),
  );
}
