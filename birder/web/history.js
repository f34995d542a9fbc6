// @ts-check
// The history of labels: act by act, with their author, the former labels, and a way to undo them.

import { api, thumbnailUrl } from "./api.js";
import { busy, el, emptyState, fadingImage, failed, fill } from "./dom.js";
import { count, images, localTime } from "./format.js";
import { undo } from "./labels.js";
import { panel } from "./layers.js";
import { askName, me } from "./person.js";
import { listen } from "./signals.js";
import { showAct } from "./subset.js";

/** @import {PastAct, TextCount} from "./types.js" */

const PAGE = 30;

export function showHistory() {
  let mine = false;
  let asked = 0;
  const stopListening = [
    listen("labels", () => load()),
    listen("undone", () => load()),
    listen("theirs", () => load()),
  ];
  const { body, close } = panel("History of labels", "side", {
    onclosed: () => {
      for (const stop of stopListening) stop();
    },
  });
  const tools = el("div", { class: "history-tools" });
  const list = el("ul", { class: "history" });
  const notice = el("div", {});
  fill(body, tools, list, notice);

  /** @param {number} total */
  const drawTools = (total) => {
    const name = me();
    const change = el(
      "button",
      { type: "button", class: "link", onclick: () => askName().then(load) },
      name ? "Change" : "Enter your name",
    );
    fill(
      tools,
      el(
        "p",
        { class: "hint" },
        name ? ["You label as ", el("b", {}, name), "."] : "You label without a name.",
        change,
      ),
      name ? el("div", { class: "segmented", role: "group", "aria-label": "Whose labels" }, whose()) : null,
      total ? el("p", { class: "hint" }, `${count(total)} ${total === 1 ? "entry" : "entries"}`) : null,
    );
  };
  const whose = () =>
    /** @type {[string, boolean][]} */ ([
      ["Everybody's", false],
      ["Mine", true],
    ]).map(([title, value]) => {
      const onclick = () => {
        mine = value;
        load();
      };
      return el("button", { type: "button", "aria-pressed": String(mine === value), onclick }, title);
    });
  /** @param {number} [after] */
  const ask = (after) => api.history({ limit: PAGE, after, by: mine ? me() : undefined });
  /** @param {number | null} next where the next part of the list begins */
  const drawMore = (next) => {
    if (!next) {
      fill(notice);
      return;
    }
    const more = el("button", { type: "button", class: "quiet", onclick: () => append() }, "Show more");
    const append = async () => {
      more.disabled = true;
      const turn = asked;
      try {
        const answer = await ask(next);
        if (turn !== asked) return;
        list.append(...answer.acts.map((act) => entry(act, close)));
        drawMore(answer.next);
      } catch (error) {
        fill(notice, failed(error, append));
      }
    };
    fill(notice, more);
  };
  const load = async () => {
    const turn = ++asked;
    try {
      const { acts, next, total } = await ask();
      if (turn !== asked) return;
      drawTools(total);
      fill(
        list,
        acts.map((act) => entry(act, close)),
      );
      drawMore(next);
      if (!acts.length)
        fill(
          notice,
          emptyState("history", "No labels yet", "Every label that you give is listed here, and can be undone."),
        );
    } catch (error) {
      if (turn === asked) fill(notice, failed(error, load));
    }
  };
  drawTools(0);
  fill(notice, busy("Loading the history"));
  load();
}

/**
 * @param {PastAct} act
 * @param {() => void} close closes the history
 */
function entry({ act, at, by, column, values, former, count: number, ids, undone }, close) {
  const undoButton = el(
    "button",
    {
      type: "button",
      onclick: async () => {
        undoButton.disabled = true;
        await undo({ act });
        undoButton.disabled = false;
      },
    },
    "Undo",
  );
  const show = () => {
    close();
    showAct(act);
  };
  return el(
    "li",
    { class: undone ? "undone" : "" },
    el("p", { class: "given" }, valuesOf(values, number, "b"), ` in ${column}`),
    el("p", { class: "hint" }, "before: ", valuesOf(former, number, "span")),
    el("p", { class: "hint" }, `${by ?? "without a name"}, ${localTime(at)}`),
    el(
      "div",
      { class: "thumbs" },
      ids.map((id) => fadingImage(thumbnailUrl({ id }, 96), { loading: "lazy" })),
      number > ids.length ? el("span", { class: "hint" }, `and ${count(number - ids.length)} more`) : null,
    ),
    el(
      "div",
      { class: "actions" },
      el(
        "button",
        { type: "button", class: "quiet", onclick: show },
        number === 1 ? "Show it" : `Show these ${images(number)}`,
      ),
      undone ? el("span", { class: "hint" }, "undone") : undoButton,
    ),
  );
}

/**
 * Values with how many images have each; the number alone where it says nothing new is left out.
 * @param {TextCount[]} values
 * @param {number} number of images in all
 * @param {"b" | "span"} tag
 */
function valuesOf(values, number, tag) {
  const rest = number - values.reduce((sum, each) => sum + each.count, 0);
  const parts = values.map((each) => [
    each.value === null ? el("i", {}, "no value") : el(tag, {}, each.value),
    values.length > 1 ? ` (${count(each.count)})` : "",
  ]);
  return parts
    .flatMap((part, index) => (index ? [", ", ...part] : part))
    .concat(rest > 0 ? [`, others (${count(rest)})`] : []);
}
