// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";
import { disc } from "../../birder/web/scatter/canvas2d.js";
import { dotted, within } from "../../birder/web/scatter/lasso.js";
import { framed, PointIndex } from "../../birder/web/scatter/points.js";
import { View } from "../../birder/web/scatter/view.js";

/** Numbers that look random and are the same each time. */
function* numbers(seed = 1) {
  for (;;) {
    seed = (seed * 48271) % 2147483647;
    yield seed / 2147483647;
  }
}

/** @param {number} count */
function points(count) {
  const source = numbers();
  return Float32Array.from({ length: 2 * count }, () => 2 * Number(source.next().value) - 1);
}

test("points are centred and their longer side goes from -1 to 1", () => {
  const { xy, extent } = framed(Float32Array.of(10, 5, 30, 5, 20, 15, Number.NaN, 7));
  assert.deepEqual([...xy.slice(0, 6)], [-1, -0.5, 1, -0.5, 0, 0.5]);
  assert.deepEqual(extent, [2, 1]);
  assert.ok(Number.isNaN(xy[6]));
  assert.deepEqual(framed(new Float32Array(0)).extent, [2, 2]);
  assert.deepEqual([...framed(Float32Array.of(3, 4)).xy], [0, 0]);
});

test("the nearest point is the one that comparing all finds", () => {
  const xy = points(3000);
  const index = new PointIndex(xy);
  const shown = Uint8Array.from({ length: 3000 }, (_, i) => i % 3 && 1);
  const places = points(200);
  for (let p = 0; p < 200; p++) {
    const [x, y] = [places[2 * p], places[2 * p + 1]];
    for (const only of [null, shown]) {
      let [best, least] = [-1, 0.03 ** 2];
      for (let i = 0; i < 3000; i++) {
        const distance = (xy[2 * i] - x) ** 2 + (xy[2 * i + 1] - y) ** 2;
        if (distance <= least && (!only || only[i])) [best, least] = [i, distance];
      }
      assert.equal(index.nearest(x, y, 0.03, only), best);
    }
  }
  assert.equal(new PointIndex(new Float32Array(0)).nearest(0, 0, 1, null), -1);
});

test("a lasso has the points inside its outline, of those that are shown", () => {
  const xy = Float32Array.of(0, 0, 0.9, 0.9, -0.5, 0.5, 0.25, -0.25);
  const square = [-0.6, -0.6, 0.6, -0.6, 0.6, 0.6, -0.6, 0.6];
  assert.deepEqual(within(xy, square, null), [0, 2, 3]);
  assert.deepEqual(within(xy, square, Uint8Array.of(0, 1, 1, 1)), [2, 3]);
  const horseshoe = [-1, -1, 1, -1, 1, 1, 0.8, 1, 0.8, -0.8, -1, -0.8]; // open at the left
  assert.deepEqual(within(xy, horseshoe, null), [1]);
  assert.deepEqual(within(xy, [], null), []);
});

test("a line is dotted all around, four pixels apart", () => {
  const dots = dotted([0, 0, 10, 0, 10, 10, 0, 10]);
  assert.equal(dots.length / 2, 10);
  assert.deepEqual([...dots.slice(0, 8)], [0, 0, 4, 0, 8, 0, 10, 2]);
});

test("zooming keeps the place under the pointer where it is", () => {
  const view = new View();
  view.extent = [2, 1];
  view.resize(800, 600);
  view.fit();
  assert.ok(Math.abs(view.scale - 400 * 0.92) < 1e-9);
  const before = view.toUnits(100, 500);
  view.zoom(3, 100, 500);
  const after = view.toPixels(...before);
  assert.ok(Math.hypot(after.x - 100, after.y - 500) < 1e-6);
  for (let times = 0; times < 100; times++) view.zoom(10, 400, 300);
  assert.ok(view.scale <= view.fitting * 20000 * 1.001);
  for (let times = 0; times < 100; times++) view.zoom(0.1, 400, 300);
  assert.ok(view.scale >= view.fitting / 4 - 1e-9);
});

test("panning cannot lose the points, and another size shows the same", () => {
  const view = new View();
  view.resize(800, 600);
  view.pan(-1e9, 1e9);
  assert.deepEqual([view.x, view.y], [1.5, 1.5]);
  view.fit();
  view.zoom(2, 400, 300);
  const times = view.scale / view.fitting;
  view.resize(400, 300);
  assert.ok(Math.abs(view.scale / view.fitting - times) < 1e-9);
});

test("few points are drawn large and many small", () => {
  const view = new View();
  view.resize(800, 600);
  view.fit();
  assert.equal(view.diameter(10), 9);
  assert.equal(view.diameter(1_000_000), 3);
  view.zoom(100, 400, 300);
  assert.ok(view.diameter(1_000_000) > 3 && view.diameter(1_000_000) <= 12);
});

test("a disc has the pixels within its radius", () => {
  assert.deepEqual([...disc(1)], [0, 0]);
  assert.equal(disc(2).length / 2, 5);
  assert.equal(disc(9).length / 2, 69);
});
