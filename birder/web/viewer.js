// @ts-check
// One image: large, with its row, its neighbours, what it may show, and its label.

import { api, isAbort, thumbnailUrl } from "./api.js";
import { Boxes } from "./boxes.js";
import { clip } from "./clip.js";
import { COUNT, canCount, countField } from "./countfield.js";
import { decide, decisionButtons } from "./deciding.js";
import { decisionOf } from "./decisions.js";
import { busy, closest, el, fadingImage, failed, fill, icon, iconButton } from "./dom.js";
import { clock, columnValue, cosine, fileName, percent } from "./format.js";
import { focusGallery, galleryShown, gallerySource } from "./gallery.js";
import { currentColumn, labelBox } from "./labelbox.js";
import { give } from "./labels.js";
import { layer } from "./layers.js";
import { noImage } from "./noimage.js";
import { openContext, openPhoto, setContext } from "./opening.js";
import { searchLike, searchUnlike } from "./search.js";
import { selection } from "./selection.js";
import { listen } from "./signals.js";
import { List } from "./sources.js";
import { decideStack } from "./stackdeciding.js";
import { Stacks } from "./stacksource.js";
import { folds } from "./stacktile.js";
import { go, state, watch } from "./state.js";
import { stackStrip } from "./viewerstack.js";
import { Zoom } from "./zoom.js";

/**
 * @import {Clip} from "./clip.js"
 * @import {Decision} from "./decisions.js"
 * @import {LabelBox} from "./labelbox.js"
 * @import {Child, Collection, Context, Photo, PhotoDetails, Predictions, VideoOfFrame} from "./types.js"
 */

const LARGE = 900; // CSS pixels
const ENLARGED = 3.5; // times
const SWIPE = 50; // CSS pixels
const NEIGHBOURS = 12;
const NEAR = 50; // images of a list, among which another box of the same one is looked for
const AFTER_OTHERS = ["taken_at", "latitude", "longitude"]; // these columns stand before the technical ones

/**
 * The open view: its element, its parts, and what it shows.
 * @typedef {object} View
 * @property {ReturnType<typeof newParts>} parts
 * @property {Zoom} zoom
 * @property {Boxes} boxes
 * @property {string} id
 * @property {PhotoDetails["row"] | null} row
 * @property {LabelBox | null} box
 * @property {Clip | null} clip of a frame
 * @property {() => void} close
 */

/** @type {Collection} */
let collection;
/** @type {View | null} */
let view = null;
let abort = new AbortController();
/** @type {WeakMap<Element, object>} what was asked last for each part of the view */
const latest = new WeakMap();

/** @param {Collection} of */
export function startViewer(of) {
  collection = of;
  watch(({ photo }) => sync(photo));
  document.addEventListener("keydown", (event) => view && key(view, event));
  listen("selection", () => view && drawSelected(view));
  /** @param {{ids: string[]}} labelled */
  const labelled = ({ ids }) => {
    view?.boxes.again(ids);
    if (view && ids.includes(view.id)) drawDetails(view);
  };
  listen("labels", labelled);
  listen("theirs", labelled);
  listen("undone", () => {
    view?.boxes.again();
    if (view) drawDetails(view);
  });
  listen("labels", () => view?.parts.stack.redraw());
  listen("theirs", () => view?.parts.stack.renew());
  listen("undone", () => view?.parts.stack.renew());
  sync(state().photo);
}

/** @param {string} id */
function sync(id) {
  if (!id) {
    abort.abort();
    view?.clip?.end();
    view?.close();
    view = null;
    return;
  }
  if (view?.id === id) return;
  view ??= build();
  show(view, id);
}

const currentId = () => view?.id ?? "";

/**
 * The images that what is done here is for: the open one, or its whole stack.
 * @returns {Promise<string[]>}
 */
const meant = async () => (view ? view.parts.stack.meant(view.id) : []);

