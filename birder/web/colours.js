// Colours for the map: a fixed palette for names, a scale from low to high for numbers.

// Twelve hues far apart, for light and for dark grounds alike; more names take turns through further shades.
const HUES = [
  [31, 119, 180],
  [255, 127, 14],
  [44, 160, 44],
  [214, 39, 40],
  [148, 103, 189],
  [23, 190, 207],
  [227, 119, 194],
  [188, 189, 34],
  [140, 86, 75],
  [0, 150, 136],
  [255, 193, 7],
  [92, 107, 192],
];
const NONE = [150, 150, 150, 110];
// Viridis (S. van der Walt, N. Smith; CC0), nine of its colours
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

/** The colour of the category at a place, most frequent first. */
export function categoryColour(index) {
  const [red, green, blue] = HUES[index % HUES.length];
  const turn = Math.floor(index / HUES.length);
  const mix = (value) => Math.round(turn === 0 ? value : turn % 2 ? value * 0.62 : value + (255 - value) * 0.45);
  return [mix(red), mix(green), mix(blue)];
}

/** The colour of a share from 0 (low) to 1 (high). */
export function scaleColour(share) {
  const at = Math.min(Math.max(share, 0), 1) * (SCALE.length - 1);
  const low = Math.min(Math.floor(at), SCALE.length - 2);
  return SCALE[low].map((value, part) => Math.round(value + (at - low) * (SCALE[low + 1][part] - value)));
}

export const css = ([red, green, blue]) => `rgb(${red} ${green} ${blue})`;

/** The bytes that Scatter takes, from what the server says of a column (null: all alike). */
export function rgba(column, points) {
  const bytes = new Uint8Array(4 * points);
  const put = (index, colour, opacity = 230) => bytes.set([...colour, opacity].slice(0, 4), 4 * index);
  if (!column) for (let index = 0; index < points; index++) put(index, categoryColour(0), 200);
  else if (column.type === "category") {
    column.codes.forEach((code, index) => (code < 0 ? put(index, NONE) : put(index, categoryColour(code))));
  } else {
    const span = column.max - column.min || 1;
    column.values.forEach((value, index) =>
      value === null ? put(index, NONE) : put(index, scaleColour((value - column.min) / span)),
    );
  }
  return bytes;
}
