// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";
import { describe, sqlOf, where } from "../../birder/web/filter.js";

test("a filter of values lists them, with none beside them", () => {
  assert.equal(sqlOf({ column: "label", values: ["owl", "o'hare"] }), "`label` IN ('owl', 'o''hare')");
  assert.equal(sqlOf({ column: "label", values: ["owl"], none: true }), "(`label` IN ('owl') OR `label` IS NULL)");
  assert.equal(sqlOf({ column: "label", none: true }), "`label` IS NULL");
  assert.equal(sqlOf({ column: "n", values: [3, -0.5] }), "`n` IN (3, -0.5)");
});

test("booleans are compared, as IN takes none", () => {
  assert.equal(sqlOf({ column: "night", values: [true, false] }), "(`night` = true OR `night` = false)");
});

test("names of columns and wildcards are quoted", () => {
  assert.equal(sqlOf({ column: "a`b", values: ["x"] }), "`a``b` IN ('x')");
  assert.equal(sqlOf({ column: "label", contains: "50%_\\'" }), "lower(`label`) LIKE '%50\\%\\_\\\\''%' ESCAPE '\\'");
});

test("a part of a uri is looked for as it is written and percent-encoded", () => {
  assert.equal(
    sqlOf({ column: "uri", contains: "A Frog" }),
    "(lower(`uri`) LIKE '%a frog%' ESCAPE '\\' OR lower(`uri`) LIKE '%a\\%20frog%' ESCAPE '\\')",
  );
  assert.equal(sqlOf({ column: "path", contains: "Öwl 5%" }), "`path` ILIKE '%Öwl 5\\%%' ESCAPE '\\'");
  assert.equal(sqlOf({ column: "uri", contains: "frog" }), "lower(`uri`) LIKE '%frog%' ESCAPE '\\'");
});

test("ranges of numbers and times have one bound or two", () => {
  assert.equal(sqlOf({ column: "t", type: "number", from: -3, to: 9.5 }), "`t` >= -3 AND `t` <= 9.5");
  assert.equal(
    sqlOf({ column: "taken_at", type: "time", from: "2026-01-05T00:00:00" }),
    "`taken_at` >= timestamp '2026-01-05 00:00:00'",
  );
  assert.equal(sqlOf({ column: "t", type: "number", to: 0 }), "`t` <= 0");
});

test("up to a time takes in all of the minute or second that it names", () => {
  const minute = { column: "t", from: "2026-01-05T06:59", to: "2026-01-05T06:59" };
  assert.equal(
    sqlOf({ ...minute, type: "time" }),
    "`t` >= timestamp '2026-01-05 06:59:00' AND `t` < timestamp '2026-01-05 07:00:00'",
  );
  assert.equal(
    sqlOf({ column: "t", type: "time", to: "2026-12-31T23:59:59" }),
    "`t` < timestamp '2027-01-01 00:00:00'",
  );
  assert.equal(sqlOf({ column: "t", type: "time", to: "2026-12-31" }), "`t` <= timestamp '2026-12-31'");
  assert.equal(describe({ ...minute, type: "time" }), "2026-01-05 06:59");
  assert.equal(describe({ column: "t", type: "time", to: "2026-01-05T06:59:42" }), "up to 2026-01-05 06:59:42");
});

test("a number's bound never becomes SQL of its own", () => {
  assert.equal(sqlOf({ column: "t", type: "number", from: "0 OR 1=1" }), "`t` >= NaN");
  assert.equal(sqlOf({ column: "t", type: "time", from: "x' OR 1=1 --" }), "`t` >= timestamp 'x'' OR 1=1 --'");
});

test("filters together are joined, but for the column whose values are counted", () => {
  const filters = [{ column: "label", values: ["owl"] }, { column: "night", values: [true] }, { column: "empty" }];
  assert.equal(where(filters), "(`label` IN ('owl')) AND (`night` = true)");
  assert.equal(where(filters, "label"), "`night` = true");
  assert.equal(where([]), undefined);
  assert.equal(where([{ column: "empty", values: [] }]), undefined);
});

test("chips describe filters in words", () => {
  assert.equal(describe({ column: "l", values: ["a", "b", "c"] }), "a, b, c");
  assert.equal(describe({ column: "l", values: ["a", "b", "c", "d"] }), "a, b and 2 more");
  assert.equal(describe({ column: "n", values: [true, false], none: true }), "yes, no, no value");
  assert.equal(describe({ column: "l", contains: "ow" }), "contains “ow”");
  assert.equal(describe({ column: "t", type: "number", from: 1, to: 2 }), "1 to 2");
  assert.equal(describe({ column: "t", type: "time", from: "2026-01-05T00:00:00" }), "from 2026-01-05");
  assert.equal(describe({ column: "t", type: "time", to: "2026-01-05T13:30:00" }), "up to 2026-01-05 13:30");
});

test("hours and months are filters of their own, beside one of the times themselves", () => {
  /** @type {import("../../birder/web/types.js").Filter[]} */
  const filters = [
    { column: "taken at", type: "time", part: "hour", values: [23, 0] },
    { column: "taken at", type: "time", from: "2024-05-01T00:00:00" },
    { column: "taken at", type: "time", part: "month", values: [5] },
  ];
  assert.equal(sqlOf(filters[0]), "date_part('hour', `taken at`) IN (23, 0)");
  assert.equal(
    where(filters, "taken at by hour"),
    "(`taken at` >= timestamp '2024-05-01 00:00:00') AND (date_part('month', `taken at`) IN (5))",
  );
  assert.deepEqual(filters.map(describe), ["23 h, 00 h", "from 2024-05-01", "May"]);
});
