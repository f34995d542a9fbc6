// @ts-check
// The button that opens the choices of how the gallery's tiles look.

import { el, fill } from "./dom.js";

/** @import {TileLook} from "./tilelook.js" */

const WIDTH = 272; // CSS pixels
const GAP = 6; // between the button and the choices, and from those to the window's rim

/**
 * The button, with its choices; gives also what draws them anew when the collection has other columns.
 * @param {TileLook} look
 * @param {{onWhole: () => void, onLines: () => void}} changed
 */
export function tileTools(look, { onWhole, onLines }) {
  /**
   * @param {string} text
   * @param {string} title
   * @param {boolean} whole
   */
  const shape = (text, title, whole) =>
    el(
      "button",
      {
        type: "button",
        title,
        onclick: () => {
          look.setWhole(whole);
          drawShapes();
          onWhole();
        },
      },
      text,
    );
  const shapes = [
    shape("Square", "A square cut from the middle of the image", false),
    shape("Whole", "The whole image", true),
  ];
  const drawShapes = () => {
    for (const [index, button] of shapes.entries())
      button.setAttribute("aria-pressed", String(look.whole === Boolean(index)));
  };
  const lines = look.lines.map((_, line) =>
    el("select", {
      id: `tile-line-${line + 1}`,
      onchange: (event) => {
        look.setLine(line, /** @type {HTMLSelectElement} */ (event.target).value);
        onLines();
      },
    }),
  );
  const own = ["label, prediction or file name", "prediction, size or file name"];
  const drawColumns = () => {
    const names = look.all().flatMap(({ name, filled }) => (filled > 0 ? [name] : []));
    for (const [line, select] of lines.entries()) {
      fill(
        select,
        el("option", { value: "" }, own[line]),
        names.map((name) => el("option", { value: name }, name)),
      );
      select.value = look.shown[line];
    }
  };
  const box = el(
    "div",
    { id: "tile-choices", class: "tile-choices", popover: "auto", role: "group", "aria-label": "How tiles look" },
    el("div", { class: "segmented", role: "group", "aria-label": "The image on a tile" }, shapes),
    lines.map((select, line) => el("label", { for: select.id }, line ? "Second line" : "First line", select)),
  );
  const button = el(
    "button",
    { type: "button", class: "quiet", popovertarget: box.id, title: "Whole or cut images, and the lines under them" },
    el("span", { class: "always" }, "Tiles"),
  );
  box.addEventListener("beforetoggle", () => {
    const { left, bottom } = button.getBoundingClientRect();
    box.style.left = `${Math.max(GAP, Math.min(left, innerWidth - WIDTH - GAP))}px`;
    box.style.top = `${bottom + GAP}px`;
  });
  const element = el("span", { class: "tile-tools" }, button, box);
  element.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !box.matches(":popover-open")) return;
    event.preventDefault(); // or the selection would be cleared, too
    box.hidePopover();
  });
  drawShapes();
  drawColumns();
  return { element, drawColumns };
}
