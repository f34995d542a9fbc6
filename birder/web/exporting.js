// @ts-check
// Exporting images from the page: a format is chosen, and the browser saves the file.

import { api } from "./api.js";
import { busy, el, failed, fill } from "./dom.js";
import { count, images } from "./format.js";
import { panel, toast } from "./layers.js";

const MOST_IDS = 10_000; // of a selection

/**
 * Ask for a format, and export: the images that match a filter, or some by their ids.
 * @param {{where?: string, ids?: string[], total: number}} which
 */
export async function exportRows({ where, ids, total }) {
  if (ids && ids.length > MOST_IDS) {
    toast(`Up to ${count(MOST_IDS)} chosen images can be exported: use a filter for these ${count(ids.length)}.`);
    return;
  }
  const { body, close } = panel("Export", "small");
  fill(body, busy("Asking for the formats"));
  try {
    const { formats } = await api.exportFormats();
    const about = el("p", { class: "hint" });
    /** @type {HTMLSelectElement} */
    const format = el(
      "select",
      { id: "export-format", "aria-label": "Format", onchange: () => tell() },
      formats.map(({ name }) => el("option", { value: name }, name)),
    );
    const tell = () => {
      about.textContent = formats.find(({ name }) => name === format.value)?.writes ?? "";
    };
    const problem = el("div", {});
    const run = async () => {
      button.disabled = true;
      fill(problem, busy("Exporting"));
      try {
        const { file, name } = await api.export({ format: format.value, where, ids });
        save(file, name);
        close();
        toast(`${images(total)} exported: ${name}`);
      } catch (error) {
        fill(problem, failed(error, run));
      } finally {
        button.disabled = false;
      }
    };
    /** @type {HTMLButtonElement} */
    const button = el("button", { type: "button", class: "primary", onclick: run }, `Export ${images(total)}`);
    tell();
    fill(body, el("div", { class: "export-form" }, format, button), about, problem);
    format.focus();
  } catch (error) {
    fill(
      body,
      failed(error, () => {
        close();
        exportRows({ where, ids, total });
      }),
    );
  }
}

/**
 * @param {Blob} file
 * @param {string} name
 */
function save(file, name) {
  const address = URL.createObjectURL(file);
  el("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
