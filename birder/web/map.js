// @ts-check
// The map: every image a point, similar ones near each other; colours, a lasso, and what the filters keep.

import { choose, filterOf } from "./activefilters.js";
import { api, thumbnailUrl } from "./api.js";
import { parseColour, rgba } from "./colours.js";
import {
  busy,
  byId,
  el,
  emptyState,
  failed,
  fill,
  icon,
  iconButton,
  keepingFocus,
  messageOf,
  say,
  toolbar,
} from "./dom.js";
import { where } from "./filter.js";
import { count, fileName, images, percent } from "./format.js";
import { TextList } from "./idlist.js";
import { toast } from "./layers.js";
import { drawLegend, NO_VALUE } from "./maplegend.js";
import { MapNames } from "./mapnames.js";
import { openPhoto } from "./opening.js";
import { searchBody } from "./query.js";
import { Scatter } from "./scatter/scatter.js";
import { selection, showsSelected } from "./selection.js";
import { listen, tellAll } from "./signals.js";
import { byIds } from "./sources.js";
import { go, searching, state, watch } from "./state.js";

/**
 * @import {Ids} from "./idlist.js"
 * @import {Collection, Colour, MapColumn, MapState, PhotoDetails, State, Timer} from "./types.js"
 */

const NEAREST = 500;
const HOVER = 60; // milliseconds before a point's image is asked for
const REMEMBERED = 500; // images that were hovered
const FIRST_POLL = 500; // milliseconds until it is asked how far computing is
const POLL = 700;
const ZOOM = 1.5;
const AROUND = 2000; // images that the arrows go through from one that is opened

/** @type {Collection} */
let collection;
/** @type {HTMLElement} */
let section;
/** @type {HTMLElement} */
let stage;
/** @type {HTMLElement} */
let legend;
/** @type {HTMLSelectElement} */
let colourBy;
/** @type {HTMLElement} */
let banner;
/** @type {HTMLElement} */
let counter;
/** @type {Record<"pan" | "lasso", HTMLButtonElement>} */
let modes;
/** @type {{palette: Colour[], missing: Colour}} */
let colours;
/** @type {Scatter | undefined} */
let scatter;
/** @type {MapNames} of its clusters */
let names;
/** @type {Ids} of the points, in their order */
let ids = new TextList([]);
/** @type {Ids | null} those that the filters or the search keep in colour; null for all */
let bright = null;
/** @type {string | undefined} what is drawn already */
let colouredBy;
/** @type {string | undefined} */
let filteredBy;
let sampled = ""; // what is said of a map of which a sample was laid out
/** @type {{name: string, column: MapColumn | null, timed: boolean}} what the legend is of */
let legendOf = { name: "", column: null, timed: false };
let selecting = false; // whether a change of the selection comes from the map itself
/** @type {Map<string, PhotoDetails>} what hovering found */
const seen = new Map();

/** @param {Collection} of */
export function startMap(of) {
  collection = of;
  section = byId("view-map");
  colours = { palette: collection.palette.map(parseColour), missing: parseColour(collection.missing_colour) };
  buildTools();
  watch((now, before) => {
    if (now.view !== "map") return;
    if (before.view !== "map") check();
    else if (scatter) draw(scatter);
  });
  listen("selection", () => {
    if (scatter && !selecting) scatter.setSelected(indicesOf(selection.ids()));
  });
  listen("labels", drawAgain);
  listen("undone", drawAgain);
  listen("theirs", drawAgain);
  showsSelected("map", (some) => some.filter((id) => scatter && isShown(id)));
  listen("columns", drawColumns);
  let { rows } = of;
  listen("collection", () => {
    if (of.rows !== rows && scatter && state().view === "map" && !banner.querySelector("progress")) check();
    rows = of.rows;
  });
  if (state().view === "map") check();
}

