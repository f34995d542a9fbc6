// @ts-check
// What happens elsewhere: labels that others give, rows that are added. The server tells it; a page that nobody looks at
// does not listen (browsers open few connections to one server), and catches up when it is looked at again.

import { api } from "./api.js";
import { debounced } from "./dom.js";
import { images } from "./format.js";
import { forget } from "./labels.js";
import { toast } from "./layers.js";
import { listen, tellAll } from "./signals.js";
import { outbox } from "./unwritten.js";

/** @import {Collection, ReportedAct} from "./types.js" */

const RECONNECT = 10_000; // milliseconds until a stream that was refused is asked for again
const CAUGHT_UP = 50; // acts

/** @type {Collection} */
let collection;
/** @type {EventSource | undefined} */
let stream;
/** @type {string | undefined} when the latest act that is known here was given */
let latest;
let removeMessage = () => {};

/** @param {Collection} of */
export function startLive(of) {
  collection = of;
  listen("labels", ({ column }) => {
    if (!hasValues(column)) renewSoon();
  });
  listen("undone", renewSoon);
  listen("theirs", renewSoon);
  listen("back", () => {
    stop();
    start();
    renewSoon();
  });
  document.addEventListener("visibilitychange", () => (document.hidden ? stop() : start()));
  if (!document.hidden) start();
}

/** @param {string} name */
const hasValues = (name) => collection.columns.some((column) => column.name === name && column.filled > 0);

const columnsWithValues = () => JSON.stringify(collection.columns.map(({ name, filled }) => [name, filled > 0]));

/** Learn which columns there are now, and whether they have values. */
const renewSoon = debounced(async () => {
  try {
    const before = columnsWithValues();
    Object.assign(collection, await api.collection());
    if (columnsWithValues() !== before) tellAll("columns");
    tellAll("collection");
  } catch {
    // The next change asks again.
  }
}, 200);

function stop() {
  stream?.close();
  stream = undefined;
}

function start() {
  if (stream) return;
  stream = api.events();
  stream.addEventListener("open", catchUp);
  stream.addEventListener("label", (event) => report(JSON.parse(event.data)));
  stream.addEventListener("rows", (event) => JSON.parse(event.data).rows !== collection.rows && renewSoon());
  stream.addEventListener("error", () => {
    if (stream?.readyState !== EventSource.CLOSED) return; // the browser connects again by itself
    stop();
    setTimeout(() => document.hidden || start(), RECONNECT);
  });
}

/** Hear of what was labelled while nobody listened. */
async function catchUp() {
  try {
    const { acts } = await api.history({ limit: latest === undefined ? 1 : CAUGHT_UP });
    if (latest !== undefined) {
      const since = latest;
      for (const act of acts.filter(({ at }) => at > since).reverse()) await report(act);
    }
    latest = acts[0]?.at ?? "";
  } catch {
    // The stream's next start catches up.
  }
}

/**
 * News of an act: of others' the views hear which images it changed, and the person by whom.
 * @param {ReportedAct} news
 */
async function report({ act, at, by, column, count, undone }) {
  if (at > (latest ?? "")) latest = at;
  if (undone) forget(act);
  if (outbox().isMine(act)) return;
  const who = by ?? "Somebody without a name";
  removeMessage();
  removeMessage = toast(
    undone ? `${who} undid labels: ${column} of ${images(count)}` : `${who} labelled ${images(count)}: ${column}`,
  );
  try {
    const { ids } = await api.act(act);
    tellAll("theirs", { ids, by: who, column, undone });
  } catch {
    tellAll("undone", {}); // what it changed is not known: everything is asked for again
  }
}
