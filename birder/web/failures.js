// The files that could not be embedded, why, and the command that tries them again.

import { api } from "./api.js";
import { busy, commandLine, count, el, emptyState, failed, fill, quoted, time } from "./dom.js";
import { state, watch } from "./state.js";

const PAGE = 200;
let collection, scroller, counter;
let loaded = false;

export function startFailures(of) {
  collection = of;
  const section = document.getElementById("view-failures");
  counter = el("p", { class: "count" });
  scroller = el("div", { class: "scroller" });
  section.append(el("div", { class: "toolbar" }, counter), scroller);
  watch((now) => now.view === "failures" && !loaded && load());
  if (state().view === "failures") load();
}

async function load() {
  loaded = true;
  fill(scroller, busy("Reading the failures"));
  try {
    const { total, failures } = await api.failures(0, PAGE);
    counter.textContent = `${count(total)} file${total === 1 ? "" : "s"} failed`;
    if (!total) {
      counter.textContent = "";
      fill(
        scroller,
        emptyState("check", "Nothing failed", "Every file that was given became a row of this collection."),
      );
      return;
    }
    const rows = el("tbody", {}, failures.map(row));
    const more = el("button", { type: "button", class: "quiet" }, "Show more");
    more.hidden = failures.length >= total;
    more.addEventListener("click", async () => {
      more.disabled = true;
      try {
        const next = await api.failures(rows.children.length, PAGE);
        rows.append(...next.failures.map(row));
        more.hidden = rows.children.length >= total || !next.failures.length;
      } catch (error) {
        more.after(failed(error, () => more.click()));
      }
      more.disabled = false;
    });
    fill(
      scroller,
      retry(),
      el(
        "table",
        { class: "failures" },
        el(
          "thead",
          {},
          el(
            "tr",
            {},
            ["File", "What is wrong with it", "When"].map((title) => el("th", { scope: "col" }, title)),
          ),
        ),
        rows,
      ),
      more,
    );
  } catch (error) {
    loaded = false;
    fill(scroller, failed(error, load));
  }
}

const row = ({ name, reason, failed_at: at }) =>
  el(
    "tr",
    {},
    el("td", { class: "file" }, name),
    el("td", {}, reason),
    el("td", { class: "when" }, at ? time(at).slice(0, 16) : ""),
  );

function retry() {
  const command = `birder embed --retry-failed --in ${quoted(collection.path ?? collection.name)}`;
  return el(
    "div",
    { class: "command" },
    el("p", {}, "Mend or replace the files, then try them again in a terminal, and reload this page:"),
    commandLine(command),
  );
}
