// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";
import { between, dragged, fitted, LEAST, SIDES } from "../../birder/web/boxshape.js";

let seed = 7;
const random = () => {
  seed = (seed * 16807) % 2147483647;
  return seed / 2147483647;
};

test("a box never leaves its image, whatever is dragged where", () => {
  for (let turn = 0; turn < 2000; turn++) {
    const box = between({ x: random(), y: random() }, { x: 3 * random() - 1, y: 3 * random() - 1 });
    const side = ["", ...SIDES][turn % 9];
    const after = dragged(box, side, { x: 2 * random() - 1, y: 2 * random() - 1 });
    for (const { x, y, width, height } of [box, after]) {
      assert.ok(x >= 0 && y >= 0 && x + width <= 1 + 1e-9 && y + height <= 1 + 1e-9);
      assert.ok(width >= LEAST - 1e-9 && height >= LEAST - 1e-9);
    }
    if (!side) assert.deepEqual([after.width, after.height], [box.width, box.height]);
  }
});

test("a dragged side takes the others along nowhere", () => {
  const box = { x: 0.25, y: 0.25, width: 0.5, height: 0.25 };
  assert.deepEqual(dragged(box, "e", { x: 0.125, y: 0.9 }), { ...box, width: 0.625 });
  assert.deepEqual(dragged(box, "nw", { x: 0.125, y: -0.125 }), { x: 0.375, y: 0.125, width: 0.375, height: 0.375 });
  assert.deepEqual(between({ x: 0.5, y: 0.5 }, { x: 0.25, y: 0.75 }), { x: 0.25, y: 0.5, width: 0.25, height: 0.25 });
  assert.deepEqual(fitted({ x: 0.9, y: 0, width: 0.5, height: 2 }), { x: 0.5, y: 0, width: 0.5, height: 1 });
});
