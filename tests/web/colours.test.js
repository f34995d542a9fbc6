// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";
import { categoryColour, css, parseColour, rgba, scaleColour } from "../../birder/web/colours.js";

/** @import {Colour} from "../../birder/web/types.js" */

/** @type {Colour[]} */
const PALETTE = [
  [200, 100, 0],
  [0, 50, 100],
];
const COLOURS = { palette: PALETTE, missing: parseColour("#c8c8c8") };

test("colours are read from hexadecimal", () => {
  assert.deepEqual(parseColour("#0072b2"), [0, 0x72, 0xb2]);
  assert.equal(css([1, 2, 3]), "rgb(1 2 3)");
});

test("more categories than colours take turns through shades, none of them alike", () => {
  assert.deepEqual(categoryColour(PALETTE, 1), PALETTE[1]);
  const shades = Array.from({ length: 6 }, (_, index) => categoryColour(PALETTE, index).join());
  assert.equal(new Set(shades.slice(0, 6)).size, 6);
  assert.deepEqual(categoryColour(PALETTE, 2), [124, 62, 0]); // darker
  assert.deepEqual(categoryColour(PALETTE, 4), [225, 170, 115]); // lighter
});

test("a scale goes from its first colour to its last, and no further", () => {
  assert.deepEqual(scaleColour(0), [68, 1, 84]);
  assert.deepEqual(scaleColour(1), [253, 231, 37]);
  assert.deepEqual(scaleColour(-3), scaleColour(0));
  assert.deepEqual(scaleColour(3), scaleColour(1));
  assert.deepEqual(scaleColour(0.5), [33, 144, 141]);
});

test("points without a value have the colour of missing values, fainter", () => {
  const bytes = rgba({ type: "category", categories: ["a", "b"], codes: Uint8Array.of(1, 255, 0) }, 3, COLOURS);
  assert.deepEqual([...bytes], [0, 50, 100, 230, 200, 200, 200, 110, 200, 100, 0, 230]);
});

test("numbers are coloured between the least and the most", () => {
  const bytes = rgba({ type: "number", shares: Float32Array.of(0, Number.NaN, 1), min: 5, max: 15 }, 3, COLOURS);
  assert.deepEqual([...bytes.slice(0, 3)], scaleColour(0));
  assert.deepEqual([...bytes.slice(4, 8)], [200, 200, 200, 110]);
  assert.deepEqual([...bytes.slice(8, 11)], scaleColour(1));
  const alike = rgba({ type: "number", shares: Float32Array.of(0, 0), min: 5, max: 5 }, 2, COLOURS);
  assert.deepEqual([...alike.slice(0, 3)], scaleColour(0));
});

test("without a column all points are alike", () => {
  assert.deepEqual([...rgba(null, 2, COLOURS)], [200, 100, 0, 200, 200, 100, 0, 200]);
});
