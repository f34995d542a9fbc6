// @ts-check
// Drawing points on a 2D context. Of many points whole pixels are written into an image, which is plainer and fast.

/** @import {View} from "./view.js" */

const MANY = 5000; // points
const BEYOND = 20; // pixels outside the canvas where a point's middle may be and its rim be seen

export class Canvas2DDrawing {
  count = 0;
  /** @type {Float32Array} */
  #xy = new Float32Array(0);
  /** @type {Uint8Array} */
  #rgba = new Uint8Array(0);
  /** @type {Uint32Array} the same, a word each */
  #words = new Uint32Array(0);
  #scale = 1;
  #left = 0;
  #top = 0;
  #ratio = 1;
  /** @type {ImageData | null} */
  #image = null;
  /** @type {Uint32Array | null} of the image */
  #pixels = null;

  /** @param {CanvasRenderingContext2D} context */
  constructor(context) {
    this.context = context;
  }

  /** @param {Float32Array} xy */
  setPoints(xy) {
    this.#xy = xy;
    this.count = xy.length / 2;
  }

  /** @param {Uint8Array} rgba */
  setColours(rgba) {
    this.#rgba = rgba.byteOffset % 4 ? rgba.slice() : rgba;
    this.#words = new Uint32Array(this.#rgba.buffer, this.#rgba.byteOffset, rgba.length / 4);
  }

  /**
   * @param {View} view
   * @param {number} ratio pixels per CSS pixel
   */
  begin(view, ratio) {
    const { canvas } = this.context;
    this.#scale = view.scale * ratio;
    this.#left = canvas.width / 2 - view.x * this.#scale;
    this.#top = canvas.height / 2 + view.y * this.#scale;
    this.#ratio = ratio;
    this.context.clearRect(0, 0, canvas.width, canvas.height);
    if (this.count <= MANY) {
      this.#image = this.#pixels = null;
    } else if (this.#pixels && this.#image?.width === canvas.width && this.#image.height === canvas.height) {
      this.#pixels.fill(0);
    } else {
      this.#image = this.context.createImageData(canvas.width, canvas.height);
      this.#pixels = new Uint32Array(this.#image.data.buffer);
    }
  }

  /**
   * Draw points, all or some.
   * @param {ArrayLike<number> | null} indices
   * @param {number} size pixels
   * @param {number} opacity
   * @param {number[]} [colour] red, green and blue from 0 to 1, in place of their own
   */
  points(indices, size, opacity, colour) {
    if (this.#pixels) {
      this.#paint(this.#pixels, indices, size, opacity, colour);
      return;
    }
    const xy = this.#xy;
    const rgba = this.#rgba;
    const offsets = disc(size);
    const own = colour?.map((part) => part * 255);
    const count = indices ? indices.length : this.count;
    for (let k = 0; k < count; k++) {
      const i = indices ? indices[k] : k;
      const [r, g, b] = own ?? [rgba[4 * i], rgba[4 * i + 1], rgba[4 * i + 2]];
      const a = (own ? 255 : rgba[4 * i + 3]) * opacity;
      const [x, y] = [this.#left + xy[2 * i] * this.#scale, this.#top - xy[2 * i + 1] * this.#scale];
      this.#dot(x, y, size, offsets, r, g, b, a);
    }
  }

  /**
   * Write points into the image: what is done for each of a million is written out here.
   * @param {Uint32Array} pixels
   * @param {ArrayLike<number> | null} indices
   * @param {number} size
   * @param {number} opacity
   * @param {number[]} [colour]
   */
  #paint(pixels, indices, size, opacity, colour) {
    const { width, height } = this.context.canvas;
    const [xy, words, scale, left, top] = [this.#xy, this.#words, this.#scale, this.#left, this.#top];
    const offsets = disc(size);
    const reach = Math.floor(size / 2);
    const [right, bottom] = [width - reach, height - reach];
    const steps = Int32Array.from(
      { length: offsets.length / 2 },
      (_, p) => offsets[2 * p + 1] * width + offsets[2 * p],
    );
    const over = colour ? wordOf(colour[0] * 255, colour[1] * 255, colour[2] * 255, 255 * opacity) : 0;
    const count = indices ? indices.length : this.count;
    for (let k = 0; k < count; k++) {
      const i = indices ? indices[k] : k;
      const x = left + xy[2 * i] * scale;
      const y = top - xy[2 * i + 1] * scale;
      if (!(x > -BEYOND && y > -BEYOND && x < width + BEYOND && y < height + BEYOND)) continue;
      const cx = Math.floor(x + 0.5);
      const cy = Math.floor(y + 0.5);
      let word = over;
      if (!colour) {
        word = words[i];
        if (opacity !== 1) word = (word & 0xffffff) | (((word >>> 24) * opacity) << 24);
      }
      if (cx >= reach && cy >= reach && cx < right && cy < bottom) {
        const middle = cy * width + cx;
        for (let p = 0; p < steps.length; p++) pixels[middle + steps[p]] = word;
      } else {
        this.#put(pixels, cx, cy, offsets, word);
      }
    }
  }

  /**
   * A point of which not all pixels need be on the canvas.
   * @param {Uint32Array} pixels
   * @param {number} cx
   * @param {number} cy
   * @param {Int32Array} offsets
   * @param {number} word
   */
  #put(pixels, cx, cy, offsets, word) {
    const { width, height } = this.context.canvas;
    for (let p = 0; p < offsets.length; p += 2) {
      const [px, py] = [cx + offsets[p], cy + offsets[p + 1]];
      if (px >= 0 && py >= 0 && px < width && py < height) pixels[py * width + px] = word;
    }
  }

