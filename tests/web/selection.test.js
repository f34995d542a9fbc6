// @ts-check
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { outOfSight, selection, showsSelected } from "../../birder/web/selection.js";
import { listen } from "../../birder/web/signals.js";

beforeEach(() => {
  selection.clear();
});

test("images are added, toggled, replaced and removed, in the order of their selection", () => {
  selection.add(["a", "b"]);
  selection.add(["b", "c"]);
  assert.deepEqual(selection.ids(), ["a", "b", "c"]);
  selection.toggle("a");
  selection.toggle("d");
  assert.deepEqual(selection.ids(), ["b", "c", "d"]);
  selection.remove(["c", "x"]);
  assert.equal(selection.size, 2);
  selection.set(["z"]);
  assert.deepEqual([selection.has("z"), selection.has("b")], [true, false]);
});

test("each change is told once, and clearing nothing is no change", () => {
  let changes = 0;
  const stop = listen("selection", () => changes++);
  selection.add(["a", "b", "c"]);
  selection.clear();
  selection.clear();
  assert.equal(changes, 2);
  stop();
  selection.add(["a"]);
  assert.equal(changes, 2);
});

test("what a view does not show is out of sight", async () => {
  selection.add(["a", "b", "c"]);
  showsSelected("gallery", async (ids) => ids.filter((id) => id !== "b"));
  assert.deepEqual(await outOfSight("gallery"), ["b"]);
  assert.deepEqual(await outOfSight("failures"), ["a", "b", "c"]); // which shows no images
});
