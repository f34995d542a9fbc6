// @ts-check
// The review: what a model named images, one after the other, to accept, reject or label by a key each. Images of a
// sequence are decided together.

import { Ahead } from "./ahead.js";
import { api, isAbort, statusOf, thumbnailUrl } from "./api.js";
import { decide, decisionButtons, noteLabel } from "./deciding.js";
import { decisionOf } from "./decisions.js";
import {
  busy,
  byId,
  closest,
  debounced,
  el,
  emptyState,
  fadingImage,
  failed,
  fill,
  iconButton,
  messageOf,
  say,
  toolbar,
} from "./dom.js";
import { where } from "./filter.js";
import { count, fileName, images, percent } from "./format.js";
import { giveAll } from "./labels.js";
import { objection } from "./labeltext.js";
import { isLayered } from "./layers.js";
import { openPhoto } from "./opening.js";
import { selection, showsSelected } from "./selection.js";
import { listen, tellAll } from "./signals.js";
import { List } from "./sources.js";
import { asOne, stacksOf } from "./stacks.js";
import { go, state, watch } from "./state.js";
import { Zoom } from "./zoom.js";

/**
 * @import {Decision} from "./decisions.js"
 * @import {Stack} from "./stacks.js"
 * @import {Collection, Interval, Photo, Review, State} from "./types.js"
 */

const LIMIT = 500; // images asked for at once
const AHEAD = 4; // stacks whose images are fetched before they are wanted
const AGREEMENT_AFTER = 1500; // milliseconds after a decision in which more may come

/** @type {Collection} */
let collection;
/** @type {ReturnType<typeof build>} */
let parts;
/** @type {Zoom} */
let zoom;
/** @type {Stack[]} */
let queue = [];
let at = 0; // the stack that is looked at
let frame = 0; // the image of it
/** @type {Map<Stack, string>} what was decided since they were asked for */
let decided = new Map();
/** @type {Set<Promise<boolean>>} */
const writing = new Set();
let total = 0;
let shown = "";
let abort = new AbortController();
const ahead = new Ahead((id) => photo()?.id === id && drawImage());

/** @param {Collection} of */
export function startReview(of) {
  collection = of;
  parts = build();
  zoom = new Zoom(parts.stage);
  parts.stageSide.append(zoom.tools);
  drawTools();
  watch((now) => {
    if (now.view !== "review") return;
    drawTools();
    if (keyOf(now) !== shown) load();
  });
  document.addEventListener("keydown", key);
  listen("columns", drawTools);
  listen("predicted", () => {
    shown = "";
    if (state().view === "review") load();
  });
  listen("selection", drawSelected);
  listen("labels", ({ ids, column, value }) => {
    const ours = queue.filter((stack) => !decided.has(stack) && stack.photos.every(({ id }) => ids.includes(id)));
    for (const stack of ours) decided.set(stack, column === "rejected" ? `not ${value}` : (value ?? ""));
    if (ours.length) draw();
    parts.buttons.draw(target());
  });
  listen("theirs", ({ ids, by, undone }) => {
    const theirs = queue.filter((stack) => stack.photos.some(({ id }) => ids.includes(id)));
    for (const stack of theirs) if (undone) decided.delete(stack);
    for (const stack of theirs) if (!undone && !decided.has(stack)) decided.set(stack, `labelled by ${by}`);
    if (theirs.length) draw();
  });
  listen("undone", ({ ids }) => {
    const back = queue.findIndex(({ photos }) => photos.some(({ id }) => ids?.includes(id)));
    if (back < 0) shown = "";
    for (const stack of queue) if (stack.photos.some(({ id }) => ids?.includes(id))) decided.delete(stack);
    if (state().view !== "review") return;
    if (back < 0) load();
    else move(back);
    agreementSoon();
  });
  showsSelected("review", (ids) => ids.filter((id) => queue[at]?.photos.some((each) => each.id === id)));
  if (state().view === "review") load();
}

