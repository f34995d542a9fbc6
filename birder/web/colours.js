// @ts-check
// Colours for the map: a palette for categories, a scale from low to high for numbers.

/** @import {Colour, MapColumn} from "./types.js" */

const OPACITY = 230;
const OPACITY_MISSING = 110;
const STEPS = 1024; // of a scale, more than eyes tell apart
const OPACITY_PLAIN = 200; // of points that are all alike
/**
 * Viridis (S. van der Walt, N. Smith; CC0), nine of its colours.
 * @type {Colour[]}
 */
const SCALE = [
  [68, 1, 84],
  [71, 44, 122],
  [59, 81, 139],
  [44, 113, 142],
  [33, 144, 141],
  [39, 173, 129],
  [92, 200, 99],
  [170, 220, 50],
  [253, 231, 37],
];

/**
 * "#rrggbb" -> [red, green, blue], each from 0 to 255.
 * @param {string} hex
 * @returns {Colour}
 */
export function parseColour(hex) {
  const number = Number.parseInt(hex.slice(1), 16);
  return [number >> 16, (number >> 8) & 255, number & 255];
}

/**
 * The colour of a category by its place among the most frequent; more than the palette has take turns through shades.
 * @param {Colour[]} palette
 * @param {number} index
 * @returns {Colour}
 */
export function categoryColour(palette, index) {
  const [red, green, blue] = palette[index % palette.length];
  const turn = Math.floor(index / palette.length);
  /** @param {number} value */
  const shade = (value) => Math.round(turn === 0 ? value : turn % 2 ? value * 0.62 : value + (255 - value) * 0.45);
  return [shade(red), shade(green), shade(blue)];
}

/**
 * The colour of a share from 0 (low) to 1 (high).
 * @param {number} share
 * @returns {Colour}
 */
export function scaleColour(share) {
  const at = Math.min(Math.max(share, 0), 1) * (SCALE.length - 1);
  const low = Math.min(Math.floor(at), SCALE.length - 2);
  /** @param {number} part */
  const mixed = (part) => Math.round(SCALE[low][part] + (at - low) * (SCALE[low + 1][part] - SCALE[low][part]));
  return [mixed(0), mixed(1), mixed(2)];
}

/** @param {Colour} colour */
export const css = ([red, green, blue]) => `rgb(${red} ${green} ${blue})`;

/**
 * The colours of points: red, green, blue and opacity of each, as the scatter plot takes them.
 * @param {MapColumn | null} column the values to colour by; null: all alike
 * @param {number} points how many points there are
 * @param {{palette: Colour[], missing: Colour}} colours
 */
export function rgba(column, points, { palette, missing }) {
  const words = new Uint32Array(points);
  const none = wordOf(missing, OPACITY_MISSING);
  if (!column) {
    words.fill(wordOf(palette[0], OPACITY_PLAIN));
  } else if (column.type === "category") {
    const { codes, categories } = column;
    const known = new Uint32Array(256).fill(none);
    for (let code = 0; code < categories.length; code++) known[code] = wordOf(categoryColour(palette, code), OPACITY);
    for (let index = 0; index < points; index++) words[index] = known[codes[index]];
  } else {
    const { shares } = column;
    const steps = Uint32Array.from({ length: STEPS + 1 }, (_, step) => wordOf(scaleColour(step / STEPS), OPACITY));
    for (let index = 0; index < points; index++) {
      const share = shares[index];
      words[index] = share >= 0 ? steps[Math.round(share * STEPS)] : none; // NaN is not
    }
  }
  return new Uint8Array(words.buffer);
}

/**
 * A colour as the four bytes of a pixel.
 * @param {Colour} colour
 * @param {number} opacity
 */
const wordOf = (colour, opacity) => new Uint32Array(Uint8Array.of(...colour, opacity).buffer)[0];