function newParts() {
  return {
    image: el("img", { class: "large", alt: "", draggable: "false" }),
    stage: el("div", { class: "stage" }),
    decisions: decisionButtons((decision) => view && decideOn(view, decision, false)),
    title: el("h2", { class: "photo-title" }),
    position: el("span", { class: "hint position" }),
    video: el("div", {}),
    boxes: el("div", {}),
    label: el("div", {}),
    count: countField({
      apply: async (value) => give(await meant(), COUNT, value),
      offered: () => textOf(view?.row?.[COUNT]),
    }),
    stack: stackStrip(() => view && drawSelected(view)),
    row: el("div", {}),
    predictions: el("div", {}),
    neighbours: el("div", {}),
    select: el("button", { type: "button", onclick: toggleSelected }),
    previous: iconButton("left", "Previous image (left arrow)", () => step(-1), {
      class: "icon-button turn previous",
    }),
    next: iconButton("right", "Next image (right arrow)", () => step(1), { class: "icon-button turn next" }),
  };
}

/** @returns {View} */
function build() {
  const parts = newParts();
  const closer = iconButton("x", "Close (Esc)", leave);
  /**
   * @param {string} title
   * @param {Child[]} children
   */
  const section = (title, ...children) => el("section", {}, el("h3", {}, title), children);
  const element = el(
    "div",
    { class: "photo", "aria-label": "Image" },
    el("div", { class: "stage-side" }, parts.stage, parts.previous, parts.next),
    el(
      "div",
      { class: "details" },
      el("header", {}, el("div", { class: "heading" }, parts.title, parts.position), closer),
      el(
        "div",
        { class: "photo-actions" },
        el("button", { type: "button", class: "primary", onclick: () => searchLike([currentId()]) }, "More like this"),
        el("button", { type: "button", onclick: () => searchUnlike([currentId()]) }, "Unlike this"),
        parts.select,
      ),
      parts.video,
      parts.stack.element,
      parts.boxes,
      section(
        "Label",
        parts.label,
        canCount(collection) ? parts.count.element : null,
        collection.writable ? parts.decisions.element : null,
      ),
      section("Nearest images", parts.neighbours),
      section("What it may show", parts.predictions),
      section("Its row", parts.row),
    ),
  );
  const { image } = parts;
  const zoom = new Zoom(parts.stage);
  const boxes = new Boxes(image, zoom, { open: openBox, show: () => view && turn(view), collection });
  parts.boxes.replaceWith(boxes.element);
  image.addEventListener("load", () => {
    image.style.width = shownWidth(image.naturalWidth);
    if (view?.clip?.player) view.clip.player.style.width = image.style.width;
    image.classList.add("loaded");
    if (image.isConnected) zoom.look(image, boxes.shown, boxes.fullAddress);
  });
  image.addEventListener(
    "error",
    () => view && !view.clip?.player?.isConnected && fill(parts.stage, noImage(view.row?.uri)),
  );
  element.querySelector(".stage-side")?.append(zoom.tools);
  listenForSwipes(parts.stage, zoom);
  return {
    parts,
    zoom,
    boxes,
    id: "",
    row: null,
    box: null,
    clip: null,
    close: layer(element, { onclose: leave, focus: closer }),
  };
}

/**
 * A small image is shown larger than it is, but not so large that it dissolves.
 * @param {number} width
 */
const shownWidth = (width) => (width < LARGE ? `${Math.min(LARGE, ENLARGED * width)}px` : "");

function leave() {
  const context = openContext();
  const index = context && context.source === gallerySource() ? context.index : undefined;
  go({ photo: "" });
  if (state().view === "gallery") focusGallery(index);
}

/**
 * @param {View} of
 * @param {KeyboardEvent} event
 */
function key(of, event) {
  if (closest(event, "input:not([type=range], [type=checkbox]), select, textarea")) return;
  if (closest(event, "input") && (event.key.startsWith("Arrow") || event.key === " ")) return; // the input's own
  if (closest(event, "video") && (event.key.startsWith("Arrow") || event.key === " ")) return; // the player's own
  if (of.boxes.key(event)) event.stopPropagation();
  else if (event.key === "ArrowLeft") step(-1);
  else if (event.key === "ArrowRight") step(1);
  else if (event.key === "ArrowUp" || event.key === "ArrowDown") {
    if (!of.parts.stack.step(event.key === "ArrowDown" ? 1 : -1)) return;
  } else if (decisionOf(event) !== undefined) decideOn(of, decisionOf(event), event.repeat);
  else if (!event.ctrlKey && !event.metaKey && of.zoom.key(event)) event.stopPropagation();
  else if (event.key === " " && !(event.target instanceof HTMLButtonElement)) toggleSelected();
  else if (event.key.toLowerCase() === "l" && !event.ctrlKey && !event.metaKey) of.box?.focusText();
  else if (event.key.toLowerCase() === "c" && !event.ctrlKey && !event.metaKey) of.parts.count.focus();
  else if (event.key.toLowerCase() === "p" && !event.ctrlKey && !event.metaKey && of.clip) play(of, of.clip);
  else return;
  event.preventDefault();
}