function buildTools() {
  colourBy = el("select", {
    id: "colour",
    "aria-label": "Colour by", // phones have no room for the words beside it
    onchange: () => go({ colour: colourBy.value || "none" }, { replace: true }),
  });
  drawColumns();
  legend = el("div", { class: "legend", role: "region", tabindex: "0", "aria-label": "What the colours mean" });
  banner = el("div", { class: "banner", hidden: true });
  counter = el("p", { class: "count" });
  stage = el("div", { class: "map-stage" });
  names = new MapNames();
  modes = {
    pan: el(
      "button",
      { type: "button", "aria-pressed": "true", title: "Drag to move the map", onclick: () => setMode("pan") },
      icon("hand"),
      "Move",
    ),
    lasso: el(
      "button",
      {
        type: "button",
        "aria-pressed": "false",
        title: "Draw around points to select them (also: Shift and drag)",
        onclick: () => setMode("lasso"),
      },
      icon("lasso"),
      "Lasso",
    ),
  };
  section.append(
    toolbar(
      counter,
      el("label", { class: "tool", for: "colour" }, el("span", {}, "Colour by"), colourBy),
      el("div", { class: "segmented", role: "group", "aria-label": "What dragging does" }, modes.pan, modes.lasso),
      iconButton("plus", "Zoom in (+)", () => scatter?.zoom(ZOOM), { class: "icon-button zoom" }),
      iconButton("minus", "Zoom out (-)", () => scatter?.zoom(1 / ZOOM), { class: "icon-button zoom" }),
      iconButton("fit", "Show all (0)", () => scatter?.fit()),
      names.button,
    ),
    banner,
    stage,
  );
}

function drawColumns() {
  const columns = collection.columns.filter(
    ({ name, filled }) => filled > 0 && !["id", "uri", "sha256", "etag"].includes(name),
  );
  fill(
    colourBy,
    el("option", { value: "" }, "nothing"),
    columns.map(({ name }) => el("option", { value: name }, name)),
  );
}

/**
 * The points of some images.
 * @param {string[]} some
 */
const indicesOf = (some) => ids.indicesOf(new TextList(some));

/**
 * Whether an image is a point, and in colour.
 * @param {string} id
 */
const isShown = (id) => ids.indexOf(id) >= 0 && (!bright || bright.indexOf(id) >= 0);

/** The column that colours: as chosen, or else the label where there are any. */
function colourColumn() {
  const { colour } = state();
  if (colour === "none") return "";
  const names = [...colourBy.options].map((option) => option.value);
  return colour && names.includes(colour) ? colour : names.includes("label") ? "label" : "";
}

/** Labels have changed: nothing that is drawn can be relied on. */
function drawAgain() {
  colouredBy = filteredBy = undefined;
  seen.clear();
  names.loadSoon();
  if (scatter && state().view === "map") draw(scatter);
}

/** @param {"pan" | "lasso"} mode */
function setMode(mode) {
  scatter?.setMode(mode);
  for (const [name, button] of Object.entries(modes)) button.setAttribute("aria-pressed", String(name === mode));
}

/** See whether there is a map, and show it, its making, or how to make it. */
async function check() {
  section.classList.toggle("ready", Boolean(scatter));
  if (!scatter) fill(stage, busy("Looking for the map"));
  try {
    const map = await api.map();
    if (map.state === "computing") {
      drawComputing(map);
      return;
    }
    if (map.state === "absent") {
      drawAbsent(map);
      return;
    }
    scatter ??= await build();
    sampled = map.laid_out ? `, ${count(map.laid_out)} of them laid out, and the others placed by these` : "";
    drawMissing(map);
    draw(scatter);
  } catch (error) {
    section.classList.remove("ready");
    fill(stage, failed(error, check));
  }
}

/** @param {MapState} map */
function drawAbsent({ can_compute: able, why }) {
  section.classList.remove("ready");
  banner.hidden = true;
  counter.textContent = "";
  if (!able) {
    fill(stage, emptyState("map", "No map yet", why || "This collection cannot have a map."));
    return;
  }
  const text = `A map shows all ${images(collection.rows)} on a plane, similar ones near each other. It is computed once, with UMAP, and kept with the collection.`;
  fill(
    stage,
    emptyState(
      "map",
      "No map yet",
      why ? [text, why] : text,
      el("button", { type: "button", class: "primary", onclick: compute }, "Compute the map"),
    ),
  );
}

async function compute() {
  try {
    drawComputing(await api.computeMap());
  } catch (error) {
    fill(banner, failed(error, compute)).hidden = false;
  }
}

