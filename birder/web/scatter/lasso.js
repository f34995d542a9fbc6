// @ts-check
// A lasso: the line that is drawn, and the points inside it.

const APART = 4; // CSS pixels from one dot of the line to the next

/**
 * Indices of the points in an outline (even-odd), of those that are shown.
 * @param {Float32Array} xy x0, y0, x1, y1, ...
 * @param {number[]} outline corners: x0, y0, x1, y1, ...
 * @param {Uint8Array | null} shown 1 for each point that is shown; null: all
 */
export function within(xy, outline, shown) {
  const corners = outline.length / 2;
  let [left, right, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
  for (let i = 0; i < corners; i++) {
    left = Math.min(left, outline[2 * i]);
    right = Math.max(right, outline[2 * i]);
    low = Math.min(low, outline[2 * i + 1]);
    high = Math.max(high, outline[2 * i + 1]);
  }
  const found = [];
  for (let p = 0; p < xy.length / 2; p++) {
    const x = xy[2 * p];
    const y = xy[2 * p + 1];
    if (!(x >= left && x <= right && y >= low && y <= high) || (shown && !shown[p])) continue;
    let inside = false;
    for (let i = 0, j = corners - 1; i < corners; j = i++) {
      const yi = outline[2 * i + 1];
      const yj = outline[2 * j + 1];
      if (yi > y !== yj > y) {
        const cut = outline[2 * i] + ((y - yi) / (yj - yi)) * (outline[2 * j] - outline[2 * i]);
        if (x < cut) inside = !inside;
      }
    }
    if (inside) found.push(p);
  }
  return found;
}

/**
 * A closed line as dots.
 * @param {number[]} line corners in CSS pixels: x0, y0, x1, y1, ...
 */
export function dotted(line) {
  const dots = [];
  const corners = line.length / 2;
  let left = 0; // how far into the segment the next dot comes
  for (let i = 0; i < corners; i++) {
    const [x, y] = [line[2 * i], line[2 * i + 1]];
    const j = (i + 1) % corners;
    const length = Math.hypot(line[2 * j] - x, line[2 * j + 1] - y);
    for (; left < length; left += APART) {
      dots.push(x + ((line[2 * j] - x) * left) / length, y + ((line[2 * j + 1] - y) * left) / length);
    }
    left -= length;
  }
  return new Float32Array(dots);
}