  /**
   * Draw dots.
   * @param {Float32Array} xy CSS pixels
   * @param {number} size pixels
   * @param {number[]} colour
   */
  dots(xy, size, colour) {
    const offsets = disc(size);
    const [r, g, b] = colour.map((part) => part * 255);
    for (let i = 0; i < xy.length; i += 2) {
      this.#dot(xy[i] * this.#ratio, xy[i + 1] * this.#ratio, size, offsets, r, g, b, 255);
    }
  }

  end() {
    if (this.#image) this.context.putImageData(this.#image, 0, 0);
  }

  destroy() {}

  /**
   * @param {number} x
   * @param {number} y
   * @param {number} size
   * @param {Int32Array} offsets
   * @param {number} r
   * @param {number} g
   * @param {number} b
   * @param {number} a
   */
  #dot(x, y, size, offsets, r, g, b, a) {
    const { context } = this;
    const pixels = this.#pixels;
    const { width, height } = context.canvas;
    if (!(x > -BEYOND && y > -BEYOND && x < width + BEYOND && y < height + BEYOND)) return;
    if (!pixels) {
      context.fillStyle = `rgb(${r} ${g} ${b} / ${a / 255})`;
      context.beginPath();
      context.arc(x, y, size / 2, 0, 2 * Math.PI);
      context.fill();
      return;
    }
    this.#put(pixels, Math.round(x), Math.round(y), offsets, wordOf(r, g, b, a));
  }
}

/**
 * A colour as a pixel; every browser's machine is little-endian.
 * @param {number} r
 * @param {number} g
 * @param {number} b
 * @param {number} a
 */
const wordOf = (r, g, b, a) => ((a << 24) | (b << 16) | (g << 8) | r) >>> 0;

/**
 * The pixels of a disc, as offsets from its middle: dx0, dy0, dx1, dy1, ...
 * @param {number} size
 */
export function disc(size) {
  const reach = Math.floor(size / 2);
  const offsets = [];
  for (let dy = -reach; dy <= reach; dy++) {
    for (let dx = -reach; dx <= reach; dx++) if (Math.hypot(dx, dy) <= size / 2) offsets.push(dx, dy);
  }
  return Int32Array.from(offsets);
}
