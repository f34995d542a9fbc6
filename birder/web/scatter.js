// A scatter plot of many points on a <canvas>: WebGL 2, or canvas-2D where that is missing or done by the processor,
// which takes longer (`renderer: "webgl"` or `"2d"` asks for one). No dependencies.
//
//   const plot = new Scatter(canvas, {
//     onHover(index, {x, y}) {},      // the point under the pointer, -1 when there is none; its place in CSS pixels
//     onSelect(indices) {},           // Array; the selection was changed by a lasso, Ctrl-click, Escape, or emptied
//     onOpen(index) {},               // a point was clicked, tapped
//   });
//   plot.setPoints(xy);               // Float32Array, x0 y0 x1 y1 ...; shows all of them
//   plot.setColours(rgba);            // Uint8Array, r g b a of each
//   plot.setHighlighted(indices);     // the others are faded, and neither picked nor selected; null: none is faded
//   plot.setSelected(indices);        // ringed in --map-selected; does not call onSelect
//   plot.setMode("lasso");            // what dragging does: "pan" (then Shift-drag is a lasso) or "lasso"
//   plot.fit(); plot.zoom(1.4); plot.position(index); plot.redraw(); plot.destroy();
//
// The canvas takes its size from the page's style sheet; its background is --map-background, rings and the lasso are
// --map-selected. Wheel and pinch zoom, dragging pans; arrows, + and - and 0 (all) do the same from the keyboard.

const PICK = 10; // CSS pixels from the pointer within which a point is hovered
const STILL = 4; // CSS pixels that a click may move
const DEEPEST = 20000; // times the scale that shows everything: float32 has no more places
const FADED = 0.13;

export class Scatter {
  constructor(canvas, { onHover, onSelect, onOpen, renderer } = {}) {
    this.canvas = canvas;
    this.onHover = onHover ?? (() => {});
    this.onSelect = onSelect ?? (() => {});
    this.onOpen = onOpen ?? (() => {});
    this.mode = "pan";
    this.count = 0;
    this.xy = new Float32Array(0); // centred, the longer side from -1 to 1
    this.colours = new Uint8Array(0);
    this.highlighted = null; // Uint32Array, and who is in it:
    this.shown = null;
    this.selected = new Uint32Array(0);
    this.hovered = -1;
    this.lasso = null; // [x, y, ...] in CSS pixels while one is drawn
    this.view = { x: 0, y: 0, scale: 1 }; // the middle of the canvas, CSS pixels per unit
    this.extent = [1, 1];
    this.width = this.height = 0;
    this.ratio = 1;
    this.frame = 0;
    this.pointers = new Map();
    this.ended = new AbortController();

    if (!canvas.hasAttribute("tabindex")) canvas.tabIndex = 0;
    Object.assign(canvas.style, {
      touchAction: "none",
      background: "var(--map-background, Canvas)",
      color: "var(--map-selected, CanvasText)",
    });
    const wanted = renderer ?? (hasFastWebGL() ? "webgl" : "2d");
    const gl = wanted === "webgl" ? canvas.getContext("webgl2", { antialias: false }) : null;
    this.drawing = gl ? new WebGLDrawing(gl) : new PlainDrawing(canvas.getContext("2d"));
    this.renderer = gl ? "webgl" : "2d";
    this.colour = new ColourOf(canvas);
    this.#listen();
  }

  setPoints(xy) {
    const count = xy.length >> 1;
    const box = [Infinity, -Infinity, Infinity, -Infinity];
    for (let i = 0; i < count; i++) {
      const x = xy[2 * i];
      const y = xy[2 * i + 1];
      if (!(Number.isFinite(x) && Number.isFinite(y))) continue;
      if (x < box[0]) box[0] = x;
      if (x > box[1]) box[1] = x;
      if (y < box[2]) box[2] = y;
      if (y > box[3]) box[3] = y;
    }
    const [wide, high] = [box[1] - box[0], box[3] - box[2]];
    const half = Math.max(wide, high) / 2 || 1;
    this.xy = new Float32Array(2 * count);
    for (let i = 0; i < count; i++) {
      this.xy[2 * i] = (xy[2 * i] - (box[0] + wide / 2)) / half;
      this.xy[2 * i + 1] = (xy[2 * i + 1] - (box[2] + high / 2)) / half;
    }
    this.extent = count ? [Math.max(wide / half, 0.02), Math.max(high / half, 0.02)] : [2, 2];
    this.count = count;
    this.grid = new Grid(this.xy);
    this.highlighted = this.shown = null;
    this.selected = new Uint32Array(0);
    this.hovered = -1;
    if (this.colours.length !== 4 * count) {
      this.colours = new Uint8Array(4 * count);
      for (let i = 0; i < count; i++) this.colours.set([76, 120, 168, 200], 4 * i);
    }
    this.drawing.setPoints(this.xy);
    this.drawing.setColours(this.colours);
    this.fit();
  }