function build() {
  /** @type {HTMLSelectElement} */
  const source = el(
    "select",
    { id: "review-source", onchange: () => go({ reviewSource: source.value, reviewName: "" }) },
    el("option", { value: "predictions" }, "predictions"),
    el("option", { value: "suggestions" }, "suggestions of Teach"),
  );
  /** @type {HTMLSelectElement} */
  const name = el("select", { id: "review-name", onchange: () => go({ reviewName: name.value }) });
  /** @type {HTMLSelectElement} */
  const order = el(
    "select",
    { id: "review-order", onchange: () => go({ reviewOrder: order.value }) },
    Object.entries({
      doubtful: "least certain",
      certain: "most certain",
      class: "by class",
      sequence: "by sequence",
      random: "a random sample",
    }).map(([value, title]) => el("option", { value }, title)),
  );
  /** @type {HTMLInputElement} */
  const fold = el("input", {
    type: "checkbox",
    id: "review-stacks",
    onchange: () => go({ stacks: fold.checked ? "yes" : "no" }),
  });
  const counter = el("p", { class: "count" });
  const agreement = el("p", { class: "hint note" });
  const notice = el("div", { class: "notice", hidden: true });
  const stage = el("div", { class: "stage", "aria-label": "The image to decide", role: "group", tabindex: "0" });
  const stageSide = el(
    "div",
    { class: "stage-side" },
    stage,
    iconButton("left", "Previous (left arrow)", () => move(at - 1), { class: "icon-button turn previous" }),
    iconButton("right", "Next (right arrow)", () => move(at + 1), { class: "icon-button turn next" }),
  );
  const title = el("h2", { class: "review-name" });
  const about = el("p", { class: "hint" });
  const done = el("p", { class: "review-done", role: "status" });
  const buttons = decisionButtons((decision) => act(decision));
  const list = el("datalist", { id: "review-labels" });
  /** @type {HTMLInputElement} */
  const input = el("input", {
    type: "text",
    class: "label-input",
    list: list.id,
    placeholder: "Another label, then Enter",
    "aria-label": "Another label",
    autocomplete: "off",
    oninput: () => input.setCustomValidity(""),
    onkeydown: (event) => {
      if (event.key !== "Escape") return;
      event.preventDefault();
      event.stopPropagation();
      input.blur();
    },
  });
  const form = el(
    "form",
    {
      class: "label-form",
      onsubmit: (event) => {
        event.preventDefault();
        const value = input.value.trim();
        input.setCustomValidity(objection(value));
        if (!value || !input.reportValidity()) return;
        input.value = "";
        input.blur();
        typed(value);
      },
    },
    input,
    list,
    el("button", { type: "submit" }, "Label"),
  );
  const strip = el("div", { class: "strip", role: "group", "aria-label": "Images of this sequence" });
  const select = el("button", { type: "button", onclick: toggleSelected });
  const body = el(
    "div",
    { class: "review" },
    stageSide,
    el(
      "div",
      { class: "details" },
      title,
      about,
      done,
      buttons.element,
      form,
      strip,
      el(
        "div",
        { class: "photo-actions" },
        el("button", { type: "button", "aria-keyshortcuts": "O", onclick: openDetails }, "Open", el("kbd", {}, "O")),
        select,
      ),
    ),
  );
  const section = byId("view-review");
  section.append(
    toolbar(
      counter,
      el("label", { class: "tool", for: "review-source" }, el("span", {}, "Review"), source),
      el("label", { class: "tool", for: "review-name" }, el("span", {}, "Class"), name),
      el("label", { class: "tool", for: "review-order" }, el("span", {}, "First"), order),
      el("label", { class: "tool", for: "review-stacks" }, fold, el("span", { class: "always" }, "Fold sequences")),
    ),
    agreement,
    notice,
    body,
  );
  return {
    ...{ source, name, order, fold, counter, agreement, notice, stage, stageSide, title, about, done, buttons },
    ...{ input, list, form, strip, select, body },
  };
}

/** The column that labels go into. */
const target = () => (state().reviewSource === "suggestions" ? state().teachColumn : "label");
const photo = () => queue[at]?.photos[frame];
/** @param {State} now */
const keyOf = (now) =>
  JSON.stringify([now.filters, now.reviewSource, now.reviewName, now.reviewOrder, now.stacks, target()]);

/** @param {State} now */
const asked = (now) => ({
  source: now.reviewSource,
  column: target(),
  name: now.reviewName,
  order: now.reviewOrder,
  stacks: String(now.stacks === "yes"),
  where: where(now.filters),
});

function drawTools() {
  const now = state();
  parts.source.value = now.reviewSource;
  parts.order.value = now.reviewOrder;
  parts.fold.checked = now.stacks === "yes";
  const sequences = collection.columns.some(({ name, filled }) => name === "sequence" && filled > 0);
  const label = /** @type {HTMLElement} */ (parts.fold.parentElement);
  label.hidden = !sequences;
  parts.form.hidden = parts.buttons.element.hidden = !collection.writable;
  parts.buttons.draw(target());
}

