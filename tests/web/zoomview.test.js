// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";
import { enlarged, moved, WHOLE } from "../../birder/web/zoomview.js";

const FRAME = { width: 800, height: 600 };

test("the point under the pointer stays there", () => {
  const view = enlarged(enlarged(WHOLE, 2, { x: 100, y: -50 }, FRAME), 1.5, { x: 100, y: -50 }, FRAME);
  assert.equal(view.scale, 3);
  assert.deepEqual([(100 - view.x) / view.scale, (-50 - view.y) / view.scale], [100, -50]);
});

test("an image is never smaller than its frame, and never leaves it", () => {
  assert.deepEqual(enlarged(WHOLE, 0.5, { x: 10, y: 10 }, FRAME), WHOLE);
  const view = moved(enlarged(WHOLE, 2, { x: 0, y: 0 }, FRAME), { x: 5000, y: -5000 }, FRAME);
  assert.deepEqual(view, { scale: 2, x: 400, y: -300 });
  const back = enlarged(view, 0.5, { x: 0, y: 0 }, FRAME);
  assert.deepEqual([back.scale, back.x + 0, back.y + 0], [1, 0, 0]);
  assert.equal(enlarged(WHOLE, 1e6, { x: 0, y: 0 }, FRAME).scale, 32);
});