  setColours(rgba) {
    if (rgba.length !== 4 * this.count) throw new RangeError(`${4 * this.count} bytes are needed, not ${rgba.length}`);
    this.colours = rgba;
    this.drawing.setColours(rgba);
    this.redraw();
  }

  setHighlighted(indices) {
    this.highlighted = indices === null ? null : Uint32Array.from(indices);
    this.shown = null;
    if (this.highlighted) {
      this.shown = new Uint8Array(this.count);
      for (const index of this.highlighted) this.shown[index] = 1;
    }
    this.redraw();
  }

  setSelected(indices) {
    this.selected = Uint32Array.from(indices);
    this.redraw();
  }

  setMode(mode) {
    if (mode !== "pan" && mode !== "lasso") throw new RangeError(`the mode is "pan" or "lasso", not ${mode}`);
    this.mode = mode;
    this.canvas.style.cursor = mode === "lasso" ? "crosshair" : "";
  }

  /** Show all points. */
  fit() {
    this.view = { x: 0, y: 0, scale: this.#fitting() };
    this.redraw();
  }

  /** Zoom by a factor about a place in CSS pixels, the middle without one. */
  zoom(factor, x = this.width / 2, y = this.height / 2) {
    const { view } = this;
    const least = this.#fitting() / 4;
    const scale = Math.min(Math.max(view.scale * factor, least), least * 4 * DEEPEST);
    const [px, py] = this.#place(x, y);
    view.scale = scale;
    view.x = px - (x - this.width / 2) / scale;
    view.y = py + (y - this.height / 2) / scale;
    this.redraw();
  }

  /** Where a point is, in CSS pixels from the canvas's corner. */
  position(index) {
    const { view } = this;
    return {
      x: this.width / 2 + (this.xy[2 * index] - view.x) * view.scale,
      y: this.height / 2 - (this.xy[2 * index + 1] - view.y) * view.scale,
    };
  }

  redraw() {
    if (!this.frame && !this.ended.signal.aborted) this.frame = requestAnimationFrame(() => this.#draw());
  }

  destroy() {
    this.ended.abort();
    this.sizes.disconnect();
    this.themes.disconnect();
    cancelAnimationFrame(this.frame);
    this.drawing.destroy();
  }

  #fitting() {
    const [wide, high] = this.extent;
    return Math.max(Math.min(this.width / wide, this.height / high) * 0.92, 1e-3);
  }

  #place(x, y) {
    const { view } = this;
    return [view.x + (x - this.width / 2) / view.scale, view.y - (y - this.height / 2) / view.scale];
  }

  // Few points are drawn large, many small; closer, they grow a little.
  #diameter() {
    const room = Math.sqrt((this.width * this.height) / Math.max(this.count, 1));
    const size = Math.min(Math.max(room * 0.4, 3), 9);
    return Math.min(size * (this.view.scale / this.#fitting()) ** 0.3, Math.max(size, 12));
  }

  #draw() {
    this.frame = 0;
    if (!this.width || !this.height) return;
    const size = this.#diameter() * this.ratio;
    const ring = this.colour.read();
    const { drawing, highlighted, selected } = this;
    drawing.begin(this.view, this.width, this.height, this.ratio);
    drawing.points(null, size, highlighted ? FADED : 1);
    if (highlighted) drawing.points(highlighted, size, 1);
    // Rings go under all the points they are for, so that of a dense group the outline is seen.
    if (selected.length) {
      drawing.points(selected, size + 4 * this.ratio, 1, ring);
      drawing.points(selected, size, 1);
    }
    if (this.hovered >= 0) {
      drawing.points([this.hovered], size + 8 * this.ratio, 1, ring);
      drawing.points([this.hovered], size + 4 * this.ratio, 1);
    }
    if (this.lasso) drawing.dots(dotted(this.lasso), 2.5 * this.ratio, ring);
    drawing.end();
  }