/**
 * Play the video of a frame, or pause it; in place of the cut-out, if that is shown.
 * @param {View} of
 * @param {Clip} clip
 */
function play({ parts }, clip) {
  if (clip.player && !clip.player.isConnected && parts.image.isConnected) fill(parts.stage, clip.player);
  clip.toggle();
}

/**
 * Decide what the open image shows, and go on.
 * @param {View} of
 * @param {Decision | undefined} decision
 * @param {boolean} held whether the key is held down
 */
async function decideOn(of, decision, held) {
  const { row, parts, id } = of;
  const loaded = parts.image.classList.contains("loaded") || !parts.image.isConnected;
  if (decision === undefined || !row || !collection.writable || (held && !loaded)) return;
  const context = openContext();
  const byName = decision === "accept" || decision === "reject";
  const column = context?.column ?? (byName ? "label" : currentColumn());
  if (parts.stack.whole() && context) {
    if ((await decideStack(context.source, context.index, decision, column)) && view?.id === id) step(1);
    return;
  }
  const listed = context?.source.at(context.index);
  const photo =
    listed?.id === of.id && listed.predicted
      ? listed
      : { id: of.id, name: "", label: null, width: null, height: null, v: "", ...predictedIn(row) };
  if (decide(decision, [photo], column)) goOn(of);
}

/**
 * Go to what comes after an image that was labelled: past its stack if all of that was.
 * @param {View} of
 */
function goOn({ parts }) {
  if (parts.stack.whole() || !parts.stack.step(1)) step(1);
}

async function toggleSelected() {
  selection.toggleAll(await meant());
}

/**
 * What a row says that a model named it, and what was rejected of that.
 * @param {PhotoDetails["row"]} row
 */
function predictedIn(row) {
  const names = ["label", ...[...collection.ranks].reverse()].map((rank) => textOf(row[`predicted_${rank}`]));
  return { predicted: names.find(Boolean) ?? null, rejected: textOf(row.rejected) };
}

/**
 * @param {HTMLElement} stage
 * @param {Zoom} zoom
 */
function listenForSwipes(stage, zoom) {
  /** @type {number | null} */
  let start = null;
  stage.addEventListener(
    "touchstart",
    (event) => {
      const single = zoom.isWhole && event.touches.length === 1 && !closest(event, "video"); // on a video, a finger seeks
      start = single ? event.touches[0].clientX : null;
    },
    { passive: true },
  );
  stage.addEventListener("touchend", (event) => {
    const way = start === null ? 0 : event.changedTouches[0].clientX - start;
    if (Math.abs(way) > SWIPE) step(way > 0 ? -1 : 1);
  });
}

/**
 * Find where an image is in the gallery, if the page was opened at it.
 * @param {string} id
 * @returns {Promise<Context | null>}
 */
async function find(id) {
  if (state().view !== "gallery") return null;
  await galleryShown;
  const source = gallerySource();
  const index = source ? await source.placeOf(id) : -1;
  return source && index >= 0 ? { source, index } : null;
}

/** @param {number} by */
async function step(by) {
  const id = currentId();
  const isOpen = () => view !== null && view.id === id;
  try {
    const context = openContext() ?? (await find(id));
    setContext(context);
    if (!context || !isOpen()) return;
    const { source } = context;
    const index = context.index + by;
    if (index < 0 || index >= source.total) return;
    const next = source.at(index)?.id ?? (await source.ids(index, index))[0];
    if (!isOpen()) return;
    setContext({ source, index });
    go({ photo: next }, { replace: true });
  } catch (error) {
    if (view)
      fill(
        view.parts.neighbours,
        failed(error, () => step(by)),
      );
  }
}

/**
 * Open the row of another box of the same image; the arrows go on from it if it stands near in the list.
 * @param {string} id
 */
