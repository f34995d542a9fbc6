// @ts-check
// Giving labels and undoing them. Ctrl+Z undoes one's own, in this tab or by one's name, never somebody else's.

import { api, statusOf } from "./api.js";
import { messageOf, say } from "./dom.js";
import { count, images } from "./format.js";
import { GivenLabels } from "./given.js";
import { newId } from "./ids.js";
import { summary } from "./labeltext.js";
import { toast } from "./layers.js";
import { introduced, me } from "./person.js";
import { tellAll } from "./signals.js";
import { outbox } from "./unwritten.js";

/** @import {Collection, Label} from "./types.js" */

const IDS_A_CHANGE = 100_000;
const IDS_REMEMBERED = 1000; // of a change
const NOT_LABELS = ["uri", "id", "sha256", "etag"]; // columns of text that are Birder's own

/** @type {Collection} */
let collection;
/** @type {GivenLabels} */
let given;
/** @type {Set<Promise<unknown>>} */
const underway = new Set();

/** @param {Collection} of */
export function startLabels(of) {
  collection = of;
  given = new GivenLabels(sessionStorage, collection.path);
}

/** Columns that labels can go into: of text, and not Birder's own. */
export const labelColumns = () =>
  collection.columns
    .filter((column) => column.type === "text" && !NOT_LABELS.includes(column.name))
    .map((column) => column.name);

/**
 * Write a label (null takes it away) and offer to undo it; true when it is done.
 * @param {string[]} ids
 * @param {string} column
 * @param {string | null} value
 */
export const give = (ids, column, value) => giveAll([{ ids, column, value }]);

/**
 * Write labels as one act, which is undone at once; true when it is done. `gather` sends them, without a word, together
 * with what comes within half a second, as one act.
 * @param {Label[]} labels
 * @returns {Promise<boolean>}
 */
export async function giveAll(labels, { gather = false } = {}) {
  await introduced();
  const act = gather ? outbox().gatheringAct() : newId();
  const by = me();
  const changes = labels.flatMap(({ ids, column, value }) =>
    Array.from({ length: Math.ceil(ids.length / IDS_A_CHANGE) }, (_, part) => ({
      change: newId(),
      act,
      by,
      column,
      ids: ids.slice(part * IDS_A_CHANGE, (part + 1) * IDS_A_CHANGE),
      value,
    })),
  );
  given.remember(
    act,
    changes.map(({ change, ids }) => ({ change, ids: ids.slice(0, IDS_REMEMBERED) })),
  );
  const answered = outbox().post(changes, { gather });
  underway.add(answered);
  try {
    const answers = await answered;
    if (answers.every((each) => each === null)) return false;
    for (const label of labels) tellAll("labels", label);
    const changed = answers.reduce((/** @type {number} */ sum, each) => sum + (each ?? 0), 0);
    if (gather) say(summary(labels, changed));
    else if (changed) toast(summary(labels, changed), { action: { label: "Undo", act: () => undo({ act }) } });
    else toast(`Nothing to change: ${labels[0].column} has that value already`);
    return true;
  } catch (error) {
    for (const { change } of changes) given.forgetChange(act, change);
    toast(messageOf(error), { error: true, action: { label: "Try again", act: () => giveAll(labels, { gather }) } });
    return false;
  } finally {
    underway.delete(answered);
  }
}

/**
 * Do what is written otherwise than as labels, as an act of this person that is undone as those are; fails as `write`.
 * @param {(act: {act: string, by: string | null}) => Promise<string[]>} write gives the ids of the images that it changed
 * @param {string} done what is said afterwards
 */
export async function actOf(write, done) {
  await introduced();
  const act = newId();
  outbox().own(act);
  const ids = await write({ act, by: me() });
  given.remember(act, [{ change: newId(), ids }]);
  toast(done, { action: { label: "Undo", act: () => undo({ act }) } });
}

/**
 * An act was undone elsewhere: there is nothing left of it to take back.
 * @param {string} act
 */
export const forget = (act) => given.forget(act);

/** Undo the last label that was given in this tab, or else the last one of this person. */
export async function undoLast() {
  const last = given.last();
  if (last) {
    if (outbox().retract(last.change)) {
      given.forgetChange(last.act, last.change);
      tellAll("undone", { ids: last.ids });
      say("Undone before it was written");
      return;
    }
    await Promise.allSettled(underway); // what is being written can be undone when it is written
    await undo({ act: last.act });
  } else if (me()) await undo({ by: me() });
  else toast("You have labelled nothing in this tab. The history of labels lists all acts, and undoes any.");
}

/**
 * Undo an act, or the last act of a person.
 * @param {{act?: string, by?: string | null}} which
 */
export async function undo(which) {
  const ids = given.idsOf(which.act);
  try {
    if (which.act) outbox().own(which.act);
    const { act, restored, skipped } = await api.undo({ by: me(), ...which });
    outbox().own(act);
    given.forget(act);
    tellAll("undone", { ids });
    const has = restored === 1 ? "has" : "have";
    const kept = skipped ? `; ${count(skipped)} changed since then are left as they are` : "";
    toast(`Undone: ${images(restored)} ${has} the former label${kept}`);
  } catch (error) {
    const final = [404, 409].includes(statusOf(error));
    if (final && which.act) given.forget(which.act);
    toast(messageOf(error), { error: !final });
  }
}
