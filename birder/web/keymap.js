// @ts-check
// What the keys that work everywhere mean, and the list of all keys.

import { decisionOf } from "./decisions.js";

/** @type {[title: string, keys: [key: string, meaning: string][]][]} */
export const KEYS = [
  [
    "Everywhere",
    [
      ["/", "Search"],
      ["V, Shift V", "Next view, previous view"],
      ["Ctrl Z", "Undo your last label"],
      ["Esc", "Close, or clear the selection"],
      ["?", "Show this list"],
    ],
  ],
  [
    "Decide (selected images, the one with the focus, an open one)",
    [
      ["A", "Accept what is predicted"],
      ["X", "Not this: note that it is not what is predicted"],
      ["U, B", "Label it unknown, blank"],
      ["1 to 9", "Label it with one of the latest labels"],
      ["Enter in the box", "Label it with what was typed, and go on"],
    ],
  ],
  [
    "In the review",
    [
      ["← →", "Previous, next sequence or image"],
      ["↑ ↓", "The images of the sequence"],
      ["Enter or L", "Type a label"],
      ["Space", "Select the sequence"],
      ["O", "Open the image, with its row"],
      ["+ − 0", "Enlarge, show the whole"],
    ],
  ],
  [
    "In the gallery",
    [
      ["← ↑ ↓ →", "Move"],
      ["Enter or double click", "Open the image"],
      ["Click", "Select it alone"],
      ["Space or Ctrl click", "Add it to the selection"],
      ["Shift with arrows or click", "Select a range"],
      ["Ctrl A", "Select all that match"],
      ["L", "Label the selection"],
    ],
  ],
  [
    "With an image open",
    [
      ["← →", "Previous, next"],
      ["↑ ↓", "The images of its sequence, where sequences are folded"],
      ["Space", "Select it"],
      ["C", "How many it shows"],
      ["L", "Label it: type over what is there"],
      ["+ − 0, wheel", "Enlarge, show the whole"],
      ["N, Shift N", "Next, previous box on the image"],
      ["W", "The whole image, or what the box shows alone"],
      ["R, Delete", "The box is right, wrong"],
      ["D, E", "Draw a box, correct this one: arrows, Shift arrows, Enter"],
      ["P", "Play or pause the video, from the frame on"],
      ["Tab to the video", "There, Space plays and pauses, ← → seek"],
      ["Esc in the box", "Leave the box, with its text"],
      ["Esc", "Back"],
    ],
  ],
  ["In Teach", [["A", "Accept the suggestion and go on; held down, it waits for each image"]]],
  [
    "On the map",
    [
      ["Drag, wheel, pinch", "Move and zoom"],
      ["Shift drag", "Lasso"],
      ["Arrows, + and −", "Move and zoom"],
      ["0", "Show all"],
    ],
  ],
  [
    "In the list of stations",
    [
      ["↑ ↓", "Move"],
      ["Enter", "Filter by the place"],
      ["Space", "Select its images"],
    ],
  ],
];

/**
 * @typedef {object} Pressed
 * @property {string} key
 * @property {boolean} ctrlKey
 * @property {boolean} metaKey
 * @property {boolean} altKey
 * @property {boolean} shiftKey
 */

/**
 * What a key means, where nobody types; undefined for keys without a meaning. "view 1" and "view -1" go to the
 * next and the previous view.
 * @param {Pressed} pressed
 * @param {{layered: boolean, selected: boolean, onGallery: boolean}} now
 *   whether something lies over the page, whether images are selected, and whether the gallery is shown and no element
 *   has the focus
 */
export function actionOf({ key, ctrlKey, metaKey, altKey, shiftKey }, { layered, selected, onGallery }) {
  const command = ctrlKey || metaKey;
  if (command && !shiftKey && key.toLowerCase() === "z") return "undo";
  if (command || altKey || layered) return undefined;
  if (key === "/") return "search";
  if (key === "?") return "keys";
  if (key.toLowerCase() === "l") return "label";
  if (key === "Escape" && selected) return "clear";
  if (key.startsWith("Arrow") && onGallery) return "gallery";
  if (key.toLowerCase() === "v") return shiftKey ? "view -1" : "view 1";
  return selected && decisionOf({ key, ctrlKey, metaKey, altKey, shiftKey }) !== undefined ? "decide" : undefined;
}
