// @ts-check
// The history of labels and of shifted times: act by act, with their author, the former labels, and a way to undo them.

import { api, thumbnailUrl } from "./api.js";
import { busy, el, emptyState, fadingImage, failed, fill } from "./dom.js";
import { count, images, localTime } from "./format.js";
import { undo } from "./labels.js";
import { panel } from "./layers.js";
import { askName, me } from "./person.js";
import { shiftEntry } from "./shifts.js";
import { listen } from "./signals.js";
import { showAct } from "./subset.js";

/** @import {PastAct, PastShift, TextCount} from "./types.js" */

const PAGE = 30;

export function showHistory() {
  let mine = false;
  let asked = 0;
  /** @type {PastShift[]} those that are older than what is listed */
  let olderShifts = [];
  const stopListening = [
    listen("labels", () => load()),
    listen("undone", () => load()),
    listen("theirs", () => load()),
  ];
  const { body, close } = panel("History of labels and times", "side", {
    onclosed: () => {
      for (const stop of stopListening) stop();
    },
  });
  const tools = el("div", { class: "history-tools" });
  const list = el("ul", { class: "history" });
  const notice = el("div", {});
  const problem = el("div", {});
  fill(body, tools, problem, list, notice);

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
  /** Shifts of times, which are few; the labels are listed without them, too. */
  const askShifts = async () => {
    try {
      const { shifts } = await api.shifts();
      fill(problem);
      return shifts.filter((shift) => !mine || shift.by === me());
    } catch (error) {
      fill(problem, failed(error, load));
      return [];
    }
  };
  /**
   * The entries of a part of the acts, with the shifts that belong between them.
   * @param {PastAct[]} acts
   * @param {number | null} next
   */
  const entries = (acts, next) => {
    const until = next === null ? "" : (acts.at(-1)?.at ?? "");
    const shifts = olderShifts.filter(({ at }) => at > until);
    olderShifts = olderShifts.filter(({ at }) => at <= until);
    return [
      ...acts.map((act) => ({ at: act.at, element: entry(act, close) })),
      ...shifts.map((shift) => ({ at: shift.at, element: shiftEntry(shift) })),
    ]
      .sort((a, b) => (a.at < b.at ? 1 : -1))
      .map(({ element }) => element);
  };
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
        list.append(...entries(answer.acts, answer.next));
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
      const [{ acts, next, total }, shifts] = await Promise.all([ask(), askShifts()]);
      if (turn !== asked) return;
      olderShifts = shifts;
      drawTools(total + shifts.length);
      fill(list, entries(acts, next));
      drawMore(next);
      if (!list.children.length)
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
