// @ts-check
// The points of a scatter plot: brought into a common frame, and the nearest of them to a place.

const LARGEST_SIDE = 1024; // cells
const LEAST_EXTENT = 0.02;

/**
 * Points centred, the longer side of the box around them from -1 to 1.
 * @param {Float32Array} xy x0, y0, x1, y1, ...
 * @returns {{xy: Float32Array, extent: [width: number, height: number]}}
 */
export function framed(xy) {
  const count = xy.length >> 1;
  const box = { left: Infinity, right: -Infinity, low: Infinity, high: -Infinity };
  for (let i = 0; i < count; i++) {
    const x = xy[2 * i];
    const y = xy[2 * i + 1];
    if (!(Number.isFinite(x) && Number.isFinite(y))) continue;
    if (x < box.left) box.left = x;
    if (x > box.right) box.right = x;
    if (y < box.low) box.low = y;
    if (y > box.high) box.high = y;
  }
  const [wide, high] = [box.right - box.left, box.high - box.low];
  const half = Math.max(wide, high) / 2 || 1;
  const placed = new Float32Array(2 * count);
  for (let i = 0; i < count; i++) {
    placed[2 * i] = (xy[2 * i] - (box.left + wide / 2)) / half;
    placed[2 * i + 1] = (xy[2 * i + 1] - (box.low + high / 2)) / half;
  }
  return {
    xy: placed,
    extent: count ? [Math.max(wide / half, LEAST_EXTENT), Math.max(high / half, LEAST_EXTENT)] : [2, 2],
  };
}

/** Points sorted into square cells, so that the nearest is found among few. */
export class PointIndex {
  /** @param {Float32Array} xy as `framed` gives them */
  constructor(xy) {
    const count = xy.length / 2;
    this.xy = xy;
    this.side = Math.min(Math.max(Math.ceil(Math.sqrt(count / 2)), 1), LARGEST_SIDE);
    const cells = new Uint32Array(count);
    this.starts = new Uint32Array(this.side * this.side + 1);
    for (let i = 0; i < count; i++) {
      cells[i] = this.#cell(xy[2 * i + 1]) * this.side + this.#cell(xy[2 * i]);
      this.starts[cells[i] + 1]++;
    }
    for (let c = 0; c < this.side * this.side; c++) this.starts[c + 1] += this.starts[c];
    const next = this.starts.slice();
    this.order = new Uint32Array(count);
    for (let i = 0; i < count; i++) this.order[next[cells[i]]++] = i;
  }

  /**
   * The point nearest to a place; -1 if there is none within the radius.
   * @param {number} x
   * @param {number} y
   * @param {number} radius
   * @param {Uint8Array | null} shown 1 for each point that may be found; null: all
   */
  nearest(x, y, radius, shown) {
    let best = -1;
    let least = radius * radius;
    const [from, to] = [this.#cell(x - radius), this.#cell(x + radius)];
    for (let row = this.#cell(y - radius); row <= this.#cell(y + radius); row++) {
      for (let k = this.starts[row * this.side + from]; k < this.starts[row * this.side + to + 1]; k++) {
        const i = this.order[k];
        const distance = (this.xy[2 * i] - x) ** 2 + (this.xy[2 * i + 1] - y) ** 2;
        if (distance <= least && (!shown || shown[i])) {
          least = distance;
          best = i;
        }
      }
    }
    return best;
  }

  /** @param {number} value */
  #cell(value) {
    return Math.min(Math.max(Math.floor(((value + 1) / 2) * this.side), 0), this.side - 1) || 0;
  }
}