async function load() {
  abort.abort();
  abort = new AbortController();
  const { signal } = abort;
  const now = state();
  shown = keyOf(now);
  parts.body.hidden = true;
  parts.agreement.textContent = parts.counter.textContent = "";
  fill(parts.notice, busy("Looking for what awaits a decision")).hidden = false;
  try {
    await Promise.allSettled(writing); // what was decided no longer awaits it
    const answer = await api.review({ ...asked(now), limit: LIMIT }, signal);
    if (signal.aborted) return;
    show(now, answer);
  } catch (error) {
    if (isAbort(error)) return;
    shown = "";
    fill(
      parts.notice,
      statusOf(error) === 400 ? emptyState("check", "Nothing to review", messageOf(error)) : failed(error, load),
    ).hidden = false;
  }
}

/**
 * @param {State} now
 * @param {Review} answer
 */
function show(now, answer) {
  queue = stacksOf(answer.photos, now.stacks === "yes");
  decided = new Map();
  total = answer.total;
  drawClasses(now, answer);
  drawAgreement(answer.agreement, answer.note);
  fill(
    parts.list,
    answer.classes.map(({ name }) => el("option", { value: name })),
  );
  parts.notice.hidden = queue.length > 0;
  parts.body.hidden = queue.length === 0;
  if (!queue.length) {
    drawCount();
    fill(
      parts.notice,
      emptyState("check", "All decided", "Nobody's decision is missing for what matches the filters and the class."),
    );
    return;
  }
  move(0);
  parts.stage.focus({ preventScroll: true }); // and not what led here, which has keys of its own
}

/**
 * @param {State} now
 * @param {Review} answer
 */
function drawClasses(now, { classes }) {
  fill(
    parts.name,
    el("option", { value: "" }, "any class"),
    classes.map(({ name, count: number }) => el("option", { value: name }, `${name} (${count(number)})`)),
  );
  if (now.reviewName && !classes.some(({ name }) => name === now.reviewName))
    parts.name.append(el("option", { value: now.reviewName }, now.reviewName));
  parts.name.value = now.reviewName;
}

/**
 * @param {Interval | null} agreement
 * @param {string} note
 */
function drawAgreement(agreement, note) {
  const share = (/** @type {number} */ value) => percent(value);
  const limits =
    agreement && agreement.low !== null && agreement.high !== null
      ? ` (${share(agreement.low)} to ${share(agreement.high)})`
      : "";
  const order =
    state().reviewOrder === "random" ? "" : " Only a random sample tells how good the model is on the rest.";
  parts.agreement.textContent = agreement
    ? `People agreed with ${share(agreement.estimate)}${limits} of ${images(agreement.n)} decided so far.${order}`
    : note;
  parts.agreement.title = agreement ? `95 % interval: ${agreement.interval}` : "";
}

const agreementSoon = debounced(async () => {
  const now = state();
  if (now.view !== "review" || now.reviewSource !== "predictions") return;
  try {
    await Promise.allSettled(writing);
    const answer = await api.review({ ...asked(now), limit: 1 });
    if (keyOf(state()) === keyOf(now)) drawAgreement(answer.agreement, answer.note);
  } catch {
    // The next decision asks again.
  }
}, AGREEMENT_AFTER);

/**
 * Look at another stack.
 * @param {number} to
 */
function move(to) {
  at = Math.max(0, Math.min(to, queue.length - 1));
  frame = 0;
  draw();
  tellAll("shown");
}

function drawCount() {
  const done = [...decided.keys()].reduce((sum, { photos }) => sum + photos.length, 0);
  parts.counter.textContent = `${images(Math.max(0, total - done))} to decide`;
}

function draw() {
  drawCount();
  const stack = queue[at];
  if (!stack) return;
  const { photos, name, score, agreeing } = stack;
  parts.title.textContent = `${name}?`;
  const others = photos.length > 1 ? ` ${count(agreeing)} of ${images(photos.length)} of this sequence say so.` : "";
  const current = photos[frame];
  const rejected = current.rejected ? ` Not ${current.rejected.replaceAll(" | ", ", not ")}.` : "";
  parts.about.textContent = `${percent(score)} probable.${others}${rejected} ${fileName(current.name)}`;
  parts.about.title = current.name;
  const decision = decided.get(stack);
  parts.done.textContent = decision === undefined ? "" : `✓ ${decision}`;
  parts.strip.hidden = photos.length < 2;
  fill(parts.strip, photos.length < 2 ? [] : photos.map(stripTile));
  drawSelected();
  drawImage();
  ahead.keep(wantedImages());
}

/**
 * @param {Photo} each
 * @param {number} index
 */
