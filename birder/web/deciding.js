// @ts-check
// Deciding what images show: writing the labels, and the buttons that do what the keys do.

import { inWords, labelsOf } from "./decisions.js";
import { el, fill } from "./dom.js";
import { giveAll } from "./labels.js";
import { objection } from "./labeltext.js";
import { LatestLabels } from "./latest.js";
import { toast } from "./layers.js";
import { listen } from "./signals.js";

/**
 * @import {Decision} from "./decisions.js"
 * @import {Collection, Label, Photo} from "./types.js"
 */

/** @type {LatestLabels} */
let latest;

/** @param {Collection} collection */
export function startDeciding(collection) {
  latest = new LatestLabels(localStorage, collection.path);
  listen("labels", (label) => latest.note(label));
}

/**
 * A label that is about to be given, so that its key means it at once.
 * @param {Label} label
 */
export const noteLabel = (label) => latest.note(label);

/**
 * The labels of a decision; null, said to the person, where it cannot be made.
 * @param {Decision} decision
 * @param {Photo[]} photos
 * @param {string} column
 * @returns {Label[] | null}
 */
export function wanted(decision, photos, column) {
  const labels = labelsOf(decision, photos, column, latest.of(column));
  const problem = typeof labels === "string" ? labels : labels.map(({ value }) => objection(value ?? "")).find(Boolean);
  if (!problem && typeof labels !== "string") return labels;
  toast(problem ?? "");
  return null;
}

/**
 * Write a decision with those that follow it within half a second; what was written in words, null where nothing was.
 * @param {Decision} decision
 * @param {Photo[]} photos
 * @param {string} column
 * @returns {{text: string, written: Promise<boolean>} | null}
 */
export function decide(decision, photos, column) {
  const labels = wanted(decision, photos, column);
  for (const label of labels ?? []) latest.note(label); // at once: its key may be the next that is pressed
  return labels && { text: inWords(labels), written: giveAll(labels, { gather: true }) };
}

/**
 * Buttons for what the keys do, and the latest labels with their keys.
 * @param {(decision: Decision) => void} act
 */
export function decisionButtons(act) {
  /**
   * @param {Decision} decision
   * @param {string} key
   * @param {string} title
   */
  const button = (decision, key, title, primary = false) =>
    el(
      "button",
      { type: "button", class: primary ? "primary" : "", "aria-keyshortcuts": key, onclick: () => act(decision) },
      title,
      el("kbd", {}, key),
    );
  const labels = el("div", { class: "latest", role: "group", "aria-label": "Latest labels" });
  const element = el(
    "div",
    { class: "decisions" },
    button("accept", "A", "Accept", true),
    button("reject", "X", "Not this"),
    button("unknown", "U", "Unknown"),
    button("blank", "B", "Blank"),
    labels,
  );
  /** @param {string} column */
  const draw = (column) =>
    fill(
      labels,
      latest.of(column).map((value, index) => button(index + 1, String(index + 1), value)),
    );
  return { element, draw };
}
