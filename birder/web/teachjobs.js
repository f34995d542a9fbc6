// @ts-check
// What can be done with what was learned: name the images without a label, save the classifier. The server does it, and
// says how far it is, also to a page that was loaded since.

import { api, CLASSIFIER_URL } from "./api.js";
import { el, fill, keepingFocus, messageOf, say } from "./dom.js";
import { where } from "./filter.js";
import { bytes, count, images, percent } from "./format.js";
import { tellAll } from "./signals.js";
import { go, state, watch } from "./state.js";

/** @import {Collection, Lesson, TeachJob, TeachJobs} from "./types.js" */

const POLL = 500; // milliseconds between two questions how far they are
const USUAL = 0.95; // precision
/** @param {number} milliseconds */
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

export class TeachJobsBox {
  #column = "";
  /** @type {Lesson | null} */
  #lesson = null;
  /** @type {TeachJobs | null} */
  #jobs = null;
  #chosen = String(USUAL); // precision, or "all"
  #following = false;
  #problem = el("p", { class: "problem", role: "alert" });
  #rest = el("p", { class: "hint" });
  #name = el("div", { class: "job" });
  #save = el("div", { class: "job" });

  /** @param {Collection} collection */
  constructor(collection) {
    this.collection = collection;
    /** @type {HTMLSelectElement} */
    this.precision = el("select", {
      id: "teach-precision",
      onchange: () => {
        this.#chosen = this.precision.value;
      },
    });
    this.unknown = el("input", { type: "checkbox", id: "teach-unknown", checked: true });
    this.network = el("input", { type: "checkbox", id: "teach-network" });
    this.nameButton = el("button", { type: "button", class: "primary", onclick: () => this.#nameRest() });
    this.saveButton = el("button", { type: "button", onclick: () => this.#saveClassifier() }, "Save classifier");
    this.naming = el(
      "section",
      { "aria-label": "The images without a label" },
      el("h3", {}, "The images without a label"),
      this.#rest,
      el("label", { class: "tool", for: "teach-precision" }, el("span", {}, "Name"), this.precision),
      el("label", { class: "tool", for: "teach-unknown" }, this.unknown, "No name for what is unlike all it learned"),
      this.nameButton,
      this.#name,
    );
    this.saving = el(
      "section",
      { "aria-label": "The classifier" },
      el("h3", {}, "The classifier"),
      el("p", { class: "hint" }, "A file for birder predict --model, here and elsewhere."),
      el("label", { class: "tool", for: "teach-network" }, this.network, "With its network (large, works by itself)"),
      this.saveButton,
      this.#save,
    );
    this.element = el("div", { class: "teach-jobs" }, this.naming, this.saving, this.#problem);
    watch((now, before) => {
      if (now.view === "teach" && now.filters !== before.filters) this.#draw();
    });
    this.#draw();
  }

  /**
   * Ask how far the jobs are; `column` is what the next ones learn from.
   * @param {string} column
   */
  show(column) {
    this.#column = column;
    this.#follow();
  }

  /** @param {Lesson | null} lesson */
  drawLesson(lesson) {
    this.#lesson = lesson;
    fill(
      this.precision,
      (lesson?.nameable ?? []).map(({ precision, probability, images: number }) =>
        el(
          "option",
          { value: precision, disabled: probability === null },
          probability === null
            ? `${percent(precision)} right: none yet`
            : `${percent(precision)} right: about ${count(number)}`,
        ),
      ),
      el("option", { value: "all" }, `all: ${count(lesson?.rest ?? 0)}`),
    );
    const usable = [...this.precision.options].filter(({ disabled }) => !disabled).map(({ value }) => value);
    this.precision.value = usable.includes(this.#chosen) ? this.#chosen : usable[0];
    this.#draw();
  }

  #draw() {
    const lesson = this.#lesson;
    const busy = (/** @type {TeachJob | undefined} */ job) => job?.state === "running";
    this.naming.hidden = !this.collection.writable || (!lesson?.rest && !busy(this.#jobs?.name));
    this.saving.hidden = !lesson && !busy(this.#jobs?.save);
    this.nameButton.disabled = !lesson || busy(this.#jobs?.name);
    this.saveButton.disabled = !lesson || busy(this.#jobs?.save);
    this.nameButton.textContent = state().filters.length ? "Name those that the filters keep" : "Name the rest";
    if (!lesson) return;
    const usual = lesson.nameable.find(({ precision }) => precision === USUAL);
    const { estimate, low, high } = usual?.share ?? { estimate: 0, low: null, high: null };
    const interval = low === null || high === null ? "" : ` (${percent(low)} to ${percent(high)})`;
    const strange = lesson.unknown ? ` ${images(lesson.unknown)} are unlike all it learned.` : "";
    this.#rest.textContent =
      usual && usual.probability !== null
        ? `It could name ${count(usual.images)} of ${images(lesson.rest)} at a precision of ${percent(USUAL)}; of the images with a label, ${percent(estimate)}${interval} can be named so.${strange}`
        : `No probability of it is right in ${percent(USUAL)} of cases yet: more labels help.${strange}`;
  }

  async #nameRest() {
    const precision = this.precision.value === "all" ? null : Number(this.precision.value);
    const filter = where(state().filters);
    await this.#ask(
      () => api.nameRest({ column: this.#column, precision, unknown: this.unknown.checked, where: filter }),
      "Naming the images without a label",
    );
  }

  async #saveClassifier() {
    await this.#ask(
      () => api.saveClassifier({ column: this.#column, network: this.network.checked }),
      "Saving the classifier",
    );
  }

  /**
   * @param {() => Promise<TeachJobs>} request
   * @param {string} said
   */
  async #ask(request, said) {
    this.#problem.textContent = "";
    try {
      this.#took(await request());
      say(said);
      this.#follow();
    } catch (error) {
      this.#problem.textContent = messageOf(error);
    }
  }

  /** Ask until nothing is under way, while somebody looks. */
  async #follow() {
    if (this.#following) return;
    this.#following = true;
    try {
      do {
        this.#took(await api.teachJobs());
        if (!this.#running()) break;
        await pause(POLL);
      } while (state().view === "teach");
    } catch (error) {
      this.#problem.textContent = messageOf(error);
    } finally {
      this.#following = false;
    }
  }

  #running() {
    return this.#jobs?.save.state === "running" || this.#jobs?.name.state === "running";
  }

  /** @param {TeachJobs} jobs */
  #took(jobs) {
    const before = this.#jobs;
    this.#jobs = jobs;
    if (before?.name.state === "running" && jobs.name.state === "done") this.#named();
    for (const which of /** @type {("save" | "name")[]} */ (["save", "name"]))
      if (before?.[which].state === "running" && jobs[which].state !== "running")
        say(jobs[which].state === "cancelled" ? "Cancelled" : jobs[which].note);
    this.#drawJob(this.#name, "name", jobs.name);
    this.#drawJob(this.#save, "save", jobs.save);
    this.#draw();
  }

  /** There are predictions now: the parts of the page that show them are told. */
  async #named() {
    try {
      Object.assign(this.collection, await api.collection());
      tellAll("columns");
      tellAll("collection");
    } catch {
      // The next change asks again.
    }
    tellAll("predicted");
  }

  /**
   * @param {HTMLElement} box
   * @param {"save" | "name"} which
   * @param {TeachJob} job
   */
  #drawJob(box, which, job) {
    const bar = box.querySelector("progress");
    const words = box.querySelector(".hint");
    if (job.state === "running" && bar && words) {
      bar.value = job.progress; // the button that cancels keeps the focus
      words.textContent = job.stage;
      return;
    }
    keepingFocus(box, () => fill(box, this.#jobLines(which, job)));
  }

  /**
   * @param {"save" | "name"} which
   * @param {TeachJob} job
   */
  #jobLines(which, job) {
    if (job.state === "none") return [];
    if (job.state === "running")
      return [
        el("progress", { max: 1, value: job.progress, "aria-label": which === "save" ? "Saving" : "Naming" }),
        el("p", { class: "hint" }, job.stage),
        el(
          "button",
          { type: "button", "data-key": which, onclick: () => this.#ask(() => api.cancelTeaching(which), "Cancelled") },
          "Cancel",
        ),
      ];
    if (job.state === "cancelled") return el("p", { class: "hint" }, "Cancelled: nothing has been changed.");
    if (job.state === "failed") return el("p", { class: "problem" }, job.note);
    const from = job.column === this.#column ? "" : ` From the labels in ${job.column}.`;
    const done = el("p", { class: "job-done" }, job.note + from);
    if (which === "name")
      return [
        done,
        el(
          "button",
          {
            type: "button",
            "data-key": which,
            onclick: () => go({ view: "review", reviewSource: "predictions", reviewName: "" }),
          },
          "Review the names",
        ),
      ];
    return [
      done,
      el(
        "a",
        { href: CLASSIFIER_URL, download: job.file ?? "", "data-key": which },
        `Download ${job.file} (${bytes(job.bytes ?? 0)})`,
      ),
    ];
  }
}
