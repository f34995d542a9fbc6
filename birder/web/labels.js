// Giving labels and taking them back. Ctrl+Z takes back one's own, in this tab or by one's name, never somebody else's.

import { api } from "./api.js";
import { count, photographs, say } from "./dom.js";
import { toast } from "./layers.js";
import { gathering, newId, own, post, retract } from "./outbox.js";
import { introduced, me } from "./person.js";
import { tellAll } from "./state.js";

const TECHNICAL = ["id", "uri", "sha256", "etag"];
const AT_ONCE = 100_000; // ids in one change
const LONGEST = 300; // characters
const REMEMBERED = 200; // of one's own, to be taken back
const MINE = "birder:mine";
let collection;
let mine = []; // {act, changes: [{change, ids}]}, the last given last

export function startLabels(of) {
  collection = of;
  try {
    const kept = JSON.parse(sessionStorage.getItem(MINE));
    if (kept?.path === collection.path) mine = kept.given;
  } catch {
    mine = []; // nothing of this tab can be taken back by a key; the history still can
  }
}

/** Columns that labels can go into: of text, and not Birder's own. */
export const labelColumns = () =>
  collection.columns
    .filter((column) => column.type === "text" && !TECHNICAL.includes(column.name))
    .map((column) => column.name);

/** Why a text cannot be a label; empty if it can. Characters are counted as the server counts them. */
export function objection(text) {
  const length = [...text.normalize("NFC")].length;
  return length > LONGEST ? `A label has up to ${LONGEST} characters; this one has ${count(length)}.` : "";
}

/** Write a label (null takes it away) and offer to undo it; true when it is done. */
export const give = (ids, column, value, options) => giveAll([{ ids, column, value }], options);

/**
 * Write labels as one act, which is undone at once; true when it is done. `gather` sends them, without a word, together
 * with what comes within half a second, as an act of all.
 */
export async function giveAll(labels, { gather = false } = {}) {
  await introduced();
  const act = gather ? gathering() : newId();
  const by = me();
  const changes = labels.flatMap(({ ids, column, value }) =>
    Array.from({ length: Math.ceil(ids.length / AT_ONCE) }, (_, part) => ({
      change: newId(),
      act,
      by,
      column,
      ids: ids.slice(part * AT_ONCE, (part + 1) * AT_ONCE),
      value,
    })),
  );
  remember(
    act,
    changes.map(({ change, ids }) => ({ change, ids: ids.slice(0, 1000) })),
  );
  const answered = post(changes, { gather });
  underway.add(answered);
  try {
    const answers = await answered;
    if (answers.every((each) => each === null)) return false;
    for (const label of labels) tellAll("labels", label);
    const changed = answers.reduce((sum, each) => sum + each, 0);
    if (gather) say(summary(labels, changed));
    else if (changed) toast(summary(labels, changed), { action: { label: "Undo", act: () => takeBack({ act }) } });
    else toast(`Nothing to change: ${labels[0].column} was so already`);
    return true;
  } catch (error) {
    changes.forEach(({ change }) => forgetChange(act, change));
    toast(error.message, { error: true, action: { label: "Try again", act: () => giveAll(labels, { gather }) } });
    return false;
  } finally {
    underway.delete(answered);
  }
}

const underway = new Set();

function summary(labels, changed) {
  const [{ column, value }] = labels;
  if (labels.length > 1) return `${photographs(changed)}: ${column} now has ${labels.length} values`;
  return value === null
    ? `Took ${column} from ${photographs(changed)}`
    : `${photographs(changed)}: ${column} is now “${value}”`;
}

function remember(act, changes) {
  const last = mine.at(-1);
  if (last?.act === act) last.changes.push(...changes);
  else mine = [...mine, { act, changes }].slice(-REMEMBERED);
  store();
}

/** An act is undone: there is nothing left of it to take back. */
export function forget(act) {
  mine = mine.filter((each) => each.act !== act);
  store();
}

function forgetChange(act, change) {
  for (const each of mine) if (each.act === act) each.changes = each.changes.filter((one) => one.change !== change);
  mine = mine.filter(({ changes }) => changes.length);
  store();
}

function store() {
  try {
    sessionStorage.setItem(MINE, JSON.stringify({ path: collection.path, given: mine }));
  } catch {
    sessionStorage.removeItem(MINE); // the tab's storage is full
  }
}

/** Take back the last label that was given in this tab, or else the last one of this person. */
export async function undoLast() {
  const last = mine.at(-1);
  if (last) {
    const { change, ids } = last.changes.at(-1);
    if (retract(change)) {
      forgetChange(last.act, change);
      tellAll("undone", { ids });
      return say("Taken back before it was written");
    }
    await Promise.allSettled(underway); // what is being written can be undone when it is written
    return takeBack({ act: last.act });
  }
  if (me()) return takeBack({ by: me() });
  toast("You have labelled nothing in this tab. The history of labels lists all, and takes back any.");
}

/** Undo an act, or the last act of a person. */
export async function takeBack(which) {
  const ids = mine.find(({ act }) => act === which.act)?.changes.flatMap((each) => each.ids);
  try {
    if (which.act) own(which.act);
    const { act, restored, skipped } = await api.undo({ by: me(), ...which });
    own(act);
    forget(act);
    tellAll("undone", { ids });
    toast(
      `Undone: ${photographs(restored)} ${restored === 1 ? "has" : "have"} the label from before${skipped ? `; ${count(skipped)} had been changed since and stay as they are` : ""}`,
    );
  } catch (error) {
    const final = error.status === 404 || error.status === 409;
    if (final && which.act) forget(which.act);
    toast(error.message, { error: !final });
  }
}
