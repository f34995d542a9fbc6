// @ts-check
// The sign that says which labels are not written yet, and why; and what happens to them as the page comes and goes.

import { api } from "./api.js";
import { byId, el, fill, messageOf } from "./dom.js";
import { count } from "./format.js";
import { toast } from "./layers.js";
import { labelsIn, Outbox } from "./outbox.js";
import { tellAll } from "./signals.js";

/** @import {Collection} from "./types.js" */

/** @type {Outbox} */
let box;
let drawn = "";

export const outbox = () => box;

/** @param {Collection} collection */
export function startOutbox(collection) {
  box = new Outbox({
    send: api.label,
    handOver: api.labelLeaving,
    storage: localStorage,
    path: collection.path,
    onchange: draw,
  });
  addEventListener("beforeunload", (event) => box.unwritten && event.preventDefault());
  addEventListener("pagehide", () => box.leave());
  addEventListener("online", () => box.trouble && box.sendNow());
  document.addEventListener("visibilitychange", () => document.hidden && box.sendNow());
  sendLeftOvers();
}

async function sendLeftOvers() {
  const left = box.sendLeftOvers();
  if (!left) return;
  try {
    await left.written;
    for (const change of left.changes) tellAll("labels", change);
    toast(`${labels(labelsIn(left.changes))} from before the page was left: now written`);
  } catch (error) {
    toast(`A label from before the page was left is refused: ${messageOf(error)}`, { error: true });
  }
}

/** @param {number} number */
const labels = (number) => `${count(number)} label${number === 1 ? "" : "s"}`;

function draw() {
  const { unwritten, trouble } = box;
  const what = unwritten ? `${labels(unwritten)} not written yet` : "";
  if (what + trouble === drawn) return; // screen readers need not hear of every attempt
  drawn = what + trouble;
  const sign = byId("unwritten");
  sign.hidden = !what;
  sign.classList.toggle("trouble", Boolean(trouble));
  if (!trouble) {
    fill(sign, el("span", { class: "spinner" }), what);
    return;
  }
  fill(
    sign,
    el("span", { role: "alert" }, `${what}: ${trouble}`),
    el("button", { type: "button", class: "link", onclick: () => box.sendNow() }, "Try now"),
    el("button", { type: "button", class: "link", onclick: () => box.discard() }, "Discard"),
  );
}
