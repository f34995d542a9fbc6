// @ts-check
// The stations: where images were taken, from their latitude and longitude, without a map of anybody else.

import { api, isAbort } from "./api.js";
import {
  busy,
  byId,
  debounced,
  el,
  emptyState,
  failed,
  fill,
  icon,
  iconButton,
  messageOf,
  say,
  toolbar,
} from "./dom.js";
import { where } from "./filter.js";
import { count, images } from "./format.js";
import { toast } from "./layers.js";
import { isOn, toggled } from "./places/filters.js";
import { PlaceList } from "./places/list.js";
import { PlacePlot } from "./places/plot.js";
import { coordinates } from "./places/projection.js";
import { selection, showsSelected } from "./selection.js";
import { listen, tellAll } from "./signals.js";
import { go, state, watch } from "./state.js";

/**
 * @import {Ids} from "./idlist.js"
 * @import {Collection, Place, Places} from "./types.js"
 */

const ZOOM = 1.5;
const SOON = 400; // milliseconds: labels may come many a second
const CARD = 200; // CSS pixels

/** @type {Collection} */
let collection;
/** @type {HTMLElement} */
let stage;
/** @type {HTMLElement} */
let side;
/** @type {HTMLElement} */
let notice;
/** @type {HTMLElement} */
let counter;
/** @type {HTMLElement} */
let nowhere;
/** @type {HTMLElement} */
let card;
/** @type {Record<"pan" | "lasso", HTMLButtonElement>} */
let modes;
/** @type {PlacePlot} */
let plot;
/** @type {PlaceList} */
let list;
/** @type {Places | null} */
let found = null;
/** @type {string[]} */
let names = [];
let shown = ""; // the filters that are drawn
let abort = new AbortController();
let selecting = false; // whether a change of the selection comes from here
/** @type {Promise<Ids> | null} the images that have a place, under the filters that are drawn */
let placed = null;

/** @param {Collection} of */
export function startStations(of) {
  collection = of;
  build();
  drawTab();
  watch((now) => now.view === "stations" && (JSON.stringify(now.filters) === shown ? list.draw() : load()));
  const again = debounced(() => {
    shown = "";
    if (state().view === "stations") load();
  }, SOON);
  listen("labels", again);
  listen("undone", again);
  listen("theirs", again);
  listen("collection", () => {
    drawTab();
    again();
  });
  listen("selection", () => {
    if (!selecting) drawSelected([]);
  });
  showsSelected("stations", async (ids) => {
    placed ??= api.placeIds({ where: where(state().filters) }).catch((error) => {
      placed = null; // asked for again next time
      throw error;
    });
    const there = await placed;
    return ids.filter((id) => there.indexOf(id) >= 0);
  });
  if (state().view === "stations") load();
}

/** Without coordinates, nobody is offered a map of them. */
function drawTab() {
  const filled = (/** @type {string} */ name) =>
    collection.columns.some((column) => column.name === name && column.type === "number" && column.filled > 0);
  byId("tab-stations").hidden = !(filled("latitude") && filled("longitude"));
}

function build() {
  counter = el("p", { class: "count" });
  nowhere = el("p", { class: "hint" });
  notice = el("div", { class: "notice", hidden: true });
  /**
   * @param {"pan" | "lasso"} mode
   * @param {string} drawing
   * @param {string} text
   * @param {string} title
   */
  const button = (mode, drawing, text, title) =>
    el(
      "button",
      { type: "button", "aria-pressed": String(mode === "pan"), title, onclick: () => setMode(mode) },
      icon(drawing),
      text,
    );
  modes = {
    pan: button("pan", "hand", "Move", "Drag to move the map"),
    lasso: button("lasso", "lasso", "Lasso", "Draw around places to select their images (also: Shift and drag)"),
  };
  const canvas = el("canvas", { class: "place-canvas", role: "application" });
  card = el("div", { class: "place-card", hidden: true });
  stage = el("div", { class: "place-stage" }, canvas, card);
  const scroller = el("div", { class: "place-scroller" });
  side = el(
    "div",
    { class: "place-side" },
    scroller,
    el(
      "p",
      { class: "hint", id: "places-hint" },
      "Enter or a click filters by a place, Space or Ctrl and a click selects its images.",
    ),
  );
  plot = new PlacePlot(canvas, { onHover: hover, onOpen: press, onSelect: select });
  list = new PlaceList(scroller, {
    onPress: press,
    onSelect: (index) => {
      const others = plot.selected.filter((each) => each !== index);
      plot.select(others.length < plot.selected.length ? others : [...others, index]);
    },
    onPoint: (index) => plot.hover(index),
  });
  byId("view-stations").append(
    toolbar(
      el("div", { class: "counts" }, counter, nowhere),
      el("div", { class: "segmented", role: "group", "aria-label": "What dragging does" }, modes.pan, modes.lasso),
      iconButton("plus", "Zoom in (+)", () => plot.zoom(ZOOM), { class: "icon-button zoom" }),
      iconButton("minus", "Zoom out (-)", () => plot.zoom(1 / ZOOM), { class: "icon-button zoom" }),
      iconButton("fit", "Show all (0)", () => plot.fit()),
    ),
    notice,
    el("div", { class: "stations" }, stage, side),
  );
}