  #resize(entry) {
    const before = this.width ? this.#fitting() : 0;
    this.ratio = window.devicePixelRatio || 1;
    this.width = entry.contentRect.width;
    this.height = entry.contentRect.height;
    const exact = entry.devicePixelContentBoxSize?.[0];
    // The exact size differs from the computed one by a rounding, but for browsers that emulate a device: these give
    // CSS pixels.
    const pixels = (exactly, length) => {
      const computed = Math.round(length * this.ratio);
      return Math.max(Math.abs((exactly ?? computed) - computed) < 2 ? (exactly ?? computed) : computed, 1);
    };
    this.canvas.width = pixels(exact?.inlineSize, this.width);
    this.canvas.height = pixels(exact?.blockSize, this.height);
    this.view.scale = before ? this.view.scale * (this.#fitting() / before) : this.#fitting();
    cancelAnimationFrame(this.frame);
    this.#draw(); // at once: a canvas that was resized is empty
  }

  #listen() {
    const { canvas } = this;
    const { signal } = this.ended;
    const on = (name, handle, more) => canvas.addEventListener(name, handle, { signal, ...more });
    this.sizes = new ResizeObserver((entries) => this.#resize(entries[entries.length - 1]));
    try {
      this.sizes.observe(canvas, { box: "device-pixel-content-box" });
    } catch {
      this.sizes.observe(canvas);
    }
    // Rings are drawn, so they follow light and dark only when drawn again.
    this.themes = new MutationObserver(() => this.redraw());
    this.themes.observe(document.documentElement, { attributes: true });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw(), { signal });
    on("pointerdown", (event) => this.#down(event));
    on("pointermove", (event) => this.#move(event));
    on("pointerup", (event) => this.#up(event));
    on("pointercancel", (event) => this.#cancel(event));
    on("pointerleave", () => this.#hover(-1));
    on("wheel", (event) => this.#wheel(event), { passive: false });
    on("keydown", (event) => this.#key(event));
    on("webglcontextlost", (event) => event.preventDefault());
    on("webglcontextrestored", () => {
      this.drawing = new WebGLDrawing(canvas.getContext("webgl2"));
      this.drawing.setPoints(this.xy);
      this.drawing.setColours(this.colours);
      this.redraw();
    });
  }

  #down(event) {
    if (event.button !== 0) return;
    this.canvas.setPointerCapture(event.pointerId);
    const at = this.#at(event);
    this.pointers.set(event.pointerId, at);
    if (this.pointers.size === 1) {
      this.start = at;
      this.moved = false;
      this.lassoing = this.mode === "lasso" || event.shiftKey;
    } else {
      this.moved = true; // two fingers: neither a click nor a lasso
      this.lassoing = false;
      this.lasso = null;
      this.redraw();
    }
  }

  #move(event) {
    const at = this.#at(event);
    const before = this.pointers.get(event.pointerId);
    if (!before) {
      if (event.pointerType !== "touch") this.#hover(this.#pick(...at));
      return;
    }
    if (!this.moved && Math.hypot(at[0] - this.start[0], at[1] - this.start[1]) > STILL) {
      this.moved = true;
      this.#hover(-1);
      if (this.lassoing) this.lasso = [...this.start];
    }
    if (!this.moved) return;
    if (this.pointers.size === 2) {
      const [other] = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
      const apart = (place) => Math.max(Math.hypot(place[0] - other[0], place[1] - other[1]), 1);
      this.#pan((at[0] - before[0]) / 2, (at[1] - before[1]) / 2);
      this.zoom(apart(at) / apart(before), (at[0] + other[0]) / 2, (at[1] + other[1]) / 2);
    } else if (this.lasso) {
      const { lasso } = this;
      if (Math.hypot(at[0] - lasso[lasso.length - 2], at[1] - lasso[lasso.length - 1]) >= 2) lasso.push(...at);
      this.redraw();
    } else if (this.pointers.size === 1 && !this.lassoing) {
      this.#pan(at[0] - before[0], at[1] - before[1]);
    }
    this.pointers.set(event.pointerId, at);
  }

  #up(event) {
    if (!this.pointers.delete(event.pointerId)) return;
    if (this.lasso) {
      const inside = this.#inside(this.lasso);
      this.lasso = null;
      const add = event.ctrlKey || event.metaKey;
      this.#select(add ? [...new Set([...this.selected, ...inside])] : inside);
    } else if (!this.moved) {
      const index = this.#pick(...this.#at(event));
      if (index >= 0 && (event.ctrlKey || event.metaKey)) {
        const without = [...this.selected].filter((each) => each !== index);
        this.#select(without.length < this.selected.length ? without : [...without, index]);
      } else if (index >= 0) {
        this.onOpen(index);
      } else if (this.selected.length) {
        this.#select([]);
      }
    }
  }

  #cancel(event) {
    this.pointers.delete(event.pointerId);
    this.lasso = null;
    this.redraw();
  }

  #wheel(event) {
    event.preventDefault();
    const step = event.deltaY * (event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? 400 : 1);
    // A pinch on a touchpad comes as a wheel with Ctrl, in small steps.
    this.zoom(Math.exp(-Math.min(Math.max(step, -300), 300) * (event.ctrlKey ? 0.01 : 0.0018)), ...this.#at(event));
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = Math.min(this.width, this.height) / 8;
    const does = {
      ArrowLeft: () => this.#pan(step, 0),
      ArrowRight: () => this.#pan(-step, 0),
      ArrowUp: () => this.#pan(0, step),
      ArrowDown: () => this.#pan(0, -step),
      "+": () => this.zoom(1.4),
      "=": () => this.zoom(1.4),
      "-": () => this.zoom(1 / 1.4),
      0: () => this.fit(),
      Home: () => this.fit(),
    }[event.key];
    if (does) {
      does();
      event.preventDefault();
    } else if (event.key === "Escape" && this.lasso) {
      this.lasso = null;
      this.redraw();
      event.preventDefault();
    } else if (event.key === "Escape" && this.selected.length) {
      this.#select([]);
      event.preventDefault();
    }
  }

  #pan(dx, dy) {
    this.view.x = Math.min(Math.max(this.view.x - dx / this.view.scale, -1.5), 1.5);
    this.view.y = Math.min(Math.max(this.view.y + dy / this.view.scale, -1.5), 1.5);
    this.redraw();
  }

  #select(indices) {
    this.setSelected(indices);
    this.onSelect(indices);
  }

