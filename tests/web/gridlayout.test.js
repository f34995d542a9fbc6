// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";
import { CAPTION, firstAt, GAP, layout, placeOf, stepOf, tilesAt, topToShow } from "../../birder/web/gridlayout.js";

const room = { width: 1000, view: 600, size: 180, total: 100 };

test("tiles fill the width, at least as large as asked for", () => {
  const grid = layout(room);
  assert.equal(grid.columns, 5);
  assert.equal(grid.columns * grid.tile + (grid.columns - 1) * GAP, 1000);
  assert.equal(grid.row, grid.tile + CAPTION + GAP);
  assert.equal(grid.height, 20 * grid.row);
  assert.equal(grid.ratio, 1);
});

test("a phone has two columns, however large tiles are to be", () => {
  assert.equal(layout({ ...room, width: 360, size: 360 }).columns, 2);
  assert.equal(layout({ ...room, width: 421, size: 360 }).columns, 1);
});

test("a grid higher than browsers can scroll moves faster, to its very end", () => {
  const grid = layout({ ...room, total: 10_000_000 });
  assert.ok(grid.height <= 12e6 && grid.ratio > 1);
  const top = (grid.height - grid.view) * grid.ratio; // scrolled down as far as it goes
  assert.equal(tilesAt(grid, top).end, 10_000_000);
  const last = placeOf(grid, 9_999_999).y + grid.row;
  assert.ok(Math.abs(last - (top + grid.view)) < 1);
});

test("the rows in sight and two beside them are in the document", () => {
  const grid = layout(room);
  assert.deepEqual(tilesAt(grid, 0), { first: 0, end: 5 * (Math.ceil(600 / grid.row) + 2) });
  assert.deepEqual(tilesAt(grid, 10 * grid.row).first, 40);
  assert.equal(tilesAt(grid, 18 * grid.row).end, 100);
  assert.equal(firstAt(grid, 10.5 * grid.row), 50);
  assert.deepEqual(placeOf(grid, 11), { x: grid.tile + GAP, y: 2 * grid.row });
});

test("showing a tile moves no further than it must", () => {
  const grid = layout(room);
  assert.equal(topToShow(grid, 0, 500), 0); // above
  assert.equal(topToShow(grid, 2, 0), 0); // in sight
  assert.equal(topToShow(grid, 99, 0), 20 * grid.row + GAP - 600); // below
});

test("arrows move by one tile or one row, and never out of the grid", () => {
  const grid = layout(room);
  assert.equal(stepOf(grid, 7, "ArrowLeft"), 6);
  assert.equal(stepOf(grid, 7, "ArrowDown"), 12);
  assert.equal(stepOf(grid, 3, "ArrowUp"), 3); // stays in the first row
  assert.equal(stepOf(grid, 97, "ArrowDown"), 97);
  assert.equal(stepOf(grid, 0, "ArrowLeft"), 0);
  assert.equal(stepOf(grid, 99, "ArrowRight"), 99);
  assert.equal(stepOf(grid, 50, "Home"), 0);
  assert.equal(stepOf(grid, 50, "End"), 99);
  assert.equal(stepOf(grid, 98, "PageDown"), 99);
  assert.equal(stepOf(grid, 50, "x"), undefined);
});
