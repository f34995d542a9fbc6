// @ts-check
// Which marks have room for their names beside them.

const CELL = 7; // CSS pixels: what is taken is kept in squares of this size
const HEIGHT = 14; // of a name, in CSS pixels
const APART = 4; // from a mark to its name

/**
 * The names that are free of all marks but their own, and of each other; those that come first go before.
 * @param {{x: number, y: number, radius: number}[]} marks in CSS pixels
 * @param {{mark: number, width: number}[]} names the number of a mark, and how wide its name is
 * @param {{width: number, height: number}} room
 * @returns {{mark: number, x: number, y: number}[]} where each begins, and its middle line
 */
export function placed(marks, names, { width, height }) {
  const columns = Math.ceil(width / CELL);
  const rows = Math.ceil(height / CELL);
  const owners = new Int32Array(columns * rows).fill(-1);
  /**
   * Call `action` with the cells of a box; false if a part of it lies outside.
   * @param {number} left
   * @param {number} top
   * @param {number} right
   * @param {number} bottom
   * @param {(cell: number) => boolean} action gives whether to go on
   */
  const over = (left, top, right, bottom, action) => {
    for (let row = Math.floor(top / CELL); row <= Math.floor(bottom / CELL); row++) {
      for (let column = Math.floor(left / CELL); column <= Math.floor(right / CELL); column++) {
        const inside = row >= 0 && column >= 0 && row < rows && column < columns;
        if (inside && !action(row * columns + column)) return false;
      }
    }
    return left >= 0 && top >= 0 && right <= width && bottom <= height;
  };
  for (const [mark, { x, y, radius }] of marks.entries()) {
    over(x - radius, y - radius, x + radius, y + radius, (cell) => {
      owners[cell] = owners[cell] === -1 || owners[cell] === mark ? mark : -2;
      return true;
    });
  }
  const found = [];
  for (const { mark, width: wide } of names) {
    const { x, y, radius } = marks[mark];
    for (const left of [x + radius + APART, x - radius - APART - wide]) {
      const box = /** @type {const} */ ([left, y - HEIGHT / 2, left + wide, y + HEIGHT / 2]);
      if (!over(...box, (cell) => owners[cell] === -1 || owners[cell] === mark)) continue;
      over(...box, (cell) => {
        owners[cell] = -2;
        return true;
      });
      found.push({ mark, x: left, y });
      break;
    }
  }
  return found;
}
