// Giving labels and taking them back. Ctrl+Z takes back one's own, in this tab or by one's name, never somebody else's.

import { api } from "./api.js";
import { count, photographs, say } from "./dom.js";
import { toast } from "./layers.js";
import { newId, own, post, retract } from "./outbox.js";
import { introduced, me } from "./person.js";
import { tellAll } from "./state.js";

const TECHNICAL = ["id", "uri", "sha256", "etag"];
const AT_ONCE = 100_000; // ids in one change
const LONGEST = 300; // characters
const REMEMBERED = 200; // of one's own, to be taken back
const MINE = "birder:mine";
let collection;
let mine = []; // {act} or {change}, with the ids, the last given last

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
 * Write labels as one act, which is undone at once. `gather` sends them together with those that come within half a
 * second, and without a word; `act` is then the act that they are part of, and Ctrl+Z takes back one of them.
 */
export async function giveAll(labels, { gather = false, act = newId() } = {}) {
  await introduced();
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
  const given = gather ? { change: changes[0].change } : { act };
  remember({ ...given, act, ids: labels.flatMap(({ ids }) => ids).slice(0, AT_ONCE / 100) });
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
    forget((each) => each.act === act && (!gather || each.change === given.change));
    toast(error.message, { error: true, action: { label: "Try again", act: () => giveAll(labels, { gather, act }) } });
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

function remember(given) {
  mine = [...mine, given].slice(-REMEMBERED);
  store();
}

/** An act is undone: there is nothing left of it to take back. */
export function forget(which) {
  mine = mine.filter((each) => !which(each));
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
    forget((each) => each === last);
    if (last.change && retract(last.change)) {
      tellAll("undone", { ids: last.ids });
      return say("Taken back before it was written");
    }
    await Promise.allSettled(underway); // what is being written can be undone when it is written
    return takeBack(last.change ? { change: last.change } : { act: last.act }, last);
  }
  if (me()) return takeBack({ by: me() });
  toast("You have labelled nothing in this tab. The history of labels lists all, and takes back any.");
}

/** Undo an act, a change, or the last act of a person; `given` is what this tab knows of it. */
export async function takeBack(which, given = undefined) {
  try {
    if (which.act) own(which.act);
    const { act, restored, skipped } = await api.undo(which);
    own(act);
    if (which.act) forget((each) => each.act === which.act);
    tellAll("undone", { ids: given?.ids });
    toast(
      `Undone: ${photographs(restored)} ${restored === 1 ? "has" : "have"} the label from before${skipped ? `; ${count(skipped)} had been changed since and stay as they are` : ""}`,
    );
  } catch (error) {
    const final = error.status === 404 || error.status === 409;
    if (given && !final) remember(given);
    toast(error.message, { error: !final });
  }
}
