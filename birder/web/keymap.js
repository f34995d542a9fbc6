// @ts-check
// What the keys that work everywhere mean, and the list of all keys.

/** @type {[title: string, keys: [key: string, meaning: string][]][]} */
export const KEYS = [
  [
    "Everywhere",
    [
      ["/", "Search"],
      ["1 to 5", "Gallery, map, label help, duplicates, failures"],
      ["Ctrl Z", "Undo your last label"],
      ["Esc", "Close, or clear the selection"],
      ["?", "Show this list"],
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
      ["Space", "Select it"],
      ["L", "Label it: type over what is there"],
      ["P", "Play or pause the video, from the frame on"],
      ["Tab to the video", "There, Space plays and pauses, ← → seek"],
      ["Esc in the box", "Leave the box, with its text"],
      ["Esc", "Back"],
    ],
  ],
  ["In label help", [["A", "Accept the suggestion and go on; held down, it waits for each image"]]],
  [
    "On the map",
    [
      ["Drag, wheel, pinch", "Move and zoom"],
      ["Shift drag", "Lasso"],
      ["Arrows, + and −", "Move and zoom"],
      ["0", "Show all"],
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
 * What a key means, where nobody types; undefined for keys without a meaning. "view 0" to "view 4" go to a view.
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
  return /^[1-5]$/.test(key) ? `view ${Number(key) - 1}` : undefined;
}
