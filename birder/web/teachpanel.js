// @ts-check
// What a classifier has learned from the labels, beside its suggestions: how often it is right, what it confuses, which
// labels it doubts, what it could name.

import { api, isAbort, thumbnailUrl } from "./api.js";
import { debounced, el, fadingImage, fill, keepingFocus, messageOf } from "./dom.js";
import { count, fileName, images, percent } from "./format.js";
import { openPhoto } from "./opening.js";
import { listen } from "./signals.js";
import { List } from "./sources.js";
import { state, watch } from "./state.js";
import { showIds } from "./subset.js";
import { TeachJobsBox } from "./teachjobs.js";

/** @import {Collection, Confusion, Lesson, Taught} from "./types.js" */

const POLL = 1000; // milliseconds between two questions how far measuring is
const AFTER_LABELS = 3000; // milliseconds after a label in which more may come
const CONFUSIONS = 6; // that are listed
const NARROW = 900; // CSS pixels; teach.css puts the panel above the images below that
/** @param {number} milliseconds */
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

export class TeachPanel {
  #column = "";
  #abort = new AbortController();
  #headline = el("h2", {}, "What it has learned");
  #measured = el("p", { class: "measured" });
  #how = el("p", { class: "hint" });
  #bar = el("progress", { max: 1, "aria-label": "Progress of the measurement" });
  #stage = el("p", { class: "hint" });
  #wants = el("p", { class: "wants" });
  #confusions = el("div", {});
  #doubtful = el("div", {});
  /** @type {TeachJobsBox} */
  #jobs;
  /** Ask again what was learned, once no more labels come for a while. */
  labelled = debounced(() => this.#column && this.#follow(), AFTER_LABELS);

  /** @param {Collection} collection */
  constructor(collection) {
    this.#jobs = new TeachJobsBox(collection);
    this.element = el(
      "details",
      { class: "lesson", open: innerWidth >= NARROW },
      el("summary", {}, this.#headline),
      el(
        "div",
        { class: "lesson-body", tabindex: "0", role: "group", "aria-label": "What it has learned" },
        this.#measured,
        this.#bar,
        this.#stage,
        this.#wants,
        this.#how,
        this.#confusions,
        this.#doubtful,
        this.#jobs.element,
      ),
    );
    const again = () => state().view === "teach" && this.labelled();
    listen("labels", again);
    listen("undone", again);
    listen("theirs", again);
    watch((now, before) => {
      if (now.view !== "teach") this.#abort.abort();
      else if (before.view !== "teach" && this.#column) this.show(this.#column);
    });
  }

  /**
   * Tell what was learned from a column.
   * @param {string} column
   */
  show(column) {
    if (column !== this.#column) this.#draw(null);
    this.#column = column;
    this.#follow();
    this.#jobs.show(column);
  }

  async #follow() {
    this.#abort.abort();
    this.#abort = new AbortController();
    const { signal } = this.#abort;
    try {
      let found = await api.taught(this.#column, signal);
      while (found.state === "computing") {
        this.#draw(found);
        await pause(POLL);
        if (signal.aborted) return;
        found = await api.taught(this.#column, signal);
      }
      if (!signal.aborted) this.#draw(found);
    } catch (error) {
      if (!isAbort(error)) this.#tell(messageOf(error)); // the suggestions are there without it
    }
  }

  /** @param {string} problem */
  #tell(problem) {
    this.#draw(null);
    this.#measured.textContent = problem;
  }

  /** @param {Taught | null} found */
  #draw(found) {
    const lesson = found?.lesson ?? null;
    const computing = found?.state === "computing";
    this.#headline.textContent = headline(found);
    this.#measured.textContent = lesson?.note ?? found?.problem ?? "";
    this.#bar.hidden = !computing;
    this.#bar.value = found?.progress ?? 0;
    this.#stage.textContent = computing
      ? `${lesson ? "Measuring again" : "Measuring how often it is right"}: ${found.stage}`
      : "";
    this.#wants.textContent = found?.wants ?? "";
    this.#how.textContent = lesson?.how ?? "";
    keepingFocus(this.#confusions, () => fill(this.#confusions, lesson ? confusionsOf(lesson) : null));
    keepingFocus(this.#doubtful, () => fill(this.#doubtful, lesson ? doubtfulOf(lesson, this.#column) : null));
    this.#jobs.drawLesson(lesson);
  }
}

/** @param {Taught | null} found */
function headline(found) {
  if (!found) return "What it has learned";
  if (found.state === "waiting") return "What it wants";
  if (!found.lesson) return found.problem ? "Not measured" : "Measuring";
  const { estimate, low, high } = found.lesson.accuracy;
  const interval = low === null || high === null ? "" : ` (${percent(low)} to ${percent(high)})`;
  return `Right for ${percent(estimate)}${interval}`;
}

/** @param {Lesson} lesson */
function confusionsOf({ confusions }) {
  if (!confusions.length) return el("p", { class: "hint" }, "It confused none of the classes.");
  return [
    el("h3", {}, "What it confuses"),
    el(
      "ul",
      { class: "confusions" },
      confusions.slice(0, CONFUSIONS).map((each) => el("li", {}, confusionOf(each))),
    ),
  ];
}

/** @param {Confusion} confusion */
function confusionOf({ true: own, predicted, count: number, ids }) {
  return el(
    "button",
    {
      type: "button",
      class: "link",
      "data-key": `${own}\n${predicted}`,
      title: `Show ${ids.length === number ? "these" : "some of these"} images`,
      onclick: () => showIds(ids),
    },
    el("b", {}, own),
    " taken for ",
    el("b", {}, predicted),
    `: ${images(number)}`,
  );
}

/**
 * @param {Lesson} lesson
 * @param {string} column
 */
function doubtfulOf({ doubtful }, column) {
  if (!doubtful.length) return el("p", { class: "hint" }, "It doubts none of your labels.");
  const source = new List(doubtful.map((photo) => ({ ...photo, predicted: photo.suggested })));
  return [
    el("h3", {}, `Doubtful labels: ${count(doubtful.length)}`),
    el(
      "p",
      { class: "hint" },
      "It disagrees with these labels. Open an image: A gives the suggested label, X keeps yours.",
    ),
    el(
      "div",
      { class: "strip doubtful", role: "group", "aria-label": "Images with doubtful labels" },
      doubtful.map((photo, index) =>
        el(
          "button",
          {
            type: "button",
            class: "neighbour",
            "data-key": photo.id,
            "aria-label": `${fileName(photo.name)}: labelled ${photo.label}, looks like ${photo.suggested}`,
            onclick: () => openPhoto(photo.id, { source, index, column }),
          },
          fadingImage(thumbnailUrl(photo, 92), { loading: "lazy" }),
          el("span", { class: "name" }, photo.label ?? ""),
          el("span", { class: "detail" }, `${photo.suggested}?`),
        ),
      ),
    ),
    el(
      "button",
      { type: "button", class: "link", "data-key": "all", onclick: () => showIds(doubtful.map(({ id }) => id)) },
      "Show them in the gallery",
    ),
  ];
}