const stripTile = (each, index) =>
  el(
    "button",
    {
      type: "button",
      class: "neighbour",
      title: each.name,
      "aria-pressed": String(index === frame),
      onclick: () => {
        frame = index;
        draw();
      },
    },
    fadingImage(thumbnailUrl(each, 96)),
    el("span", { class: "name" }, each.predicted ?? ""),
    el("span", { class: "detail" }, percent(each.predicted_score ?? 0)),
  );

/** What is looked at, then what comes next, then what was before. */
function wantedImages() {
  const next = queue.slice(at + 1, at + 1 + AHEAD).flatMap(({ photos }) => photos.slice(0, 2));
  const stack = queue[at].photos;
  return [stack[frame], ...next, ...stack.slice(frame + 1, frame + 3), ...(queue[at - 1]?.photos.slice(0, 1) ?? [])];
}

function drawImage() {
  const current = photo();
  if (!current) return;
  const image = ahead.element(current);
  const broken = ahead.of(current).state === "broken";
  const there =
    image ?? (broken ? emptyState("image", "The image cannot be shown", "Its row is still here.") : busy("Loading"));
  if (image) {
    image.alt = current.name;
    image.classList.add("loaded");
  }
  if (parts.stage.firstElementChild !== there) fill(parts.stage, there);
  zoom.look(image, current.id);
}

function drawSelected() {
  const stack = queue[at];
  if (!stack) return;
  const on = stack.photos.every(({ id }) => selection.has(id));
  fill(parts.select, on ? "Selected" : "Select", el("kbd", {}, "Space"));
  parts.select.setAttribute("aria-pressed", String(on));
}

function toggleSelected() {
  const ids = queue[at].photos.map(({ id }) => id);
  if (ids.every((id) => selection.has(id))) selection.remove(ids);
  else selection.add(ids);
}

function openDetails() {
  const source = new List(queue.flatMap(({ photos }) => photos));
  const index = source.photos.findIndex(({ id }) => id === photo()?.id);
  openPhoto(photo()?.id, { source, index, column: target() });
}

/**
 * Decide the stack that is looked at, once its image is there to be judged.
 * @param {Decision} decision
 * @param {boolean} [held] whether the key is held down
 */
function act(decision, held = false) {
  const stack = queue[at];
  const { state: loaded } = ahead.of(stack.photos[frame]);
  if (!collection.writable) return;
  if (loaded !== "loaded" && (held || loaded !== "broken")) {
    if (!held) say("The image has not loaded yet");
    return;
  }
  const done = decide(decision, asOne(stack), target());
  if (done) decidedAs(stack, done.text, done.written);
}

/** @param {string} value */
function typed(value) {
  const stack = queue[at];
  const ids = stack.photos.map(({ id }) => id);
  const label = { ids, column: target(), value };
  noteLabel(label);
  parts.buttons.draw(target());
  decidedAs(stack, value, giveAll([label], { gather: true }));
}

/**
 * @param {Stack} stack
 * @param {string} text
 * @param {Promise<boolean>} written
 */
async function decidedAs(stack, text, written) {
  decided.set(stack, text);
  writing.add(written);
  next();
  const done = await written;
  writing.delete(written);
  if (done) agreementSoon();
  else if (decided.get(stack) === text) {
    decided.delete(stack);
    draw();
  }
}

/** Go on to the next stack that nobody has decided; after the last, ask for more. */
function next() {
  const after = queue.findIndex((stack, index) => index > at && !decided.has(stack));
  const open = after >= 0 ? after : queue.findIndex((stack) => !decided.has(stack));
  if (open >= 0) move(open);
  else load();
}

/** @param {KeyboardEvent} event */
function key(event) {
  if (state().view !== "review" || isLayered() || event.defaultPrevented || parts.body.hidden || !queue.length) return;
  if (closest(event, "input:not([type=range], [type=checkbox]), textarea, select")) return;
  const onButton = closest(event, "button, a, input, summary") !== null;
  const decision = decisionOf(event);
  if (decision !== undefined) act(decision, event.repeat);
  else if (event.ctrlKey || event.metaKey || event.altKey) return;
  else if (event.key === "ArrowLeft" && !closest(event, "input")) move(at - 1);
  else if (event.key === "ArrowRight" && !closest(event, "input")) move(at + 1);
  else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    if (closest(event, "input")) return;
    frame = Math.max(0, Math.min(queue[at].photos.length - 1, frame + (event.key === "ArrowDown" ? 1 : -1)));
    draw();
  } else if (event.key.toLowerCase() === "o") openDetails();
  else if (event.key.toLowerCase() === "l" || (event.key === "Enter" && !onButton)) parts.input.focus();
  else if (event.key === " " && !onButton) toggleSelected();
  else if (!zoom.key(event)) return;
  event.preventDefault();
}
