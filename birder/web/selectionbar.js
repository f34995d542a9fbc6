// @ts-check
// The bar under a selection: how many are selected, which of them are out of sight, and what can be done with them.

import { api } from "./api.js";
import { wanted } from "./deciding.js";
import { byId, el, fill, iconButton, messageOf, say } from "./dom.js";
import { exportRows } from "./exporting.js";
import { count, images } from "./format.js";
import { currentColumn, labelBox } from "./labelbox.js";
import { give, giveAll } from "./labels.js";
import { choose, toast } from "./layers.js";
import { searchLike, searchUnlike } from "./search.js";
import { outOfSight, selection } from "./selection.js";
import { listen } from "./signals.js";
import { namedBySequence } from "./stacks.js";
import { folds } from "./stacktile.js";
import { state, watch } from "./state.js";
import { showIds } from "./subset.js";

/**
 * @import {Decision} from "./decisions.js"
 * @import {LabelBox} from "./labelbox.js"
 * @import {Collection, Photo} from "./types.js"
 */

const MOST_DECIDED = 1000; // images by what is predicted of each
const DOUBLE = 500; // milliseconds in which a second click is meant for the image beneath, not for the bar
/** @type {HTMLElement} */
let bar;
/** @type {HTMLElement} */
let counter;
/** @type {HTMLElement} */
let hiddenOnes;
/** @type {LabelBox} */
let box;
/** @type {HTMLInputElement} */
let keep;
let turn = 0;

/** @param {Collection} collection */
export function startSelectionBar(collection) {
  bar = byId("selection-bar");
  counter = el("b", { class: "selected-count" });
  hiddenOnes = el("span", { class: "out-of-sight", role: "status" });
  keep = el("input", { type: "checkbox", id: "keep-selected" });
  box = labelBox({ apply: labelSelected });
  /**
   * @param {string} title
   * @param {string} kind
   * @param {() => void} onclick
   */
  const action = (title, kind, onclick) =>
    el("button", { type: "button", class: kind, onclick }, title, el("span", { class: "these" }, "these"));
  fill(
    bar,
    iconButton("x", "Clear the selection (Esc)", () => selection.clear()),
    el("div", { class: "bar-count" }, counter, hiddenOnes),
    box.element,
    collection.writable
      ? el(
          "label",
          { class: "keep", for: "keep-selected", title: "Keep the selection when it has been labelled" },
          keep,
          "Keep",
        )
      : null,
    el(
      "div",
      { class: "bar-actions" },
      el("button", { type: "button", onclick: () => showIds(selection.ids()) }, "Only these"),
      el("button", { type: "button", class: "quiet", onclick: exportSelected }, "Export"),
      action("More like", "", () => searchLike(selection.ids())),
      action("Unlike", "quiet", () => searchUnlike(selection.ids())),
    ),
  );
  listen("selection", draw);
  listen("shown", drawHidden);
  watch((now, before) => now.view !== before.view && drawHidden());
}

const exportSelected = () => exportRows({ ids: selection.ids(), total: selection.size });

/** Focus the text of the box and select it, so that typing replaces it. */
export const focusLabel = () => {
  if (!bar.hidden) box.focusText();
};

function draw() {
  const { size } = selection;
  if (bar.hidden && size) {
    bar.classList.add("arriving");
    setTimeout(() => bar.classList.remove("arriving"), DOUBLE);
  }
  bar.hidden = size === 0;
  document.body.classList.toggle("with-selection", size > 0);
  counter.textContent = `${count(size)} selected`;
  say(size ? `${images(size)} selected` : "Nothing selected");
  drawHidden();
}

async function drawHidden() {
  const mine = ++turn;
  const unseen = selection.size ? await outOfSight(state().view).catch(() => []) : [];
  if (mine !== turn) return;
  if (!unseen.length) {
    fill(hiddenOnes);
    return;
  }
  fill(
    hiddenOnes,
    `${count(unseen.length)} not in view: `,
    el("button", { type: "button", class: "link", onclick: () => showIds(selection.ids()) }, "show"),
    el("button", { type: "button", class: "link", onclick: () => selection.remove(unseen) }, "clear"),
  );
}

/**
 * Label what is selected; what is out of sight only when it is meant.
 * @param {string} column
 * @param {string | null} value
 */
async function labelSelected(column, value) {
  const ids = await meant();
  if (!ids || !(await give(ids, column, value))) return false;
  if (!keep.checked) selection.remove(ids);
  return true;
}

/**
 * Decide what the selected show; what is out of sight only when it is meant.
 * @param {Decision | undefined} decision
 */
export async function decideSelected(decision) {
  if (decision === undefined || bar.hidden || !box.writable) return;
  const ids = await meant();
  if (!ids) return;
  const byName = decision === "accept" || decision === "reject"; // what is predicted of each is asked for
  if (byName && ids.length > MOST_DECIDED) {
    toast(`A and X are for up to ${count(MOST_DECIDED)} selected images; ${count(ids.length)} are selected.`);
    return;
  }
  try {
    const photos = byName
      ? asShown(await api.photosOf(ids))
      : ids.map((id) => ({ id, name: "", label: null, width: null, height: null, v: "" }));
    const labels = wanted(decision, photos, byName ? "label" : currentColumn());
    if (labels && (await giveAll(labels)) && !keep.checked) selection.remove(labels.flatMap((each) => each.ids));
  } catch (error) {
    toast(messageOf(error), { error: true });
  }
}

/**
 * Images with the names that the gallery shows: where sequences are folded, those of one have one.
 * @param {Photo[]} photos
 */
const asShown = (photos) => (state().view === "gallery" && folds(state()) ? namedBySequence(photos) : photos);

/** The selected images that somebody means; null if they are to be looked at first. */
async function meant() {
  let ids = selection.ids();
  const unseen = await outOfSight(state().view);
  if (unseen.length) {
    const away = new Set(unseen);
    const seen = ids.filter((id) => !away.has(id));
    /** @type {Record<string, "show" | "seen" | "all">} */
    const answers = { "Show them": "show" };
    if (seen.length) answers[`Label the ${count(seen.length)} in view`] = "seen";
    answers[`Label all ${count(ids.length)}`] = "all";
    const answer = await choose(
      "Some of them are not in view",
      `${count(unseen.length)} of the ${count(ids.length)} selected images are not among those shown here.`,
      answers,
    );
    if (answer === "show") showIds(ids);
    if (answer === "seen") ids = seen;
    else if (answer !== "all") return null;
  }
  return ids;
}
