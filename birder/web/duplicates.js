// Near-duplicates: groups of photographs side by side, with how alike and how large they are.

import { api, isAbort, thumbnail } from "./api.js";
import { busy, cosine, count, el, emptyState, failed, fill, icon, later, percent, toolbar } from "./dom.js";
import { openPhoto } from "./photo.js";
import { selection } from "./selection.js";
import { List } from "./sources.js";
import { go, listen, state, watch } from "./state.js";

const LIMIT = 200;
const POLL = 400; // milliseconds between two questions how far comparing is
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
let section, scroller, counter, slider, value;
let shown = 0;
let abort = new AbortController();

export function startDuplicates() {
  section = document.getElementById("view-duplicates");
  counter = el("p", { class: "count" });
  value = el("output", { for: "threshold" });
  slider = el("input", {
    type: "range",
    id: "threshold",
    min: 0.8,
    max: 1,
    step: 0.005,
    value: state().threshold,
    oninput: () => (value.textContent = cosine(Number(slider.value))),
    onchange: later(() => go({ threshold: Number(slider.value) }, { replace: true }), 200),
  });
  scroller = el("div", { class: "scroller groups" });
  section.append(
    toolbar(
      counter,
      el("label", { class: "tool", for: "threshold" }, el("span", {}, "Similarity of at least"), slider, value),
    ),
    scroller,
  );
  watch((now) => now.view === "duplicates" && now.threshold !== shown && load());
  listen("selection", () => scroller.querySelectorAll(".copy").forEach(mark));
  if (state().view === "duplicates") load();
}

async function load() {
  abort.abort();
  abort = new AbortController();
  const { signal } = abort;
  const { threshold } = state();
  shown = threshold;
  slider.value = threshold;
  value.textContent = cosine(threshold);
  counter.textContent = "";
  fill(scroller, busy("Comparing the photographs with each other"));
  try {
    let found;
    while ((found = await api.duplicates(threshold, LIMIT, signal)).state === "computing") {
      counter.textContent = found.progress > 0 ? percent(found.progress) : "";
      await pause(POLL);
      if (signal.aborted) return;
    }
    if (signal.aborted) return;
    const { groups, total } = found;
    counter.textContent = `${count(total)} group${total === 1 ? "" : "s"}${groups.length < total ? `, the first ${count(groups.length)} shown` : ""}`;
    if (!groups.length) {
      fill(
        scroller,
        emptyState(
          "copies",
          "No near-duplicates",
          `No two photographs have a similarity of ${cosine(threshold)} or more. Move the slider to the left to look for looser likeness.`,
        ),
      );
      return;
    }
    const rest = groups.map(group);
    fill(scroller, rest);
  } catch (error) {
    if (isAbort(error)) return;
    shown = 0;
    fill(scroller, failed(error, load));
  }
}

function group({ kind, photos }) {
  const source = new List(photos);
  const largest = photos.reduce((best, photo) =>
    (photo.width ?? 0) * (photo.height ?? 0) > (best.width ?? 0) * (best.height ?? 0) ? photo : best,
  );
  const same = kind === "same content";
  return el(
    "article",
    { class: "group" },
    el(
      "header",
      {},
      el("h2", {}, same ? "The same file" : "Alike", el("span", { class: "hint" }, ` ${photos.length} photographs`)),
      el(
        "button",
        {
          type: "button",
          class: "quiet",
          title: "All but the largest: label them, or look at them together",
          onclick: () => selection.add(photos.filter((photo) => photo !== largest).map((photo) => photo.id)),
        },
        "Select the others",
      ),
    ),
    el(
      "div",
      { class: "copies" },
      photos.map((photo, index) => {
        const check = el(
          "button",
          {
            type: "button",
            class: "check",
            "aria-label": `Select ${photo.name}`,
            onclick: () => selection.toggle(photo.id),
          },
          icon("check"),
        );
        const size = photo.width ? `${photo.width} × ${photo.height}` : "";
        const copy = el(
          "figure",
          { class: "copy" },
          el(
            "button",
            {
              type: "button",
              class: "open",
              "aria-label": `Open ${photo.name}`,
              onclick: () => openPhoto(photo.id, { source, index }),
            },
            el("img", {
              alt: "",
              loading: "lazy",
              src: thumbnail(photo, 200),
              onload: (event) => event.target.classList.add("loaded"),
            }),
          ),
          check,
          el(
            "figcaption",
            {},
            el("span", { class: "name", title: photo.name }, photo.name.split("/").pop()),
            el(
              "span",
              { class: "detail" },
              [
                size,
                index > 0 && photo.similarity !== null && photo.similarity !== undefined
                  ? cosine(photo.similarity)
                  : "",
              ]
                .filter(Boolean)
                .join(", "),
            ),
            photo === largest && size ? el("i", {}, "largest") : null,
          ),
        );
        copy.photo = photo;
        mark(copy);
        return copy;
      }),
    ),
  );
}

function mark(copy) {
  const on = selection.has(copy.photo.id);
  copy.classList.toggle("selected", on);
  copy.querySelector(".check").setAttribute("aria-pressed", String(on));
}
