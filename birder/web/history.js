// The history of labels: act by act, with who gave them, what was there before, and a way back.

import { api, thumbnail } from "./api.js";
import { busy, count, el, emptyState, failed, fill, photographs, time } from "./dom.js";
import { takeBack } from "./labels.js";
import { panel } from "./layers.js";
import { askName, me } from "./person.js";
import { signals } from "./state.js";
import { showAct } from "./these.js";

const PAGE = 30;

export function showHistory() {
  let mine = false;
  let asked = 0;
  const renew = () => load();
  for (const name of NEWS) signals.addEventListener(name, renew);
  const { body, close } = panel("History of labels", "side", {
    onclosed: () => NEWS.forEach((name) => signals.removeEventListener(name, renew)),
  });
  const tools = el("div", { class: "history-tools" });
  const list = el("ul", { class: "history" });
  const more = el("button", { type: "button", class: "quiet" }, "Show more");
  const notice = el("div", {});
  fill(body, tools, list, notice);

  const drawTools = (total) => {
    const name = me();
    fill(
      tools,
      el(
        "p",
        { class: "hint" },
        name ? ["You label as ", el("b", {}, name), "."] : "You label without a name.",
        el(
          "button",
          { type: "button", class: "link", onclick: () => askName().then(load) },
          name ? "Change" : "Give it",
        ),
      ),
      name
        ? el(
            "div",
            { class: "segmented", role: "group", "aria-label": "Whose labels" },
            [
              ["Everybody's", false],
              ["Mine", true],
            ].map(([title, value]) =>
              el(
                "button",
                {
                  type: "button",
                  "aria-pressed": String(mine === value),
                  onclick: () => {
                    mine = value;
                    load();
                  },
                },
                title,
              ),
            ),
          )
        : null,
      total ? el("p", { class: "hint" }, `${count(total)} ${total === 1 ? "entry" : "entries"}`) : null,
    );
  };
  const ask = (after) => api.history({ limit: PAGE, after, by: mine ? me() : undefined });
  const onward = (next) => {
    fill(notice, next ? more : null);
    more.disabled = false;
    more.onclick = async () => {
      more.disabled = true;
      const turn = asked;
      try {
        const answer = await ask(next);
        if (turn !== asked) return;
        list.append(...answer.acts.map((act) => entry(act, close)));
        onward(answer.next);
      } catch (error) {
        fill(
          notice,
          failed(error, () => (onward(next), more.click())),
        );
      }
    };
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
      onward(next);
      if (!acts.length)
        fill(
          notice,
          emptyState("history", "Nothing labelled yet", "Every label you give is listed here, and can be taken back."),
        );
    } catch (error) {
      if (turn === asked) fill(notice, failed(error, load));
    }
  };
  drawTools(0);
  fill(notice, busy("Reading the history"));
  load();
}

const NEWS = ["labels", "undone", "theirs"];

function entry({ act, at, by, column, values, former, count: number, ids, undone }, close) {
  const undo = el(
    "button",
    {
      type: "button",
      onclick: async () => {
        undo.disabled = true;
        await takeBack({ act });
        undo.disabled = false;
      },
    },
    "Undo",
  );
  return el(
    "li",
    { class: undone ? "undone" : "" },
    el("p", { class: "given" }, listed(values, number, "b"), ` in ${column}`),
    el("p", { class: "hint" }, "before: ", listed(former, number, "span")),
    el("p", { class: "hint" }, `${by ?? "without a name"}, ${here(at)}`),
    el(
      "div",
      { class: "thumbs" },
      ids.map((id) =>
        el("img", {
          alt: "",
          loading: "lazy",
          src: thumbnail({ id }, 96),
          onload: (event) => event.target.classList.add("loaded"),
        }),
      ),
      number > ids.length ? el("span", { class: "hint" }, `and ${count(number - ids.length)} more`) : null,
    ),
    el(
      "div",
      { class: "actions" },
      el(
        "button",
        {
          type: "button",
          class: "quiet",
          onclick: () => {
            close();
            showAct(act);
          },
        },
        number === 1 ? "Show it" : `Show these ${photographs(number)}`,
      ),
      undone ? el("span", { class: "hint" }, "undone") : undo,
    ),
  );
}

/** A moment in this machine's time zone. */
function here(at) {
  const moment = new Date(at);
  return time(new Date(moment - moment.getTimezoneOffset() * 60_000).toISOString()).slice(0, 16);
}

/** Values with how many photographs have each; the number alone where it says nothing new is left out. */
function listed(values, number, tag) {
  const rest = number - values.reduce((sum, each) => sum + each.count, 0);
  const parts = values.map((each) => [
    each.value === null ? el("i", {}, "no value") : el(tag, {}, each.value),
    values.length > 1 ? ` (${count(each.count)})` : "",
  ]);
  return parts
    .flatMap((part, index) => (index ? [", ", ...part] : part))
    .concat(rest > 0 ? [`, others (${count(rest)})`] : []);
}
