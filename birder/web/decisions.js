// @ts-check
// Decisions about what a model names an image: their keys, the same wherever images are, and the labels that they are.

/** @import {Label, Photo} from "./types.js" */

export const REJECTED = "rejected"; // the column of the names that a person said an image does not show
export const UNKNOWN = "unknown";
export const BLANK = "blank";
const SEPARATOR = " | ";

/** @typedef {"accept" | "reject" | "unknown" | "blank" | number} Decision a number: that of one of the latest labels */

/** @type {Record<string, Decision>} */
const KEYS = { a: "accept", x: "reject", u: "unknown", b: "blank" };

/**
 * The decision that a key means; undefined for other keys.
 * @param {{key: string, ctrlKey: boolean, metaKey: boolean, altKey: boolean, shiftKey: boolean}} pressed
 * @returns {Decision | undefined}
 */
export function decisionOf({ key, ctrlKey, metaKey, altKey, shiftKey }) {
  if (ctrlKey || metaKey || altKey) return undefined;
  return /^[1-9]$/.test(key) ? Number(key) : shiftKey ? undefined : KEYS[key.toLowerCase()];
}

/**
 * The labels that a decision is, or a sentence why there are none.
 * @param {Decision} decision
 * @param {Photo[]} photos with what is predicted of each, and what was rejected
 * @param {string} column that labels go into
 * @param {string[]} latest labels
 * @returns {Label[] | string}
 */
export function labelsOf(decision, photos, column, latest) {
  const ids = photos.map(({ id }) => id);
  if (typeof decision === "number") {
    const value = latest[decision - 1];
    return value ? [{ ids, column, value }] : `There is no label ${decision} yet: the latest labels get these keys.`;
  }
  if (decision === "unknown" || decision === "blank")
    return [{ ids, column, value: decision === "unknown" ? UNKNOWN : BLANK }];
  const named = photos.filter(({ predicted }) => predicted);
  if (!named.length) return "Nothing is predicted here.";
  if (decision === "accept") return grouped(named, column, ({ predicted }) => predicted ?? "");
  return grouped(named, REJECTED, withRejected);
}

/**
 * What is rejected of an image, with the name that is predicted.
 * @param {Photo} photo
 */
export function withRejected({ predicted, rejected }) {
  const names = rejected ? rejected.split(SEPARATOR) : [];
  return [...new Set([...names, predicted ?? ""])].filter(Boolean).join(SEPARATOR);
}

/**
 * @param {Photo[]} photos
 * @param {string} column
 * @param {(photo: Photo) => string} valueFor
 * @returns {Label[]}
 */
function grouped(photos, column, valueFor) {
  /** @type {Map<string, string[]>} */
  const ids = new Map();
  for (const photo of photos) ids.set(valueFor(photo), [...(ids.get(valueFor(photo)) ?? []), photo.id]);
  return [...ids].map(([value, some]) => ({ ids: some, column, value }));
}

/**
 * A decision in a few words, for the image that it was about.
 * @param {Label[]} labels
 */
export function inWords(labels) {
  const values = [...new Set(labels.map(({ value }) => value))];
  const text = values.slice(0, 3).join(", ") + (values.length > 3 ? " …" : "");
  return labels[0].column === REJECTED ? `not ${text}` : text;
}
