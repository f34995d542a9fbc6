// @ts-check
// What part of the plane a scatter plot shows: panning, zooming, and from points to pixels and back.

const DEEPEST = 20000; // times the scale that shows everything: float32 has no more places
const FARTHEST = 1.5; // units that the middle may be from the origin
const MARGIN = 0.92; // of the canvas that the points fill when all are shown

export class View {
  /** The middle of the canvas, in units. */
  x = 0;
  y = 0;
  /** CSS pixels per unit. */
  scale = 1;
  /** The canvas, in CSS pixels. */
  width = 0;
  height = 0;
  /** @type {[width: number, height: number]} of the box around the points, in units */
  extent = [1, 1];

  /** The scale that shows all points. */
  get fitting() {
    const [wide, high] = this.extent;
    return Math.max(Math.min(this.width / wide, this.height / high) * MARGIN, 1e-3);
  }

  fit() {
    this.x = this.y = 0;
    this.scale = this.fitting;
  }

  /**
   * Take another size, with the same points in sight.
   * @param {number} width
   * @param {number} height
   */
  resize(width, height) {
    const before = this.width ? this.fitting : 0;
    this.width = width;
    this.height = height;
    this.scale = before ? this.scale * (this.fitting / before) : this.fitting;
  }

  /**
   * Zoom by a factor about a place in CSS pixels.
   * @param {number} factor
   * @param {number} x
   * @param {number} y
   */
  zoom(factor, x, y) {
    const least = this.fitting / 4;
    const scale = Math.min(Math.max(this.scale * factor, least), least * 4 * DEEPEST);
    const [px, py] = this.toUnits(x, y);
    this.scale = scale;
    this.x = px - (x - this.width / 2) / scale;
    this.y = py + (y - this.height / 2) / scale;
  }

  /**
   * Move by CSS pixels.
   * @param {number} dx
   * @param {number} dy
   */
  pan(dx, dy) {
    this.x = Math.min(Math.max(this.x - dx / this.scale, -FARTHEST), FARTHEST);
    this.y = Math.min(Math.max(this.y + dy / this.scale, -FARTHEST), FARTHEST);
  }

  /**
   * A place in CSS pixels from the canvas's corner, in units.
   * @param {number} x
   * @param {number} y
   * @returns {[x: number, y: number]}
   */
  toUnits(x, y) {
    return [this.x + (x - this.width / 2) / this.scale, this.y - (y - this.height / 2) / this.scale];
  }

  /**
   * A place in units, in CSS pixels from the canvas's corner.
   * @param {number} x
   * @param {number} y
   */
  toPixels(x, y) {
    return { x: this.width / 2 + (x - this.x) * this.scale, y: this.height / 2 - (y - this.y) * this.scale };
  }

  /**
   * The diameter of points in CSS pixels: few are drawn large, many small; closer, they grow a little.
   * @param {number} count
   */
  diameter(count) {
    const room = Math.sqrt((this.width * this.height) / Math.max(count, 1));
    const size = Math.min(Math.max(room * 0.4, 3), 9);
    return Math.min(size * (this.scale / this.fitting) ** 0.3, Math.max(size, 12));
  }
}
