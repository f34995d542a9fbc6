// @ts-check
// Shifts of times, as the history lists and undoes them.

import { api } from "./api.js";
import { el, messageOf } from "./dom.js";
import { count, duration, images, localTime } from "./format.js";
import { toast } from "./layers.js";
import { me } from "./person.js";
import { tellAll } from "./signals.js";

/** @import {PastShift} from "./types.js" */

/** @param {PastShift} shift */
export function shiftEntry({ act, at, by, where, seconds, rows, undone }) {
  const undoButton = el(
    "button",
    {
      type: "button",
      onclick: async () => {
        undoButton.disabled = true;
        await undoShift(act);
        undoButton.disabled = false;
      },
    },
    "Undo",
  );
  return el(
    "li",
    { class: undone ? "undone" : "" },
    el(
      "p",
      { class: "given" },
      `Shifted ${count(rows)} time${rows === 1 ? "" : "s"} by `,
      el("b", {}, duration(seconds)),
      where === null || where.toLowerCase() === "true" ? null : [" where ", el("code", {}, where)],
    ),
    el("p", { class: "hint" }, `${by ?? "without a name"}, ${localTime(at)}`),
    el("div", { class: "actions" }, el("span", {}), undone ? el("span", { class: "hint" }, "undone") : undoButton),
  );
}

/** @param {string} act */
async function undoShift(act) {
  try {
    const { restored, skipped } = await api.undoShift({ act, by: me() || null });
    tellAll("undone", {});
    const has = restored === 1 ? "has" : "have";
    const kept = skipped ? `; ${count(skipped)} changed since then are left as they are` : "";
    toast(`Undone: ${images(restored)} ${has} the former time${kept}`);
  } catch (error) {
    toast(messageOf(error), { error: true });
  }
}