/** @param {MapState} first */
function drawComputing(first) {
  if (!scatter) section.classList.remove("ready");
  const bar = el("progress", { max: 1, "aria-label": "Progress of the map" });
  const words = el("p", { class: "hint" });
  /** @param {MapState} now */
  const drawProgress = (now) => {
    bar.value = now.progress;
    words.textContent = [now.stage, percent(now.progress)].filter(Boolean).join(", ");
  };
  drawProgress(first);
  const box = el(
    "div",
    { class: "empty" },
    el("div", { class: "empty-icon" }, icon("map")),
    el("h2", {}, "Computing the map"),
    bar,
    words,
    el("p", { class: "hint" }, "You can go on working meanwhile: the map is kept when it is done."),
  );
  const place = scatter ? banner : stage;
  fill(place, box);
  banner.hidden = place !== banner;
  const ask = async () => {
    try {
      const map = await api.map();
      if (map.state === "computing") {
        drawProgress(map);
        setTimeout(ask, POLL);
        return;
      }
      if (map.state === "ready") {
        scatter?.destroy();
        scatter = undefined;
        say("The map is ready");
      }
      if (map.state === "absent" || state().view === "map") check();
    } catch (error) {
      fill(place, failed(error, check));
    }
  };
  setTimeout(ask, FIRST_POLL);
}

/** @param {MapState} map */
function drawMissing(map) {
  banner.hidden = !map.missing;
  if (!map.missing) return;
  const are = map.missing === 1 ? "is" : "are";
  fill(
    banner,
    icon("warning"),
    el(
      "span",
      {},
      `${images(map.missing)} ${map.missing === 1 ? "was" : "were"} added after the map was made and ${are} not on it.`,
    ),
    map.can_compute ? el("button", { type: "button", onclick: compute }, "Compute it again") : null,
  );
}

async function build() {
  const [points, found] = await Promise.all([api.mapPoints(), api.mapIds()]);
  ids = found;
  colouredBy = filteredBy = undefined;
  section.classList.add("ready");
  const canvas = el("canvas", {
    class: "map-canvas",
    "aria-label": `Map of ${images(ids.length)}. Arrow keys move it, plus and minus zoom.`,
    role: "application",
  });
  const card = el("div", { class: "map-card", hidden: true });
  fill(stage, canvas, names.element, card, legend);
  const plot = new Scatter(canvas, {
    onHover: (index, at) => {
      canvas.style.cursor = plot.mode === "lasso" ? "crosshair" : index < 0 ? "" : "pointer";
      hover(card, index, at);
    },
    onOpen: (index) => openFrom(index, points),
    onDraw: () => names.place(),
    onSelect: (indices) => {
      selecting = true;
      selection.set(indices.map((index) => ids.at(index)));
      selecting = false;
    },
  });
  plot.setPoints(points);
  plot.setSelected(indicesOf(selection.ids()));
  names.of(plot, points);
  return plot;
}

/**
 * @param {number} index
 * @param {Float32Array} points
 */
async function openFrom(index, points) {
  const source = byIds(around(index, points).map((each) => ids.at(each)));
  try {
    openPhoto(ids.at(index), { source: await source.open(), index: 0 });
  } catch (error) {
    toast(messageOf(error), { error: true });
  }
}

/**
 * A point and those around it that are in colour, the nearest on the map first: the arrows go through their images.
 * @param {number} index
 * @param {Float32Array} points x0, y0, x1, y1, ...
 */
function around(index, points) {
  const [x, y] = [points[2 * index], points[2 * index + 1]];
  /** @param {number} each */
  const distance = (each) => (points[2 * each] - x) ** 2 + (points[2 * each + 1] - y) ** 2;
  const others = bright ? ids.indicesOf(bright) : Uint32Array.from({ length: ids.length }, (_, each) => each);
  const distances = Float64Array.from(others, distance).sort();
  const farthest = distances[Math.min(AROUND, distances.length) - 1];
  const near = others.filter((each) => each !== index && distance(each) <= farthest);
  return [index, ...[...near].sort((a, b) => distance(a) - distance(b) || a - b).slice(0, AROUND - 1)];
}

/** @param {Scatter} plot */
async function draw(plot) {
  await Promise.all([drawColours(plot), drawFilter(plot)]);
}

