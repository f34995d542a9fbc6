// @ts-check

/** The CSS colour of an element, whatever notation it is in, as red, green and blue from 0 to 1. */
export class CssColour {
  #text = "";
  /** @type {number[]} */
  #rgb = [0, 0, 0];

  /** @param {Element} element */
  constructor(element) {
    this.style = getComputedStyle(element);
    const pixel = document.createElement("canvas");
    pixel.width = pixel.height = 1;
    this.context = pixel.getContext("2d", { willReadFrequently: true });
  }

  read() {
    const text = this.style.color;
    if (text !== this.#text && this.context) {
      this.#text = text;
      this.context.fillStyle = text;
      this.context.fillRect(0, 0, 1, 1);
      this.#rgb = [...this.context.getImageData(0, 0, 1, 1).data.slice(0, 3)].map((byte) => byte / 255);
    }
    return this.#rgb;
  }
}
