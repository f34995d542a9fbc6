// @ts-check
// How far an image is enlarged and moved in its frame: numbers alone.

/** @typedef {{scale: number, x: number, y: number}} Zoomed the scale, and where the middle is from the frame's, in CSS pixels */

/** @type {Readonly<Zoomed>} */
export const WHOLE = { scale: 1, x: 0, y: 0 };
const LARGEST = 32;

/**
 * Enlarged by a factor, so that the point at (x, y) from the frame's middle stays where it is.
 * @param {Zoomed} view
 * @param {number} factor
 * @param {{x: number, y: number}} at
 * @param {{width: number, height: number}} frame
 * @returns {Zoomed}
 */
export function enlarged(view, factor, at, frame) {
  const scale = Math.min(LARGEST, Math.max(1, view.scale * factor));
  const by = scale / view.scale;
  return within({ scale, x: at.x - (at.x - view.x) * by, y: at.y - (at.y - view.y) * by }, frame);
}

/**
 * @param {Zoomed} view
 * @param {{x: number, y: number}} by
 * @param {{width: number, height: number}} frame
 * @returns {Zoomed}
 */
export const moved = (view, by, frame) => within({ ...view, x: view.x + by.x, y: view.y + by.y }, frame);

/**
 * The image never leaves its frame.
 * @param {Zoomed} view
 * @param {{width: number, height: number}} frame
 * @returns {Zoomed}
 */
function within({ scale, x, y }, { width, height }) {
  const [mostX, mostY] = [((scale - 1) * width) / 2, ((scale - 1) * height) / 2];
  return { scale, x: Math.min(mostX, Math.max(-mostX, x)), y: Math.min(mostY, Math.max(-mostY, y)) };
}
