// @ts-check
// Drawing points with WebGL 2.

/**
 * @import {View} from "./view.js"
 * @typedef {ArrayLike<number>} Indices
 */

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

/** Whether a graphics card draws WebGL; a processor that stands in for one is slower at it than at canvas-2D. */
export function hasFastWebGL() {
  const gl = document.createElement("canvas").getContext("webgl2", { failIfMajorPerformanceCaveat: true });
  const info = gl?.getExtension("WEBGL_debug_renderer_info");
  const by = gl && info ? gl.getParameter(info.UNMASKED_RENDERER_WEBGL) : "";
  gl?.getExtension("WEBGL_lose_context")?.loseContext();
  return gl !== null && !/swiftshader|llvmpipe|softpipe|software|basic render/i.test(by);
}

export class WebGLDrawing {
  count = 0;
  /** @type {number[]} from units to the canvas */
  #fromUnits = [1, 1, 0, 0];
  /** @type {number[]} from CSS pixels to the canvas */
  #fromPixels = [1, 1, 0, 0];
  /** @type {Indices | null} those that are in the buffer */
  #inBuffer = null;

  /** @param {WebGL2RenderingContext} gl */
  constructor(gl) {
    this.gl = gl;
    this.program = programOf(gl);
    /** @param {string} name */
    const uniform = (name) => gl.getUniformLocation(this.program, name);
    this.uniforms = {
      view: uniform("view"),
      size: uniform("size"),
      opacity: uniform("opacity"),
      over: uniform("over"),
    };
    this.places = gl.createBuffer();
    this.colours = gl.createBuffer();
    this.chosen = gl.createBuffer();
    this.line = gl.createBuffer();
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    gl.clearColor(0, 0, 0, 0);
    gl.enableVertexAttribArray(0);
  }

  /** @param {Float32Array} xy */
  setPoints(xy) {
    this.count = xy.length / 2;
    this.gl.bindBuffer(this.gl.ARRAY_BUFFER, this.places);
    this.gl.bufferData(this.gl.ARRAY_BUFFER, xy, this.gl.STATIC_DRAW);
  }

  /** @param {Uint8Array} rgba */
  setColours(rgba) {
    this.gl.bindBuffer(this.gl.ARRAY_BUFFER, this.colours);
    this.gl.bufferData(this.gl.ARRAY_BUFFER, rgba, this.gl.STATIC_DRAW);
  }

  /** @param {View} view */
  begin({ x, y, scale, width, height }) {
    const { gl } = this;
    const [sx, sy] = [(2 * scale) / width, (2 * scale) / height];
    this.#fromUnits = [sx, sy, -x * sx, -y * sy];
    this.#fromPixels = [2 / width, -2 / height, -1, 1];
    gl.viewport(0, 0, gl.drawingBufferWidth, gl.drawingBufferHeight);
    gl.clear(gl.COLOR_BUFFER_BIT);
  }

  /**
   * Draw points, all or some.
   * @param {Indices | null} indices
   * @param {number} size pixels
   * @param {number} opacity
   * @param {number[]} [colour] red, green and blue from 0 to 1, in place of their own
   */
  points(indices, size, opacity, colour) {
    const { gl } = this;
    if (!this.count) return;
    gl.bindBuffer(gl.ARRAY_BUFFER, this.places);
    gl.vertexAttribPointer(0, 2, gl.FLOAT, false, 0, 0);
    gl.enableVertexAttribArray(1);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.colours);
    gl.vertexAttribPointer(1, 4, gl.UNSIGNED_BYTE, true, 0, 0);
    this.#setUniforms(this.#fromUnits, size, opacity, colour);
    if (indices === null) {
      gl.drawArrays(gl.POINTS, 0, this.count);
    } else {
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.chosen);
      if (indices !== this.#inBuffer)
        gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, Uint32Array.from(indices), gl.DYNAMIC_DRAW);
      this.#inBuffer = indices;
      gl.drawElements(gl.POINTS, indices.length, gl.UNSIGNED_INT, 0);
    }
  }

  /**
   * Draw dots.
   * @param {Float32Array} xy CSS pixels
   * @param {number} size pixels
   * @param {number[]} colour
   */
  dots(xy, size, colour) {
    const { gl } = this;
    gl.bindBuffer(gl.ARRAY_BUFFER, this.line);
    gl.bufferData(gl.ARRAY_BUFFER, xy, gl.DYNAMIC_DRAW);
    gl.vertexAttribPointer(0, 2, gl.FLOAT, false, 0, 0);
    gl.disableVertexAttribArray(1);
    this.#setUniforms(this.#fromPixels, size, 1, colour);
    gl.drawArrays(gl.POINTS, 0, xy.length / 2);
  }

  end() {}

  destroy() {
    for (const buffer of [this.places, this.colours, this.chosen, this.line]) this.gl.deleteBuffer(buffer);
    this.gl.deleteProgram(this.program);
  }

  /**
   * @param {number[]} view
   * @param {number} size
   * @param {number} opacity
   * @param {number[]} [colour]
   */
  #setUniforms(view, size, opacity, colour) {
    const { gl, uniforms } = this;
    gl.uniform4fv(uniforms.view, view);
    gl.uniform1f(uniforms.size, size);
    gl.uniform1f(uniforms.opacity, opacity);
    gl.uniform4fv(uniforms.over, colour ? [...colour, 1] : [0, 0, 0, 0]);
  }
}

/** @param {WebGL2RenderingContext} gl */
function programOf(gl) {
  const program = gl.createProgram();
  /**
   * @param {number} type
   * @param {string} text
   */
  const attach = (type, text) => {
    const shader = gl.createShader(type);
    if (!shader) return; // the context is lost: it is drawn again once it is restored
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  };
  attach(gl.VERTEX_SHADER, VERTEX);
  attach(gl.FRAGMENT_SHADER, FRAGMENT);
  gl.bindAttribLocation(program, 0, "place");
  gl.bindAttribLocation(program, 1, "colour");
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
    throw new Error(`The map cannot be drawn: ${gl.getProgramInfoLog(program)}`);
  }
  gl.useProgram(program);
  return program;
}