function openBox(id) {
  const context = openContext();
  const near = Array.from({ length: 2 * NEAR + 1 }, (_, place) => (context?.index ?? 0) + place - NEAR);
  const index = near.find((each) => each >= 0 && context?.source.at(each)?.id === id);
  if (context && index !== undefined) setContext({ ...context, index });
  go({ photo: id }, { replace: true });
}

/**
 * Ask for the image, whole or what the box shows.
 * @param {View} of
 */
function look({ parts, zoom, boxes }) {
  parts.image.classList.remove("loaded");
  zoom.look(null, boxes.shown);
  parts.image.src = boxes.address;
  fill(parts.stage, parts.image, boxes.overlay);
}

/**
 * Show the cut-out of a box in place of the whole image or of the video, or these again.
 * @param {View} of
 */
function turn(of) {
  look(of);
  if (of.boxes.showsWhole && of.clip?.player) fill(of.parts.stage, of.clip.player);
}

/**
 * @param {View} of
 * @param {string} id
 */
function show(of, id) {
  abort.abort();
  abort = new AbortController();
  const { parts } = of;
  of.id = id;
  of.clip?.end();
  of.row = of.box = of.clip = null;
  if (of.boxes.look(id)) fill(parts.stage, parts.image, of.boxes.overlay);
  else look(of);
  parts.decisions.draw(openContext()?.column ?? currentColumn());
  fill(parts.label);
  fill(parts.video);
  parts.count.renew();
  drawStack(of);
  parts.title.textContent = "";
  drawSelected(of);
  drawPosition(of);
  fill(parts.neighbours, el("div", { class: "strip" }));
  fill(parts.predictions, busy("Looking"));
  drawDetails(of);
  const { signal } = abort;
  of.boxes.load(signal);
  drawPart(
    of,
    parts.neighbours,
    () => api.neighbours(id, NEIGHBOURS, signal),
    ({ photos }) => drawNeighbours(of, photos),
  );
  drawPart(
    of,
    parts.predictions,
    () => api.predictions(id, signal),
    (found) => drawPredictions(of, found),
  );
}

/**
 * Fill one part of the view from a request of its own: none waits for another, or fails with it.
 * @template T
 * @param {View} of
 * @param {Element} element
 * @param {() => Promise<T>} ask
 * @param {(answer: T) => void} draw
 */
async function drawPart(of, element, ask, draw) {
  const { id } = of;
  const question = {};
  latest.set(element, question); // an answer to an earlier one may come after it
  const isOpen = () => view === of && of.id === id && latest.get(element) === question;
  try {
    const answer = await ask();
    if (isOpen()) draw(answer);
  } catch (error) {
    if (!isAbort(error) && isOpen())
      fill(
        element,
        failed(error, () => drawPart(of, element, ask, draw)),
      );
  }
}

/**
 * The stack of the open image, which is looked for if the page was opened at it.
 * @param {View} of
 */
async function drawStack(of) {
  const { parts, id } = of;
  try {
    if (!openContext() && folds(state())) {
      const context = await find(id);
      if (view !== of || of.id !== id) return;
      setContext(context);
      drawPosition(of);
    }
    await parts.stack.draw(id);
    if (view === of) drawSelected(of);
  } catch (error) {
    if (view === of && of.id === id)
      fill(
        parts.neighbours,
        failed(error, () => drawStack(of)),
      );
  }
}

/** @param {View} of */
function drawPosition({ parts }) {
  const context = openContext();
  const what = context?.source instanceof Stacks ? "Stack " : "";
  parts.position.textContent = context ? `${what}${context.index + 1} of ${context.source.total}` : "";
  parts.previous.disabled = context !== null && context.index === 0;
  parts.next.disabled = context !== null && context.index >= context.source.total - 1;
}

/** @param {View} of */
function drawSelected({ parts, id }) {
  const on = (parts.stack.whole()?.map((photo) => photo.id) ?? [id]).every(selection.has);
  fill(parts.select, on ? icon("check") : null, on ? "Selected" : "Select");
  parts.select.setAttribute("aria-pressed", String(on));
}

