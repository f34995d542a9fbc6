// @ts-check
// How many individuals images show, as a person says: a whole number in the column `count`, which is a label like others.

import { isWhole } from "./digits.js";
import { el } from "./dom.js";

/** @import {Collection} from "./types.js" */

export const COUNT = "count";

/**
 * Whether people can say how many: there is no column `count` yet, or it is of labels.
 * @param {Collection} collection
 */
export const canCount = ({ columns, writable }) =>
  writable && columns.every(({ name, type }) => name !== COUNT || type === "text");

/**
 * Why a text cannot be a label in a column; empty if it can.
 * @param {string} column
 * @param {string} text
 */
export const countObjection = (column, text) =>
  column !== COUNT || isWhole(text) ? "" : "A count is a whole number: 0, 1, 2 …";

/**
 * A field for the number; an empty one takes it away.
 * @param {object} options
 * @param {(value: string | null) => Promise<boolean>} options.apply writes it, and gives whether it did
 * @param {() => string} options.offered the number that is there
 */
export function countField({ apply, offered }) {
  let shown = "";
  const input = el("input", {
    type: "number",
    min: 0,
    max: 999_999_999,
    step: 1,
    inputmode: "numeric",
    "aria-label": "Count",
    placeholder: "How many",
    title: "How many individuals (a whole number)",
    onkeydown: (event) => {
      if (event.key !== "Escape") return;
      event.preventDefault(); // the field alone is left
      event.stopPropagation();
      input.blur();
    },
  });
  const element = el(
    "form",
    {
      class: "count-form",
      onsubmit: async (event) => {
        event.preventDefault();
        if (!input.reportValidity()) return;
        const value = input.value === "" ? "" : String(Number(input.value));
        if (value === "" && shown === "") input.focus();
        else if (await apply(value || null)) {
          shown = input.value = value;
          input.blur();
        }
      },
    },
    el("span", {}, "Count"),
    input,
    el("button", { type: "submit" }, "Set"),
  );
  return {
    element,
    focus: () => input.select(),
    /** Offer the number that is there, unless another was typed. */
    renew() {
      if (document.activeElement === input && input.value !== shown) return;
      shown = input.value = offered();
    },
  };
}
