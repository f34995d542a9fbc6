// The map: every photograph a point, alike ones near each other; colours, a lasso, and what the filters keep.

import { api, isAbort, thumbnail } from "./api.js";
import { categoryColour, css, rgba, scaleColour } from "./colours.js";
import {
  busy,
  count,
  decimal,
  el,
  emptyState,
  failed,
  fill,
  icon,
  iconButton,
  percent,
  photographs,
  say,
  time,
  toolbar,
} from "./dom.js";
import { where } from "./conditions.js";
import { searchBody } from "./gallery.js";
import { openPhoto } from "./photo.js";
import { Scatter } from "./scatter.js";
import { inSight, selection } from "./selection.js";
import { List } from "./sources.js";
import { go, listen, searching, state, tellAll, watch } from "./state.js";

const NEAREST = 500;
const HOVER = 60; // milliseconds before a point's photograph is asked for
let collection, section, stage, legend, colourBy, scatter, banner, modes, counter;
let ids = []; // of the points, in their order
let places = new Map(); // id -> index
let bright = null; // the ids that the filters or the search keep in colour; null for all
let colouredBy, filteredBy; // what is drawn already
let mine = false; // whether a change of the selection comes from the map itself
const seen = new Map(); // id -> what hovering found

export function startMap(of) {
  collection = of;
  section = document.getElementById("view-map");
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
      iconButton("plus", "Zoom in (+)", () => scatter?.zoom(1.5), { class: "icon-button zoom" }),
      iconButton("minus", "Zoom out (-)", () => scatter?.zoom(1 / 1.5), { class: "icon-button zoom" }),
      iconButton("fit", "Show all (0)", () => scatter?.fit()),
    ),
    banner,
    stage,
  );
  watch((now, before) => {
    if (now.view !== "map") return;
    if (before.view !== "map") check();
    else if (scatter) draw();
  });
  listen("selection", () => {
    if (scatter && !mine)
      scatter.setSelected(
        places.size
          ? selection
              .ids()
              .map((id) => places.get(id))
              .filter((at) => at !== undefined)
          : [],
      );
  });
  listen("labels", stale);
  listen("undone", stale);
  listen("theirs", stale);
  inSight("map", (ids) => ids.filter((id) => scatter && places.has(id) && (!bright || bright.has(id))));
  listen("columns", drawColumns);
  if (state().view === "map") check();
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

/** The column that colours: as chosen, or else the label where there are any. */
function colourColumn() {
  const { colour } = state();
  if (colour === "none") return "";
  const names = [...colourBy.options].map((option) => option.value);
  return colour && names.includes(colour) ? colour : names.includes("label") ? "label" : "";
}

function stale() {
  colouredBy = filteredBy = undefined;
  seen.clear();
  if (scatter && state().view === "map") draw();
}

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
    if (map.state === "computing") return computing(map);
    if (map.state === "absent") return absent(map);
    if (!scatter) await build();
    missing(map);
    draw();
  } catch (error) {
    section.classList.remove("ready");
    fill(stage, failed(error, check));
  }
}

function absent({ can_compute: able, why }) {
  section.classList.remove("ready");
  banner.hidden = true;
  counter.textContent = "";
  if (!able) {
    fill(stage, emptyState("map", "No map yet", why || "This collection cannot have a map."));
    return;
  }
  fill(
    stage,
    emptyState(
      "map",
      "No map yet",
      [
        `A map puts all ${photographs(collection.rows)} on a plane so that alike ones lie near each other. It is computed once, with UMAP, and kept with the collection.`,
        why ?? "",
      ].filter(Boolean),
      el("button", { type: "button", class: "primary", onclick: compute }, "Compute the map"),
    ),
  );
}

async function compute() {
  try {
    computing(await api.computeMap());
  } catch (error) {
    fill(banner, failed(error, compute)).hidden = false;
  }
}

function computing({ progress = 0, stage: doing = "" }) {
  if (!scatter) section.classList.remove("ready");
  const bar = el("progress", { max: 1, "aria-label": "Progress of the map" });
  const words = el("p", { class: "hint" });
  const step = (now) => {
    bar.value = now.progress ?? 0;
    words.textContent = [now.stage, percent(now.progress ?? 0)].filter(Boolean).join(", ");
  };
  step({ progress, stage: doing });
  const box = el(
    "div",
    { class: "empty" },
    el("div", { class: "empty-icon" }, icon("map")),
    el("h2", {}, "Computing the map"),
    bar,
    words,
    el("p", { class: "hint" }, "You may go on working meanwhile: it is kept when it is done."),
  );
  const place = scatter ? banner : stage;
  fill(place, box);
  banner.hidden = place !== banner;
  const ask = async () => {
    try {
      const map = await api.map();
      if (map.state === "computing") {
        step(map);
        setTimeout(ask, 700);
      } else {
        if (map.state === "ready") {
          scatter?.destroy();
          scatter = undefined;
          say("The map is ready");
        }
        if (map.state === "absent" || state().view === "map") check();
      }
    } catch (error) {
      fill(place, failed(error, check));
    }
  };
  setTimeout(ask, 500);
}

function missing(map) {
  banner.hidden = !map.missing;
  if (!map.missing) return;
  fill(
    banner,
    icon("warning"),
    el(
      "span",
      {},
      `${photographs(map.missing)} came after the map was made and ${map.missing === 1 ? "is" : "are"} not on it.`,
    ),
    map.can_compute ? el("button", { type: "button", onclick: compute }, "Compute it anew") : null,
  );
}