/** @param {Scatter} plot */
async function drawColours(plot) {
  const name = colourColumn();
  colourBy.value = name;
  if (colouredBy === name) return;
  colouredBy = name;
  try {
    const column = name ? await api.mapColumn(name) : null;
    if (colouredBy !== name) return;
    plot.setColours(rgba(column, ids.length, colours));
    const timed = collection.columns.find((each) => each.name === name)?.type === "time";
    legendOf = { name, column, timed };
    drawMeaning();
  } catch (error) {
    colouredBy = undefined;
    fill(
      legend,
      failed(error, () => draw(plot)),
    );
  }
}

/** Draw the legend: how many of the points in colour have each value; a press filters by it. */
function drawMeaning() {
  const { name, column, timed } = legendOf;
  const kept = bright && ids.indicesOf(bright);
  const { values = [], none = false } = filterOf(name) ?? {};
  const chosen = new Set(values.map(String));
  if (none) chosen.add(NO_VALUE);
  keepingFocus(legend, () =>
    drawLegend(legend, name, column, { palette: colours.palette, timed, kept, chosen, toggle: toggleValue }),
  );
}

/** @param {string} category */
function toggleValue(category) {
  const { name } = legendOf;
  const boolean = collection.columns.find((each) => each.name === name)?.type === "boolean";
  choose(name, category === NO_VALUE ? null : boolean ? category === "true" : category);
}

/**
 * Fade what the filters, or the search, leave out.
 * @param {Scatter} plot
 */
async function drawFilter(plot) {
  const now = state();
  const key = JSON.stringify([now.filters, now.texts, now.like, now.unlike, now.queryImage]);
  if (filteredBy === key) return;
  filteredBy = key;
  try {
    const kept = await keptBy(now);
    if (filteredBy !== key) return;
    const indices = kept && ids.indicesOf(kept);
    plot.setHighlighted(indices);
    names.keep(indices);
    bright = kept;
    drawMeaning();
    tellAll("shown");
    const near = searching(now);
    const text = indices
      ? `${count(indices.length)} of ${count(ids.length)} points${near ? ", the nearest," : ""} in colour`
      : images(ids.length) + sampled;
    counter.textContent = text;
    say(text);
  } catch (error) {
    filteredBy = undefined;
    fill(
      banner,
      failed(error, () => draw(plot)),
    ).hidden = false;
  }
}

/**
 * The ids that the filters or the search keep; null for all.
 * @param {State} now
 */
async function keptBy(now) {
  if (searching(now)) {
    const body = searchBody(now, NEAREST);
    return new TextList(body ? (await api.search(body)).photos.map((photo) => photo.id) : []);
  }
  return now.filters.length ? api.ids({ where: where(now.filters) }) : null;
}

let hovering = -1;
/** @type {Timer | undefined} */
let hoverTimer;

/**
 * @param {HTMLElement} card
 * @param {number} index
 * @param {{x: number, y: number}} at
 */
function hover(card, index, at) {
  hovering = index;
  clearTimeout(hoverTimer);
  if (index < 0) {
    card.hidden = true;
    return;
  }
  placeCard(card, at);
  const id = ids.at(index);
  const known = seen.get(id);
  if (known) {
    drawCard(card, known);
    return;
  }
  card.hidden = true;
  hoverTimer = setTimeout(async () => {
    try {
      const photo = await api.photo(id);
      seen.set(id, photo);
      for (const oldest of seen.keys()) {
        if (seen.size <= REMEMBERED) break;
        seen.delete(oldest);
      }
      if (hovering === index) drawCard(card, photo);
    } catch {
      card.hidden = true; // a hint only: opening the image tells what is wrong
    }
  }, HOVER);
}

/**
 * @param {HTMLElement} card
 * @param {PhotoDetails} photo
 */
function drawCard(card, photo) {
  const { label } = photo.row;
  fill(
    card,
    el("img", { alt: "", src: thumbnailUrl(photo, 160) }),
    el("b", {}, label ?? fileName(photo.name)),
    label ? el("span", { class: "hint" }, fileName(photo.name)) : null,
  );
  card.hidden = false;
}

/**
 * @param {HTMLElement} card
 * @param {{x: number, y: number}} at
 */
function placeCard(card, { x, y }) {
  const [width, height] = [stage.clientWidth, stage.clientHeight];
  card.style.left = `${x + 200 > width ? x - 186 : x + 14}px`;
  card.style.top = `${Math.max(8, Math.min(y - 40, height - 230))}px`;
}