  #hover(index) {
    if (index === this.hovered) return;
    this.hovered = index;
    this.redraw();
    this.onHover(index, index >= 0 ? this.position(index) : { x: 0, y: 0 });
  }

  #at(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left - this.canvas.clientLeft, event.clientY - box.top - this.canvas.clientTop];
  }

  #pick(x, y) {
    const [px, py] = this.#place(x, y);
    return this.count ? this.grid.nearest(px, py, PICK / this.view.scale, this.shown) : -1;
  }

  #inside(lasso) {
    const outline = [];
    for (let i = 0; i < lasso.length; i += 2) outline.push(...this.#place(lasso[i], lasso[i + 1]));
    return within(this.xy, outline, this.shown);
  }
}

/** Whether a graphics card draws WebGL; a processor that stands in for one is slower at it than at canvas-2D. */
function hasFastWebGL() {
  const gl = document.createElement("canvas").getContext("webgl2", { failIfMajorPerformanceCaveat: true });
  const info = gl?.getExtension("WEBGL_debug_renderer_info");
  const by = info ? gl.getParameter(info.UNMASKED_RENDERER_WEBGL) : "";
  gl?.getExtension("WEBGL_lose_context")?.loseContext();
  return gl !== null && !/swiftshader|llvmpipe|softpipe|software|basic render/i.test(by);
}

