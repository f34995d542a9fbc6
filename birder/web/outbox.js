// Labels on their way: given on the page, not yet written by the server. They are gathered, sent one request after the
// other, sent again while the server cannot be reached, and kept in the browser until they are written. A page that is
// left hands them over, and the next one sends what that did not bring home. Every change has an id of its own, so that
// the server writes it once, however often it comes.

import { api } from "./api.js";
import { count, el, fill } from "./dom.js";
import { toast } from "./layers.js";
import { tellAll } from "./state.js";

const GATHER = 500; // milliseconds in which labels are gathered into one request
const MOST = 100_000; // ids in one request
const BEACON = 60_000; // bytes; browsers take 64 KiB as a page is left
const PAUSES = [1, 2, 4, 8, 15]; // seconds until a failed request is sent again
const KEPT = "birder:unwritten:";

const waiting = []; // {change, act, by, column, ids, value}, the first to be sent first; those under way stand in front
const acts = new Set(); // that this page has part in
const told = new Map(); // change -> who waits for its answer
let underway = [];
let prefix, key, sign;
let timer = 0;
let failures = 0;
let trouble = "";
let drawn = "";
let hurry = false; // somebody waits for what is in the queue
let alone = false; // a refused request is sent again one change at a time: the others are not to blame

/** Whether the news of an act is no news here. */
export const isMine = (act) => acts.has(act);
export const own = (act) => acts.add(act);

/** A random id as the server takes it; `crypto.randomUUID` is there only for pages that came encrypted. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

export function startOutbox(collection) {
  prefix = `${KEPT}${collection.path}:`;
  key = prefix + newId();
  sign = document.getElementById("unwritten");
  addEventListener("beforeunload", (event) => waiting.length && event.preventDefault());
  addEventListener("pagehide", handOver);
  addEventListener("online", () => trouble && sendNow());
  document.addEventListener("visibilitychange", () => document.hidden && sendNow());
  bringHome();
}

/**
 * Send changes; `gather` waits for more to come. Settles when they are written, with how many images each changed (null
 * for one that was taken back before), and fails if the server refuses them.
 */
export function post(changes, { gather = false } = {}) {
  const answers = changes.map((each) => new Promise((resolve, reject) => told.set(each.change, { resolve, reject })));
  changes.forEach(({ act }) => own(act));
  waiting.push(...changes.map((each) => ({ ...each, gathered: gather })));
  keep();
  draw();
  hurry ||= !gather;
  if (!gather) sendNow();
  else if (!underway.length && !timer) timer = setTimeout(send, GATHER);
  return Promise.all(answers);
}

/** The act for a change that is sent with those gathered so far, which are undone together. */
export const gathering = () => waiting.slice(underway.length).findLast((each) => each.gathered)?.act ?? newId();

/** Take a change back that has not been sent; whether it could be. */
export function retract(change) {
  const at = waiting.findIndex((each) => each.change === change);
  if (at < underway.length) return false;
  waiting.splice(at, 1);
  keep();
  draw();
  settle(change, "resolve", null);
  return true;
}

function sendNow() {
  clearTimeout(timer);
  timer = 0;
  send();
}

async function send() {
  timer = 0;
  if (underway.length || !waiting.length) return;
  hurry = false;
  underway = alone ? waiting.slice(0, 1) : first(waiting, MOST, (each) => each.ids.length);
  try {
    const answer = await api.label(body(underway));
    const changed = new Map(answer.changes.map((each) => [each.change, each.changed]));
    leave((each) => settle(each.change, "resolve", changed.get(each.change) ?? 0));
    failures = 0;
    trouble = "";
    alone = false;
  } catch (error) {
    if (passing(error.status)) {
      underway = [];
      trouble = error.message;
      timer = setTimeout(send, 1000 * PAUSES[Math.min(failures++, PAUSES.length - 1)]);
    } else if (underway.length > 1) {
      underway = [];
      alone = true;
    } else leave((each) => settle(each.change, "reject", error));
  }
  draw();
  if (waiting.length && !timer) timer = setTimeout(send, hurry || alone ? 0 : GATHER);
}

/** Whether a request may go well another time: the server was away, busy or locked out, and did not refuse it. */
const passing = (status) => !status || [401, 408, 409, 425, 429].includes(status) || status >= 500;

/** The first changes that may stand in one request: of one act and person, and together not too large. */
function first(changes, most, size) {
  const { act, by } = changes[0];
  let sum = 0;
  const end = changes.findIndex((each) => (sum += size(each)) > most || each.act !== act || each.by !== by);
  return end < 0 ? [...changes] : changes.slice(0, Math.max(1, end));
}

const body = (changes) => ({
  act: changes[0].act,
  ...(changes[0].by ? { by: changes[0].by } : {}),
  changes: changes.map(({ change, column, ids, value }) => ({ change, column, ids, value })),
});

/** Take what was under way out: it has its answer. */
function leave(each) {
  const done = underway;
  underway = [];
  waiting.splice(0, done.length);
  keep();
  done.forEach(each);
}

function settle(change, how, value) {
  told.get(change)?.[how](value);
  told.delete(change);
}

function keep() {
  try {
    if (waiting.length) localStorage.setItem(key, JSON.stringify(waiting));
    else localStorage.removeItem(key);
  } catch {
    // The browser's storage is full: whoever leaves the page before they are written is asked.
  }
}

/** As the page is left: what has no answer yet is handed to the browser, which sends it without the page. */
function handOver() {
  let room = BEACON;
  for (let rest = waiting; rest.length && room > 0;) {
    const some = first(rest, room, (each) => JSON.stringify(each).length);
    const size = JSON.stringify(body(some)).length;
    if (size > room || !api.labelLeaving(body(some))) return; // the next page brings them home
    room -= size;
    rest = rest.slice(some.length);
  }
}

/** Send what pages that were left did not see written. */
function bringHome() {
  const found = Object.keys(localStorage).filter((each) => each.startsWith(prefix));
  const changes = found.flatMap((each) => read(localStorage.getItem(each)));
  if (!changes.length) return;
  post(changes).then(
    () => {
      changes.forEach((each) => tellAll("labels", each));
      toast(`${labels(changes)} from before the page was left: now written`);
    },
    (error) => toast(`A label from before the page was left is refused: ${error.message}`, { error: true }),
  );
  for (const each of found) localStorage.removeItem(each);
  keep();
}

function read(json) {
  try {
    return JSON.parse(json).filter(({ change, column, ids }) => change && column && Array.isArray(ids));
  } catch {
    return [];
  }
}

function labels(changes) {
  const number = changes.reduce((sum, each) => sum + each.ids.length, 0);
  return `${count(number)} label${number === 1 ? "" : "s"}`;
}

/** The sign that says what is unwritten, and why. */
function draw() {
  const what = waiting.length ? `${labels(waiting)} not written yet` : "";
  if (what + trouble === drawn) return; // screen readers need not hear of every attempt
  drawn = what + trouble;
  sign.hidden = !what;
  sign.classList.toggle("trouble", Boolean(trouble));
  if (!trouble) return fill(sign, el("span", { class: "spinner" }), what);
  fill(
    sign,
    el("span", { role: "alert" }, `${what}: ${trouble}`),
    el("button", { type: "button", class: "link", onclick: sendNow }, "Try now"),
    el("button", { type: "button", class: "link", onclick: discard }, "Discard"),
  );
}

function discard() {
  for (const { change } of waiting.slice(underway.length)) retract(change);
  trouble = "";
  draw();
}
