// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";
import { rangeOf } from "../../birder/web/digits.js";
import { sqlOf } from "../../birder/web/filter.js";
import { stackAt, startsOf, TextList } from "../../birder/web/idlist.js";
import { namedBySequence } from "../../birder/web/stacks.js";
import { among, Stacks } from "../../birder/web/stacksource.js";

/** @import {Photo} from "../../birder/web/types.js" */

const SIZES = [3, 1, 60, 2];
const ALL = { ids: new TextList(Array.from({ length: 66 }, (_, index) => `id${index}`)), starts: startsOf(SIZES) };

/**
 * @param {number} index
 * @returns {Photo}
 */
const photo = (index) => ({ id: `id${index}`, name: "", label: null, width: null, height: null, v: "" });

function newStacks() {
  let askedAll = 0;
  const stacks = new Stacks(
    async () => ({
      stacks: SIZES.map((count, at) => ({
        count,
        photos: Array.from({ length: Math.min(50, count) }, (_, index) => photo(ALL.starts[at] + index)),
      })),
      total: 4,
      images: 66,
    }),
    async () => {
      askedAll++;
      return ALL;
    },
  );
  return { stacks, askedAll: () => askedAll };
}

test("a tile has its stack, and places have the ids of all images", async () => {
  const { stacks, askedAll } = newStacks();
  await stacks.open();
  assert.deepEqual([stacks.total, stacks.images], [4, 66]);
  assert.equal(stacks.at(3)?.stack?.count, 2);
  assert.deepEqual(await stacks.ids(0, 1), ["id0", "id1", "id2", "id3"]);
  assert.equal(askedAll(), 0); // they are there
  assert.deepEqual(await stacks.ids(1, 2), ALL.ids.slice(3, 64)); // more than the stack has with it
  assert.deepEqual(await stacks.ids(), ALL.ids.slice());
  assert.equal(await stacks.placeOf("id63"), 2);
  assert.equal(await stacks.placeOf("other"), -1);
  assert.deepEqual(await stacks.among(["id62", "other", "id0"]), ["id62", "id0"]);
  assert.equal(askedAll(), 1);
  stacks.patch(["id65"], { label: "owl" });
  assert.equal(stacks.at(3)?.stack?.photos[1].label, "owl");
});

test("stacks are found by the places of their images, and kept in part", () => {
  const found = Array.from({ length: 66 }, (_, index) => stackAt(ALL.starts, index));
  assert.deepEqual(
    found,
    SIZES.flatMap((size, at) => Array(size).fill(at)),
  );
  const some = among(ALL, (id) => ["id1", "id2", "id5", "id65"].includes(id));
  assert.deepEqual(some.ids.slice(), ["id1", "id2", "id5", "id65"]);
  assert.deepEqual([...some.starts], [0, 2, 3, 4]);
  assert.deepEqual([...among(ALL, () => false).starts], [0]);
});

test("images of a sequence are named as one wherever they stand", () => {
  const photos = ["fox", "owl", "fox", "cat", "fox"].map((predicted, index) => ({
    ...photo(index),
    predicted,
    predicted_score: 0.5,
    sequence: [null, "a", "b", "a", "a"][index],
  }));
  photos[3].predicted_score = 0.9;
  const named = namedBySequence(photos).map(({ id, predicted }) => [id, predicted]);
  assert.deepEqual(Object.fromEntries(named), { id0: "fox", id1: "cat", id2: "fox", id3: "cat", id4: "cat" });
});

test("counts are a range of numbers, whatever other texts are there", () => {
  const values = [
    ...[9, 10, 2].map((value) => ({ value: String(value), count: value })),
    ...["many", "007", "-1", "1.5"].map((value) => ({ value, count: 1 })),
  ];
  const { min, max, histogram } = rangeOf(values);
  assert.deepEqual([min, max, histogram?.length], [2, 10, 9]);
  assert.deepEqual(
    histogram?.map(({ count }) => count),
    [2, 0, 0, 0, 0, 0, 0, 9, 10],
  );
  const wide = rangeOf([0, 999].map((value) => ({ value: String(value), count: 1 }))).histogram ?? [];
  assert.deepEqual([wide.length <= 24, wide[0].count, wide.at(-1)?.count, wide.at(-1)?.to], [true, 1, 1, 999]);
  assert.deepEqual(rangeOf([{ value: "many", count: 1 }]), { min: null, max: null, histogram: null });
});

test("whole numbers in a column of text are compared as numbers", () => {
  /** @param {{from?: number, to?: number}} range */
  const sql = (range) => sqlOf({ column: "count", type: "number", digits: true, ...range });
  // The expression is of SQL; JavaScript reads it with these names in their places.
  /** @param {string} text @param {{from?: number, to?: number}} range */
  const holds = (text, range) => {
    const code = sql(range)
      .replaceAll(/regexp_like\(`count`, '([^']*)'\)/g, "/$1/.test(it)")
      .replaceAll("char_length(`count`)", "it.length")
      .replaceAll("`count`", "it")
      .replaceAll(/ = /g, " === ")
      .replaceAll(" AND ", " && ")
      .replaceAll(" OR ", " || ");
    return new Function("it", `return ${code}`)(text);
  };
  for (const from of [undefined, -3, 0, 1, 9, 9.5, 10, 99, 100])
    for (const to of [undefined, -1, 0, 8, 9.5, 10, 100, 1000])
      for (const number of [0, 1, 2, 8, 9, 10, 11, 99, 100, 101, 999, 1000])
        assert.equal(
          holds(String(number), { from, to }),
          (from === undefined || number >= from) && (to === undefined || number <= to),
          `${number} from ${from} to ${to}`,
        );
  for (const text of ["many", "", "007", "-1"]) assert.equal(holds(text, { from: 0 }), false);
});