/** @param {"pan" | "lasso"} mode */
function setMode(mode) {
  plot.setMode(mode);
  for (const [name, button] of Object.entries(modes)) button.setAttribute("aria-pressed", String(name === mode));
}

async function load() {
  abort.abort();
  abort = new AbortController();
  const { signal } = abort;
  const { filters } = state();
  if (!found) showNotice(busy("Looking for the places"));
  try {
    const answer = await api.places(where(filters), signal);
    if (signal.aborted) return;
    found = answer;
    shown = JSON.stringify(filters);
    placed = null;
    draw(answer);
    tellAll("shown");
  } catch (error) {
    if (isAbort(error) || signal.aborted) return;
    shown = "";
    found = null;
    counter.textContent = nowhere.textContent = "";
    showNotice(failed(error, load));
  }
}

/** @param {Node[]} children */
function showNotice(...children) {
  byId("view-stations").classList.add("without-map");
  fill(notice, ...children).hidden = false;
}

/** @param {Places} places */
function draw({ places, station, total, nowhere: without }) {
  const { filters } = state();
  if (!places.length) {
    counter.textContent = nowhere.textContent = "";
    showNotice(
      emptyState("pin", "No places yet", [
        "None of the images has a latitude and a longitude.",
        "Birder reads them from the images themselves (EXIF) and from the columns latitude and longitude of a table (birder embed --table).",
      ]),
    );
    return;
  }
  byId("view-stations").classList.remove("without-map");
  notice.hidden = true;
  names = places.map(nameOf);
  const on = places.map((place) => isOn(place, station, filters));
  plot.setMarks(
    places.map(({ latitude, longitude, count: number }, index) => ({
      latitude,
      longitude,
      count: number,
      name: names[index],
      on: on[index],
    })),
  );
  const order = new Intl.Collator("en", { numeric: true });
  const entries = places.map(({ count: number }, index) => ({
    index,
    name: names[index],
    count: number,
    on: on[index],
  }));
  list.show(entries.sort((a, b) => order.compare(a.name, b.name) || a.index - b.index));
  const some = places.filter((place) => place.count > 0).length;
  const number = some === places.length ? count(some) : `${count(some)} of ${count(places.length)}`;
  const text = `${number} place${places.length === 1 ? "" : "s"}, ${images(total - without)}`;
  const rest = without ? `${images(without)} ${without === 1 ? "has" : "have"} no place` : "";
  if (counter.textContent !== text) say([text, rest].filter(Boolean).join("; "));
  counter.textContent = text;
  nowhere.textContent = rest;
  plot.canvas.setAttribute(
    "aria-label",
    `Map of ${text}. Arrow keys move it, plus and minus zoom. The list of places does what its marks do.`,
  );
  drawSelected(selection.size ? plot.selected : []);
}

/** @param {Place} place */
function nameOf({ names: stations, further, latitude, longitude }) {
  const [first, second] = stations;
  const number = stations.length + further;
  if (!number) return coordinates({ latitude, longitude });
  return number > 2 ? `${first} and ${count(number - 1)} more` : number === 2 ? `${first}, ${second}` : first;
}

/** @param {number} index */
function press(index) {
  if (found) go({ filters: toggled(found.places[index], found.station, state().filters) });
}

/** @param {number[]} indices */
async function select(indices) {
  if (!found) return;
  const wanted = indices.map((index) => found?.places[index]).filter((place) => place !== undefined);
  list.setSelected(indices);
  let ids = /** @type {string[]} */ ([]);
  try {
    if (wanted.length) {
      const places = wanted.map(({ latitude, longitude }) => [latitude, longitude]);
      ids = (await api.placeIds({ places, where: where(state().filters) })).slice();
    }
  } catch (error) {
    toast(messageOf(error), { error: true });
    drawSelected([]);
    load(); // the places are others by now
    return;
  }
  if (indices !== plot.selected) return; // others were chosen meanwhile
  selecting = true;
  selection.set(ids);
  selecting = false;
  say(`${images(ids.length)} of ${count(indices.length)} place${indices.length === 1 ? "" : "s"} selected`);
}

/** @param {number[]} indices */
function drawSelected(indices) {
  plot.setSelected(indices);
  list.setSelected(indices);
}

/**
 * @param {number} index
 * @param {{x: number, y: number}} at
 */
function hover(index, at) {
  plot.canvas.style.cursor = plot.mode === "lasso" ? "crosshair" : index < 0 ? "" : "pointer";
  const place = found?.places[index];
  const outside = at.x < 0 || at.y < 0 || at.x > stage.clientWidth || at.y > stage.clientHeight;
  card.hidden = !place || outside;
  if (!place) return;
  const stations = place.names.slice(0, 6).join(", ");
  fill(
    card,
    el("b", {}, names[index]),
    el("span", { class: "hint" }, images(place.count)),
    place.names.length > 1 ? el("span", { class: "hint" }, stations) : null,
    place.names.length ? el("span", { class: "hint" }, coordinates(place)) : null,
  );
  card.style.left = `${at.x + CARD > stage.clientWidth ? Math.max(0, at.x - CARD + 14) : at.x + 14}px`;
  card.style.top = `${Math.max(8, Math.min(at.y + 14, stage.clientHeight - 110))}px`;
}