/** Indices of the points in an outline (even-odd), of those that are shown. */
function within(xy, outline, shown) {
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

/** A closed line as dots, four CSS pixels apart. */
function dotted(line) {
  const dots = [];
  const corners = line.length / 2;
  let left = 0; // how far into the segment the next dot comes
  for (let i = 0; i < corners; i++) {
    const [x, y] = [line[2 * i], line[2 * i + 1]];
    const j = (i + 1) % corners;
    const length = Math.hypot(line[2 * j] - x, line[2 * j + 1] - y);
    for (; left < length; left += 4) {
      dots.push(x + ((line[2 * j] - x) * left) / length, y + ((line[2 * j + 1] - y) * left) / length);
    }
    left -= length;
  }
  return new Float32Array(dots);
}

/** Points sorted into square cells, so that the nearest is found among few. */
class Grid {
  constructor(xy) {
    const count = xy.length / 2;
    this.xy = xy;
    this.side = Math.min(Math.max(Math.ceil(Math.sqrt(count / 2)), 1), 1024);
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

  #cell(value) {
    return Math.min(Math.max(Math.floor(((value + 1) / 2) * this.side), 0), this.side - 1) || 0;
  }
}

/** The canvas's CSS colour, whatever notation it is in, as [r, g, b] from 0 to 1. */
class ColourOf {
  constructor(canvas) {
    this.style = getComputedStyle(canvas);
    const one = document.createElement("canvas");
    one.width = one.height = 1;
    this.context = one.getContext("2d", { willReadFrequently: true });
  }

  read() {
    const text = this.style.color;
    if (text !== this.text) {
      this.text = text;
      this.context.fillStyle = text;
      this.context.fillRect(0, 0, 1, 1);
      this.rgb = [...this.context.getImageData(0, 0, 1, 1).data.slice(0, 3)].map((byte) => byte / 255);
    }
    return this.rgb;
  }
}

const VERTEX = `#version 300 es
in vec2 place;
in vec4 colour;
uniform vec4 view;
uniform float size;
out vec4 inner;
void main() {
  gl_Position = vec4(place * view.xy + view.zw, 0.0, 1.0);
  gl_PointSize = size;
  inner = colour;
}`;
const FRAGMENT = `#version 300 es
precision highp float;
in vec4 inner;
uniform float size;
uniform float opacity;
uniform vec4 over; // in place of the point's own colour, where its last number is 1
out vec4 result;
void main() {
  float away = length(gl_PointCoord - 0.5) * size;
  vec4 colour = mix(inner, over, over.a);
  float alpha = colour.a * opacity * clamp(size * 0.5 - away, 0.0, 1.0);
  result = vec4(colour.rgb * alpha, alpha);
}`;

class WebGLDrawing {
  constructor(gl) {
    this.gl = gl;
    this.program = gl.createProgram();
    for (const [type, text] of [
      [gl.VERTEX_SHADER, VERTEX],
      [gl.FRAGMENT_SHADER, FRAGMENT],
    ]) {
      const shader = gl.createShader(type);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(this.program, shader);
    }
    gl.bindAttribLocation(this.program, 0, "place");
    gl.bindAttribLocation(this.program, 1, "colour");
    gl.linkProgram(this.program);
    if (!gl.getProgramParameter(this.program, gl.LINK_STATUS) && !gl.isContextLost()) {
      throw new Error(`The map cannot be drawn: ${gl.getProgramInfoLog(this.program)}`);
    }
    gl.useProgram(this.program);
    this.at = {};
    for (const name of ["view", "size", "opacity", "over"]) this.at[name] = gl.getUniformLocation(this.program, name);
    [this.places, this.colours, this.chosen, this.line] = [1, 2, 3, 4].map(() => gl.createBuffer());
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    gl.clearColor(0, 0, 0, 0);
    gl.enableVertexAttribArray(0);
  }

  setPoints(xy) {
    this.count = xy.length / 2;
    this.gl.bindBuffer(this.gl.ARRAY_BUFFER, this.places);
    this.gl.bufferData(this.gl.ARRAY_BUFFER, xy, this.gl.STATIC_DRAW);
  }

  setColours(rgba) {
    this.gl.bindBuffer(this.gl.ARRAY_BUFFER, this.colours);
    this.gl.bufferData(this.gl.ARRAY_BUFFER, rgba, this.gl.STATIC_DRAW);
  }

  begin(view, width, height) {
    const { gl } = this;
    const [sx, sy] = [(2 * view.scale) / width, (2 * view.scale) / height];
    this.clip = [sx, sy, -view.x * sx, -view.y * sy];
    this.css = [2 / width, -2 / height, -1, 1];
    gl.viewport(0, 0, gl.drawingBufferWidth, gl.drawingBufferHeight);
    gl.clear(gl.COLOR_BUFFER_BIT);
  }

  points(indices, size, opacity, colour) {
    const { gl } = this;
    if (!this.count) return;
    gl.bindBuffer(gl.ARRAY_BUFFER, this.places);
    gl.vertexAttribPointer(0, 2, gl.FLOAT, false, 0, 0);
    gl.enableVertexAttribArray(1);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.colours);
    gl.vertexAttribPointer(1, 4, gl.UNSIGNED_BYTE, true, 0, 0);
    this.#say(this.clip, size, opacity, colour);
    if (indices === null) {
      gl.drawArrays(gl.POINTS, 0, this.count);
    } else {
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.chosen);
      if (indices !== this.last) gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, Uint32Array.from(indices), gl.DYNAMIC_DRAW);
      this.last = indices;
      gl.drawElements(gl.POINTS, indices.length, gl.UNSIGNED_INT, 0);
    }
  }

  dots(xy, size, colour) {
    const { gl } = this;
    gl.bindBuffer(gl.ARRAY_BUFFER, this.line);
    gl.bufferData(gl.ARRAY_BUFFER, xy, gl.DYNAMIC_DRAW);
    gl.vertexAttribPointer(0, 2, gl.FLOAT, false, 0, 0);
    gl.disableVertexAttribArray(1);
    this.#say(this.css, size, 1, colour);
    gl.drawArrays(gl.POINTS, 0, xy.length / 2);
  }

  end() {}

  destroy() {
    for (const buffer of [this.places, this.colours, this.chosen, this.line]) this.gl.deleteBuffer(buffer);
    this.gl.deleteProgram(this.program);
  }

  #say(view, size, opacity, colour) {
    const { gl, at } = this;
    gl.uniform4fv(at.view, view);
    gl.uniform1f(at.size, size);
    gl.uniform1f(at.opacity, opacity);
    gl.uniform4fv(at.over, colour ? [...colour, 1] : [0, 0, 0, 0]);
  }
}

