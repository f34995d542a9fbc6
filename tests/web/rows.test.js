// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";
import { rowsAt } from "../../birder/web/rows.js";

test("a list of any length shows its first row at the top and its last at the bottom", () => {
  for (const total of [1, 7, 150, 40_000, 1_000_000]) {
    const room = { total, row: 326, view: 700 };
    const { height, ...start } = rowsAt({ ...room, scrolled: 0 });
    assert.deepEqual([start.first, start.shift], [0, 0]);
    const scrolled = Math.max(0, height - room.view);
    const end = rowsAt({ ...room, scrolled });
    assert.equal(end.end, total);
    const bottom = total * room.row + end.shift; // of the last row, in the list
    assert.ok(Math.abs(bottom - height) < 1, `${total}: ${bottom} ${height}`);
    assert.ok(end.end - end.first <= 8 && height <= 12e6);
  }
});
