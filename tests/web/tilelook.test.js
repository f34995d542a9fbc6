// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";
import { TileLook } from "../../birder/web/tilelook.js";

/** @import {Column, Photo} from "../../birder/web/types.js" */

function storage(kept = {}) {
  const values = new Map(Object.entries(kept));
  return {
    /** @param {string} key */
    getItem: (key) => values.get(key) ?? null,
    /**
     * @param {string} key
     * @param {string} value
     */
    setItem: (key, value) => values.set(key, value),
    /** @param {string} key */
    removeItem: (key) => values.delete(key),
    values,
  };
}

/** @type {Column[]} */
const COLUMNS = [
  { name: "species", type: "text", filled: 3 },
  { name: "taken_at", type: "time", filled: 3 },
  { name: "share", type: "number", filled: 2 },
  { name: "empty", type: "text", filled: 0 },
];
/** @type {Photo} */
const PHOTO = {
  id: "1",
  name: "a.jpg",
  label: "owl",
  width: 4,
  height: 3,
  v: "",
  values: { species: "Strix aluco", taken_at: "2024-05-01T13:45:00", share: 1 / 3 },
};

test("each line shows its column or the gallery's own text, and the name for screen readers says of what it is", () => {
  const look = new TileLook(storage(), "a", () => COLUMNS);
  assert.deepEqual(look.caption(PHOTO, ["owl", "4 × 3"]), ["owl", "4 × 3"]);
  look.setLine(1, "taken_at");
  assert.deepEqual(look.caption(PHOTO, ["owl", "4 × 3"]), [
    "owl",
    "2024-05-01 13:45",
    "owl, taken_at: 2024-05-01 13:45",
  ]);
  look.setLine(0, "share");
  assert.deepEqual(look.wanted, ["share", "taken_at"]);
  assert.deepEqual(look.caption(PHOTO, ["owl", "4 × 3"]), [
    "0.333333",
    "2024-05-01 13:45",
    "share: 0.333333, taken_at: 2024-05-01 13:45",
  ]);
  const without = { ...PHOTO, values: { share: null, taken_at: null } };
  assert.equal(look.caption(without, ["owl", ""])[2], "share: no value, taken_at: no value");
});

test("what was chosen is kept for each collection, and the shape of images for all", () => {
  const kept = storage();
  const look = new TileLook(kept, "a", () => COLUMNS);
  look.setLine(0, "species");
  look.setLine(1, "species");
  look.setWhole(true);
  const again = new TileLook(kept, "a", () => COLUMNS);
  assert.deepEqual([again.lines, again.wanted, again.whole], [["species", "species"], ["species"], true]);
  assert.deepEqual(new TileLook(kept, "b", () => COLUMNS).lines, ["", ""]);
  for (const line of [0, 1]) again.setLine(line, "");
  again.setWhole(false);
  assert.equal(kept.values.size, 0);
});

test("a column that is gone or empty is not asked for, and a damaged storage is forgotten", () => {
  const kept = storage({ "birder:tiles:a": '["gone", "empty"]', "birder:tiles:b": "{" });
  const look = new TileLook(kept, "a", () => COLUMNS);
  assert.deepEqual([look.lines, look.wanted], [["gone", "empty"], []]);
  assert.deepEqual(look.caption(PHOTO, ["owl", "4 × 3"]), ["owl", "4 × 3"]);
  assert.deepEqual(new TileLook(kept, "b", () => COLUMNS).lines, ["", ""]);
  assert.equal(kept.values.has("birder:tiles:b"), false);
});