async function build() {
  const [points, answer] = await Promise.all([api.mapPoints(), api.mapIds()]);
  ids = answer.ids;
  places = new Map(ids.map((id, index) => [id, index]));
  colouredBy = filteredBy = undefined;
  section.classList.add("ready");
  const canvas = el("canvas", {
    class: "map-canvas",
    "aria-label": `Map of ${photographs(ids.length)}. Arrow keys move it, plus and minus zoom.`,
    role: "application",
  });
  const card = el("div", { class: "map-card", hidden: true });
  fill(stage, canvas, card, legend);
  scatter = new Scatter(canvas, {
    onHover: (index, at) => {
      canvas.style.cursor = scatter.mode === "lasso" ? "crosshair" : index < 0 ? "" : "pointer";
      hover(card, index, at);
    },
    onOpen: (index) => openPhoto(ids[index], { source: new List([{ id: ids[index] }]), index: 0 }),
    onSelect: (indices) => {
      mine = true;
      selection.set(indices.map((index) => ids[index]));
      mine = false;
    },
  });
  scatter.setPoints(points);
  scatter.setSelected(
    selection
      .ids()
      .map((id) => places.get(id))
      .filter((at) => at !== undefined),
  );
}

async function draw() {
  await Promise.all([drawColours(), drawFilter()]);
}

async function drawColours() {
  const name = colourColumn();
  colourBy.value = name;
  if (colouredBy === name) return;
  colouredBy = name;
  try {
    const column = name ? await api.mapColumn(name) : null;
    if (colouredBy !== name) return;
    scatter.setColours(rgba(column, ids.length));
    drawLegend(name, column);
  } catch (error) {
    colouredBy = undefined;
    if (!isAbort(error)) fill(legend, failed(error, draw));
  }
}

function drawLegend(name, column) {
  legend.hidden = !column;
  if (!column) return;
  const title = el("h2", {}, name);
  if (column.type === "number") {
    const timed = collection.columns.find((each) => each.name === name)?.type === "time";
    const shown = (value) =>
      timed
        ? time(typeof value === "number" ? new Date(value * (value < 1e11 ? 1000 : 1)).toISOString() : value).slice(
            0,
            10,
          )
        : decimal(value);
    const steps = Array.from({ length: 24 }, (_, step) =>
      el("span", { style: { background: css(scaleColour(step / 23)) } }),
    );
    fill(
      legend,
      title,
      el("div", { class: "scale" }, steps),
      el("div", { class: "scale-ends" }, el("span", {}, shown(column.min)), el("span", {}, shown(column.max))),
    );
    return;
  }
  const numbers = new Array(column.categories.length).fill(0);
  let none = 0;
  for (const code of column.codes) code < 0 ? none++ : numbers[code]++;
  fill(
    legend,
    title,
    el(
      "ul",
      {},
      column.categories.map((category, index) =>
        el(
          "li",
          {},
          el("span", { class: "swatch", style: { background: css(categoryColour(index)) } }),
          el("span", { class: "value", title: category }, category),
          el("span", { class: "number" }, count(numbers[index])),
        ),
      ),
      none
        ? el(
            "li",
            { class: "none" },
            el("span", { class: "swatch" }),
            el("span", { class: "value" }, "no value"),
            el("span", { class: "number" }, count(none)),
          )
        : null,
    ),
  );
}

/** Fade what the filters, or the search, leave out. */
async function drawFilter() {
  const now = state();
  const key = JSON.stringify([now.filters, now.texts, now.like, now.unlike, now.picture]);
  if (filteredBy === key) return;
  filteredBy = key;
  try {
    const kept = await keptBy(now);
    if (filteredBy !== key) return;
    const indices = kept?.map((id) => places.get(id)).filter((at) => at !== undefined) ?? null;
    scatter.setHighlighted(indices);
    bright = kept && new Set(kept);
    tellAll("shown");
    const near = searching(now);
    counter.textContent = indices
      ? `${count(indices.length)} of ${count(ids.length)} points${near ? ", the nearest," : ""} in colour`
      : photographs(ids.length);
    say(counter.textContent);
  } catch (error) {
    filteredBy = undefined;
    fill(banner, failed(error, draw)).hidden = false;
  }
}

async function keptBy(now) {
  if (searching(now)) {
    const body = searchBody(now, NEAREST);
    return body ? (await api.search(body)).photos.map((photo) => photo.id) : [];
  }
  return now.filters.length ? (await api.ids({ where: where(now.filters) })).ids : null;
}

let hovering = -1;
let hoverTimer = 0;

function hover(card, index, at) {
  hovering = index;
  clearTimeout(hoverTimer);
  if (index < 0) {
    card.hidden = true;
    return;
  }
  place(card, at);
  const id = ids[index];
  if (seen.has(id)) return drawCard(card, seen.get(id));
  card.hidden = true;
  hoverTimer = setTimeout(async () => {
    try {
      const photo = await api.photo(id);
      seen.set(id, photo);
      if (seen.size > 500) seen.delete(seen.keys().next().value);
      if (hovering === index) drawCard(card, photo);
    } catch {
      card.hidden = true; // a hint only: opening the photograph tells what is wrong
    }
  }, HOVER);
}

function drawCard(card, photo) {
  fill(
    card,
    el("img", { alt: "", src: thumbnail(photo, 160) }),
    el("b", {}, photo.row.label ?? photo.name.split("/").pop()),
    photo.row.label ? el("span", { class: "hint" }, photo.name.split("/").pop()) : null,
  );
  card.hidden = false;
}

function place(card, { x, y }) {
  const [width, height] = [stage.clientWidth, stage.clientHeight];
  card.style.left = `${x + 200 > width ? x - 186 : x + 14}px`;
  card.style.top = `${Math.max(8, Math.min(y - 40, height - 230))}px`;
}
