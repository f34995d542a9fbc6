// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";
import { inOrder, nameOf, neighbourOf } from "../../birder/web/boxlist.js";

/**
 * @param {string} id
 * @param {number} x
 * @param {Partial<import("../../birder/web/types.js").BoxOnImage>} more
 */
const box = (id, x, more = {}) => ({
  ...{ id, name: id, label: null, width: null, height: null, v: "", category: null, confidence: null, box: null },
  place: { x, y: 0, width: 0.1, height: 0.1 },
  ...more,
});

test("a person's word comes before a model's, and that before the detector's", () => {
  assert.equal(nameOf(box("a", 0, { label: "owl", predicted: "fox", category: "animal" })), "owl");
  assert.equal(nameOf(box("a", 0, { predicted: "fox", category: "animal" })), "fox?");
  assert.equal(nameOf(box("a", 0, { category: "animal" })), "animal");
  assert.equal(nameOf(box("a", 0)), "box");
});

test("boxes go round from left to right, and a whole image leads to either end", () => {
  const boxes = inOrder([box("c", 0.9), box("a", 0.1), box("b", 0.5)]);
  const round = ["a", "b", "c"].map((id) => neighbourOf(boxes, id, 1)?.id);
  assert.deepEqual(round, ["b", "c", "a"]);
  assert.equal(neighbourOf(boxes, "a", -1)?.id, "c");
  assert.equal(neighbourOf(boxes, "whole", 1)?.id, "a");
  assert.equal(neighbourOf(boxes, "whole", -1)?.id, "c");
  assert.equal(neighbourOf(boxes.slice(0, 1), "a", 1), undefined);
  assert.equal(neighbourOf([], "a", 1), undefined);
});