/** @param {View} of */
function drawDetails(of) {
  const { parts, id } = of;
  const { signal } = abort;
  drawPart(
    of,
    parts.row,
    () => api.photo(id, signal),
    (photo) => {
      const { video } = photo;
      parts.title.textContent = video ? `${video.name} at ${clock(video.seconds)}` : fileName(photo.name);
      parts.title.title = photo.uri;
      parts.image.alt = photo.row.label ? `${photo.row.label} (${photo.name})` : photo.name;
      if (video && photo.image && !of.row) drawClip(of, photo, video);
      of.row = photo.row;
      if (of.parts.stage.querySelector(".empty")) fill(of.parts.stage, noImage(photo.row.uri));
      if (of.box)
        of.box.renew(); // the same image: what is typed stays
      else {
        of.box = labelBox({
          compact: true,
          apply: async (column, value) => {
            const done = await give(await meant(), column, value);
            if (done && value !== null && view?.id === id) goOn(of);
            return done;
          },
          valueIn: (column) => textOf(of.row?.[column]),
        });
        fill(parts.label, of.box.element);
      }
      parts.count.renew();
      fill(parts.row, rowTable(photo));
    },
  );
}

/**
 * Put the player of a frame's video in place of the frame, which is its poster; back if the browser cannot play it.
 * @param {View} of
 * @param {PhotoDetails} photo
 * @param {VideoOfFrame} video
 */
function drawClip(of, photo, video) {
  const { parts, id } = of;
  of.clip = clip(photo, video, parts.image.alt, () => {
    if (view !== of || of.id !== id) return;
    look(of); // again: it says so if the frame cannot be shown either
  });
  fill(parts.video, of.clip.note);
  const { player } = of.clip;
  if (!player) return;
  of.zoom.look(null, id);
  player.style.width = parts.image.style.width;
  // The video is shown whole, and without boxes: they are of one of its frames.
  player.addEventListener("loadedmetadata", () =>
    Object.assign(player.style, { width: shownWidth(player.videoWidth) }),
  );
  if (of.boxes.showsWhole || !photo.uri.includes("xywh=")) fill(parts.stage, player);
}

/** @param {unknown} value */
const textOf = (value) => (typeof value === "string" ? value : "");

/** @param {PhotoDetails} photo */
function rowTable({ uri, row }) {
  const first = ["label", ...collection.ranks];
  const last = [...AFTER_OTHERS, ...collection.technical_columns];
  /** @param {string} name */
  const place = (name) =>
    first.includes(name) ? first.indexOf(name) - first.length : last.includes(name) ? 1 + last.indexOf(name) : 0;
  const names = Object.keys(row)
    .filter((name) => row[name] !== null)
    .sort((a, b) => place(a) - place(b));
  const empty = Object.keys(row).filter((name) => row[name] === null);
  return [
    el(
      "table",
      { class: "row" },
      el(
        "tbody",
        {},
        names.map((name) => el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, shownValue(name, row[name])))),
      ),
    ),
    "uri" in row ? null : el("p", { class: "hint" }, uri),
    empty.length ? el("p", { class: "hint" }, `No value: ${empty.join(", ")}`) : null,
  ];
}

/**
 * @param {string} name
 * @param {unknown} value
 */
function shownValue(name, value) {
  const column = collection.columns.find((each) => each.name === name);
  return columnValue(name, column?.type, value);
}

/**
 * @param {View} of
 * @param {Photo[]} photos
 */
function drawNeighbours({ parts, id }, photos) {
  const others = photos.filter((photo) => photo.id !== id);
  if (!others.length) {
    fill(parts.neighbours, el("p", { class: "hint" }, "There are no other images to compare with."));
    return;
  }
  const source = new List(others);
  fill(
    parts.neighbours,
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
          fadingImage(thumbnailUrl(photo, 96)),
          el("span", { class: "name" }, photo.label || fileName(photo.name)),
          el(
            "span",
            { class: "detail" },
            el("span", { class: "unseen" }, "similarity "),
            cosine(photo.similarity ?? 0),
          ),
        ),
      ),
    ),
  );
}

/**
 * @param {View} of
 * @param {Predictions} found
 */
function drawPredictions({ parts }, { method, column, predictions, note }) {
  const canLabel = collection.writable && method !== "classes";
  fill(
    parts.predictions,
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
              canLabel
                ? iconButton("check", `Label it “${name}”`, async () => give(await meant(), column ?? "label", name))
                : null,
            ),
          ),
        )
      : null,
    el("p", { class: "hint" }, note || "No predictions yet: label a few images first."),
  );
}
