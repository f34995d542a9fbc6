// @ts-check
// The files that could not be embedded, why, and the command that tries them again.

import { api } from "./api.js";
import { busy, byId, commandLine, el, emptyState, failed, fill } from "./dom.js";
import { count, quoted, time } from "./format.js";
import { state, watch } from "./state.js";

/** @import {Collection, Failure} from "./types.js" */

const PAGE = 200;

/** @type {Collection} */
let collection;
/** @type {HTMLElement} */
let scroller;
/** @type {HTMLElement} */
let counter;
let loaded = false;

/** @param {Collection} of */
export function startFailures(of) {
  collection = of;
  counter = el("p", { class: "count" });
  scroller = el("div", { class: "scroller" });
  byId("view-failures").append(el("div", { class: "toolbar" }, counter), scroller);
  watch((now) => now.view === "failures" && !loaded && load());
  if (state().view === "failures") load();
}

async function load() {
  loaded = true;
  fill(scroller, busy("Loading the failures"));
  try {
    const { total, failures } = await api.failures(0, PAGE);
    draw(total, failures);
  } catch (error) {
    loaded = false;
    fill(scroller, failed(error, load));
  }
}

/**
 * @param {number} total
 * @param {Failure[]} failures
 */
function draw(total, failures) {
  counter.textContent = total ? `${count(total)} file${total === 1 ? "" : "s"} failed` : "";
  if (!total) {
    fill(scroller, emptyState("check", "No failures", "Every file became a row of this collection."));
    return;
  }
  const rows = el("tbody", {}, failures.map(rowOf));
  const more = el("button", { type: "button", class: "quiet" }, "Show more");
  more.hidden = failures.length >= total;
  more.addEventListener("click", async () => {
    more.disabled = true;
    try {
      const next = await api.failures(rows.children.length, PAGE);
      rows.append(...next.failures.map(rowOf));
      more.hidden = rows.children.length >= total || !next.failures.length;
    } catch (error) {
      more.after(failed(error, () => more.click()));
    }
    more.disabled = false;
  });
  const titles = ["File", "Reason", "When"].map((title) => el("th", { scope: "col" }, title));
  fill(scroller, retry(), el("table", { class: "failures" }, el("thead", {}, el("tr", {}, titles)), rows), more);
}

/** @param {Failure} failure */
const rowOf = ({ name, reason, failed_at: at }) =>
  el(
    "tr",
    {},
    el("td", { class: "file" }, name),
    el("td", {}, reason),
    el("td", { class: "when" }, at ? time(at).slice(0, 16) : ""),
  );

function retry() {
  return el(
    "div",
    { class: "command" },
    el("p", {}, "Repair or replace the files, try them again in a terminal, then reload this page:"),
    commandLine(`birder embed --retry-failed --in ${quoted(collection.path)}`),
  );
}
