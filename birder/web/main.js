// @ts-check
// Starts the page: asks what the collection is, then lets each part draw itself.

import { VIEWS } from "./address.js";
import { api } from "./api.js";
import { startChips } from "./chips.js";
import { startDeciding } from "./deciding.js";
import { busy, byId, failed, fill, icon } from "./dom.js";
import { startDuplicates } from "./duplicates.js";
import { startFailures } from "./failures.js";
import { startFilters } from "./filterpanel.js";
import { count, images } from "./format.js";
import { startGallery } from "./gallery.js";
import { showHistory } from "./history.js";
import { startKeys } from "./keys.js";
import { startLabelBoxes } from "./labelbox.js";
import { startLabels } from "./labels.js";
import { startLayers } from "./layers.js";
import { startLive } from "./live.js";
import { startMap } from "./map.js";
import { startRecovery } from "./recovery.js";
import { startReview } from "./review.js";
import { startSavedFilters } from "./savedfilters.js";
import { startSearch } from "./search.js";
import { startSelectionBar } from "./selectionbar.js";
import { listen } from "./signals.js";
import { go, state, watch } from "./state.js";
import { startStations } from "./stations.js";
import { startTeach } from "./teach.js";
import { startTheme } from "./theme.js";
import { startTidying } from "./tidying.js";
import { startOutbox } from "./unwritten.js";
import { startViewer } from "./viewer.js";

/** @import {Collection} from "./types.js" */

/** @type {Record<string, string>} */
const ICONS = {
  gallery: "grid",
  map: "map",
  stations: "pin",
  review: "check",
  teach: "tag",
  duplicates: "copies",
  failures: "warning",
};

async function start() {
  const waiting = byId("waiting");
  waiting.hidden = false;
  fill(waiting, busy("Opening the collection"));
  let collection;
  try {
    collection = await api.collection();
  } catch (error) {
    fill(waiting, failed(error, start));
    return;
  }
  waiting.hidden = true;
  build(collection);
}

/** @param {Collection} collection */
function build(collection) {
  document.title = `${collection.name}, Birder`;
  byId("collection-name").textContent = collection.name;
  const { model } = collection;
  byId("collection-about").title = `${model.engine} ${model.precision}, ${model.embedding_size}-dimensional embeddings`;
  const about = () => {
    byId("collection-about").textContent = `${images(collection.rows)}, ${model.name}`;
    byId("failure-count").textContent = collection.failures ? count(collection.failures) : "";
  };
  about();
  listen("collection", about);
  watch(drawView);
  drawView(state());
  startLayers();
  startSearch(collection);
  startChips();
  startFilters(collection);
  startSavedFilters(collection);
  startLabels(collection);
  startDeciding(collection);
  startLabelBoxes(collection);
  startSelectionBar(collection);
  startGallery(collection);
  startViewer(collection);
  startMap(collection);
  startStations(collection);
  startReview(collection);
  startTeach(collection);
  startDuplicates();
  startFailures(collection);
  startTidying(collection);
  startOutbox(collection);
  startLive(collection);
  startKeys();
  byId("history").addEventListener("click", showHistory);
  startDrawer();
  document.body.classList.add("started");
}

/** @param {{view: string}} state */
function drawView({ view }) {
  for (const each of VIEWS) {
    byId(`view-${each}`).hidden = each !== view;
    const tab = byId(`tab-${each}`);
    if (each === view) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
  document.body.dataset.view = view;
}

/** On a narrow page the filters are a drawer. */
function startDrawer() {
  const button = byId("filter-toggle");
  const drawer = byId("filters");
  const isOpen = () => document.body.classList.contains("drawer-open");
  /** @param {boolean} open */
  const set = (open) => {
    document.body.classList.toggle("drawer-open", open);
    button.setAttribute("aria-expanded", String(open));
    if (open) /** @type {HTMLElement | null} */ (drawer.querySelector("button, summary"))?.focus();
  };
  button.addEventListener("click", () => set(!isOpen()));
  byId("filter-close").addEventListener("click", () => {
    set(false);
    button.focus();
  });
  byId("drawer-veil").addEventListener("click", () => set(false));
  drawer.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !isOpen()) return;
    event.preventDefault();
    set(false);
    button.focus();
  });
  watch((now, before) => now.view !== before.view && set(false));
}

for (const view of VIEWS) {
  const tab = byId(`tab-${view}`);
  tab.prepend(icon(ICONS[view]));
  tab.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return; // a new tab, as with any link
    event.preventDefault();
    go({ view });
  });
}
fill(byId("history"), icon("history"));
fill(byId("keys"), icon("help"));
fill(byId("filter-toggle"), icon("filter"));
fill(byId("filter-close"), icon("x"));
byId("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address says what is shown
  const view = byId(`view-${state().view}`);
  const first = /** @type {HTMLElement | null} */ (
    view.querySelector("[role=listbox], canvas, .scroller button, [tabindex='0']")
  );
  (first ?? byId("main")).focus();
});
startTheme();
startRecovery();
start();