/** The same on a 2D context; of many points whole pixels are written into an image, which is plainer and fast. */
class PlainDrawing {
  constructor(context) {
    this.context = context;
    this.count = 0;
  }

  setPoints(xy) {
    this.xy = xy;
    this.count = xy.length / 2;
  }

  setColours(rgba) {
    this.rgba = rgba;
  }

  begin(view, width, height, ratio) {
    const { canvas } = this.context;
    this.scale = view.scale * ratio;
    this.left = canvas.width / 2 - view.x * this.scale;
    this.top = canvas.height / 2 + view.y * this.scale;
    this.ratio = ratio;
    this.context.clearRect(0, 0, canvas.width, canvas.height);
    this.image = this.pixels = null;
    if (this.count > 5000) {
      this.image = this.context.createImageData(canvas.width, canvas.height);
      this.pixels = new Uint32Array(this.image.data.buffer);
    }
  }

  points(indices, size, opacity, colour) {
    const { xy, rgba, left, top, scale } = this;
    const offsets = disc(size);
    const own = colour?.map((part) => part * 255);
    const count = indices ? indices.length : this.count;
    for (let k = 0; k < count; k++) {
      const i = indices ? indices[k] : k;
      const [r, g, b] = own ?? [rgba[4 * i], rgba[4 * i + 1], rgba[4 * i + 2]];
      const a = (own ? 255 : rgba[4 * i + 3]) * opacity;
      this.#dot(left + xy[2 * i] * scale, top - xy[2 * i + 1] * scale, size, offsets, r, g, b, a);
    }
  }

  dots(xy, size, colour) {
    const offsets = disc(size);
    const [r, g, b] = colour.map((part) => part * 255);
    for (let i = 0; i < xy.length; i += 2) {
      this.#dot(xy[i] * this.ratio, xy[i + 1] * this.ratio, size, offsets, r, g, b, 255);
    }
  }

  end() {
    if (this.image) this.context.putImageData(this.image, 0, 0);
  }

  destroy() {}

  #dot(x, y, size, offsets, r, g, b, a) {
    const { context, pixels } = this;
    const { width, height } = context.canvas;
    if (!(x > -20 && y > -20 && x < width + 20 && y < height + 20)) return;
    if (!pixels) {
      context.fillStyle = `rgb(${r} ${g} ${b} / ${a / 255})`;
      context.beginPath();
      context.arc(x, y, size / 2, 0, 2 * Math.PI);
      context.fill();
      return;
    }
    const word = ((a << 24) | (b << 16) | (g << 8) | r) >>> 0; // every browser's machine is little-endian
    const [cx, cy] = [Math.round(x), Math.round(y)];
    for (let p = 0; p < offsets.length; p += 2) {
      const [px, py] = [cx + offsets[p], cy + offsets[p + 1]];
      if (px >= 0 && py >= 0 && px < width && py < height) pixels[py * width + px] = word;
    }
  }
}

/** The pixels of a disc, as offsets from its middle. */
function disc(size) {
  const reach = Math.floor(size / 2);
  const offsets = [];
  for (let dy = -reach; dy <= reach; dy++) {
    for (let dx = -reach; dx <= reach; dx++) if (Math.hypot(dx, dy) <= size / 2) offsets.push(dx, dy);
  }
  return Int32Array.from(offsets);
}
