// @ts-check
// Where the tiles of a grid stand. It follows from their number and the width alone, so nothing moves when images arrive.

export const GAP = 10;
export const CAPTION = 42;
const ROWS_BESIDE = 2; // kept on either side of what is in sight
const HIGHEST = 12e6; // CSS pixels; browsers cannot scroll through much more, so longer grids scroll faster
const NARROW = 420;

/**
 * @typedef {object} Layout
 * @property {number} total how many tiles there are
 * @property {number} columns
 * @property {number} tile the width of a tile, and the height of its image
 * @property {number} row from the top of one row to that of the next
 * @property {number} height of the element that scrolls; less than the rows need if they need too much
 * @property {number} ratio how many pixels the tiles move while it is scrolled by one
 * @property {number} view the height that is in sight
 */

/**
 * Lay a grid out, all lengths in CSS pixels.
 * @param {{width: number, view: number, size: number, total: number}} room `size` is the least width of a tile
 * @returns {Layout}
 */
export function layout({ width, view, size, total }) {
  const columns = Math.max(width < NARROW ? 2 : 1, Math.floor((width + GAP) / (size + GAP)));
  const tile = Math.floor((width - GAP * (columns - 1)) / columns);
  const row = tile + CAPTION + GAP;
  const needed = Math.ceil(total / columns) * row;
  const height = Math.min(needed, HIGHEST);
  const ratio = needed > height ? (needed - view) / (height - view) : 1;
  return { total, columns, tile, row, height, ratio, view };
}

/**
 * The first image of the row at the top.
 * @param {Layout} grid
 * @param {number} top how far the tiles are moved up
 */
export const firstAt = ({ columns, row }, top) => Math.max(0, Math.floor(top / row) * columns);

/**
 * The tiles that belong into the document: those in sight, and the rows beside them.
 * @param {Layout} grid
 * @param {number} top
 */
export function tilesAt({ total, columns, row, view }, top) {
  const [from, to] = [Math.floor(top / row), Math.ceil((top + view) / row)];
  return {
    first: Math.max(0, (from - ROWS_BESIDE) * columns),
    end: Math.min(total, (to + ROWS_BESIDE) * columns),
  };
}

/**
 * Where a tile stands.
 * @param {Layout} grid
 * @param {number} index
 */
export const placeOf = ({ columns, tile, row }, index) => ({
  x: (index % columns) * (tile + GAP),
  y: Math.floor(index / columns) * row,
});

/**
 * How far the tiles must be moved up for one to be in sight; what is in sight already stays where it is.
 * @param {Layout} grid
 * @param {number} index
 * @param {number} top
 */
export function topToShow({ columns, row, view }, index, top) {
  const start = Math.floor(index / columns) * row;
  if (start < top) return start;
  return start + row > top + view ? start + row + GAP - view : top;
}

/**
 * Where a key leads from a tile; undefined for keys that lead nowhere.
 * @param {Layout} grid
 * @param {number} from
 * @param {string} key
 */
export function stepOf({ total, columns, row, view }, from, key) {
  const page = Math.max(1, Math.floor(view / row)) * columns;
  /** @type {Record<string, number>} */
  const steps = {
    ArrowLeft: -1,
    ArrowRight: 1,
    ArrowUp: -columns,
    ArrowDown: columns,
    PageUp: -page,
    PageDown: page,
    Home: -Infinity,
    End: Infinity,
  };
  const step = steps[key];
  if (step === undefined) return undefined;
  const to = from + step;
  // up from the first row and down from the last lead nowhere else
  if (Math.abs(step) === columns && (to < 0 || to >= total)) return from;
  return Math.max(0, Math.min(to, total - 1));
}
