// What happens elsewhere: labels that others give, rows that are added. The server tells it; a page that nobody looks at
// does not listen (browsers open few connections to one server), and catches up when it is looked at again.

import { api } from "./api.js";
import { later, photographs } from "./dom.js";
import { toast } from "./layers.js";
import { isMine } from "./outbox.js";
import { forget } from "./labels.js";
import { listen, tellAll } from "./state.js";

const AGAIN = 10_000; // milliseconds until a stream that was refused is asked for again
const CAUGHT_UP = 50; // acts
let collection, stream, latest;
let notice = () => {};

export function startLive(of) {
  collection = of;
  listen("labels", ({ column }) => filled(column) || renewSoon());
  listen("undone", renewSoon);
  listen("theirs", renewSoon);
  document.addEventListener("visibilitychange", () => (document.hidden ? stop() : start()));
  if (!document.hidden) start();
}

const filled = (name) => collection.columns.some((column) => column.name === name && column.filled > 0);

/** Learn which columns there are now, and whether they have values. */
const renewSoon = later(async () => {
  try {
    const before = JSON.stringify(collection.columns.map(({ name, filled: number }) => [name, number > 0]));
    Object.assign(collection, await api.collection());
    if (JSON.stringify(collection.columns.map(({ name, filled: number }) => [name, number > 0])) !== before)
      tellAll("columns");
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
  stream.addEventListener("label", (event) => told(JSON.parse(event.data)));
  stream.addEventListener("rows", (event) => JSON.parse(event.data).rows !== collection.rows && renewSoon());
  stream.addEventListener("error", () => {
    if (stream?.readyState !== EventSource.CLOSED) return; // the browser connects again by itself
    stop();
    setTimeout(() => document.hidden || start(), AGAIN);
  });
}

/** Hear of what was labelled while nobody listened. */
async function catchUp() {
  try {
    const { acts } = await api.history({ limit: latest === undefined ? 1 : CAUGHT_UP });
    if (latest !== undefined) for (const act of acts.filter(({ at }) => at > latest).reverse()) await told(act);
    latest = acts[0]?.at ?? "";
  } catch {
    // The stream's next start catches up.
  }
}

/** News of an act: of others' the views hear which photographs it changed, and the person by whom. */
async function told({ act, at, by, column, count, undone }) {
  if (at > (latest ?? "")) latest = at;
  if (undone) forget(act);
  if (isMine(act)) return;
  const who = by ?? "Somebody without a name";
  notice();
  notice = toast(
    undone
      ? `${who} took labels back: ${column} of ${photographs(count)}`
      : `${who} labelled ${photographs(count)}: ${column}`,
  );
  try {
    const { ids } = await api.act(act);
    tellAll("theirs", { ids, by: who, column, undone });
  } catch {
    tellAll("undone"); // what it changed is not known: everything is asked for anew
  }
}
